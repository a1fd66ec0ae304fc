"""Dense layers that are several in one matrix, cut into these for tensor parallelism and for GPUs.

q, k and v come out of one product, shift, scale and gate of a modulation too, and a single block's attention
and MLP go into one. On disk it is one matrix. Where its columns are sharded over chips, q, k and v lie across
other chips than their heads, and every block moves them. Cut, the kernel is (in, parts, out), or a tuple of
row blocks, and each chip has its share of every part.

On GPUs a single block's kernels are cut where a chip holds them whole, too: attention reads v as an array of
its own, which is a copy where q and k came out of the same product, and of two products into one sum the
second adds the first by itself if their kernels are arrays. Such a kernel is a tuple of column or row blocks.
`networks.layers.Dense` takes all of these.
"""

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from uno_jax.sharding.rules import FREE, shares, spread
from uno_jax.support.trees import Params


class Fused(NamedTuple):
    """Names of a network's layers that are cut: `columns` into parts as wide as the layer's input, `rows`
    into as many rows as the layer's output is wide, and the rest.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


class Cutter(NamedTuple):
    """Cuts one array: the last axis into a number of parts, or rows into the first so many and the rest."""

    columns: Callable[[Any, int], Any]
    rows: Callable[[Any, int], Any]


def cut_layers(params: Params, fused: Fused) -> Params:
    """A network's arrays, or their shapes, with those layers cut whose parts are sharded over chips. Arrays
    that this replaces are deleted one by one, so that only one of them exists twice.
    """
    return _walk(params, fused, Cutter(_placed_columns, _placed_rows))


def cut_traced(params: Params, fused: Fused) -> Params:
    """The same within a program, for weights that it trains: these stay as they are on disk, and are moved
    once a step.
    """
    return _walk(params, fused, Cutter(_traced_columns, _traced_rows))


def cut_for_gpu(params: Params, layers: dict[str, Fused]) -> Params:
    """A network's arrays, or their shapes, with those layers of the named blocks cut that no chip shares:
    `columns` before the last part, `rows` after as many rows as the output is wide. Deletes as `cut_layers`.
    """
    cutter = Cutter(_last_columns, _whole_rows)
    return params | {name: _walk(params[name], fused, cutter) for name, fused in layers.items()}


def columns(array: Float[Array, "... width"], parts: int) -> Float[Array, "... parts share"]:
    """The last axis in equal parts: by slices, which move less between chips than a reshaped array."""
    return jnp.stack(jnp.split(array, parts, axis=-1), axis=-2)


def column_blocks(array: Any, like: tuple[Array, ...]) -> tuple[Array, ...]:
    """The last axis in blocks as wide as those of `like`, be the array cut into them or not."""
    if isinstance(array, tuple):
        return array
    ends = list(accumulate(block.shape[-1] for block in like))
    return tuple(jnp.split(array, ends[:-1], axis=-1))


def parts_of(y: tuple[Array, ...], parts: int, share: int) -> list[Array]:
    """The parts, `share` channels wide, of what a layer gives in blocks of columns, however it is cut."""
    if y[0].shape[-1] == share:
        return list(jnp.unstack(y[0], axis=-2))
    return [part for block in y for part in jnp.split(block, block.shape[-1] // share, axis=-1)]


def _walk(tree: Params, fused: Fused, cutter: Cutter) -> Params:
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            layer = name in fused.columns + fused.rows and _kernels(value)
            cut = _cut_columns if name in fused.columns else _cut_rows
            found[name] = cut(value, *layer, cutter) if layer else _walk(value, fused, cutter)
        else:
            found[name] = value
    return found


def _kernels(layer: Params) -> tuple[Any, Any] | None:
    """The kernel twice, or a LoRA's two factors; None for a layer without, or with a quantised one."""
    for names in (("kernel", "kernel"), ("down", "up")):
        first, last = (layer.get(name) for name in names)
        if all(isinstance(each, jax.Array | jax.ShapeDtypeStruct) for each in (first, last)):
            return first, last
    return None


def _cut_columns(layer: Params, first: Any, last: Any, cutter: Cutter) -> Params:
    parts = last.shape[-1] // first.shape[-2]
    return {name: leaf if name == "down" else cutter.columns(leaf, parts) for name, leaf in layer.items()}


def _cut_rows(layer: Params, first: Any, last: Any, cutter: Cutter) -> Params:
    width = last.shape[-1]
    return {
        name: cutter.rows(leaf, width) if name in ("kernel", "down") else leaf for name, leaf in layer.items()
    }


def _split_rows(array: Array, first: int) -> tuple[Array, Array]:
    return array[..., :first, :], array[..., first:, :]


def _placed_columns(leaf: Any, parts: int) -> Any:
    *spec, last = _spec(leaf)
    if not _fits(leaf, last, leaf.shape[-1] // parts):
        return leaf
    place = NamedSharding(leaf.sharding.mesh, PartitionSpec(*spec, None, last))
    return _replaced(leaf, lambda array: columns(array, parts), place)


def _placed_rows(leaf: Any, first: int) -> Any:
    across = _spec(leaf)[-2]
    if not _fits(leaf, across, first, leaf.shape[-2] - first):
        return leaf
    return _replaced(leaf, lambda array: _split_rows(array, first), leaf.sharding)


def _last_columns(leaf: Any, parts: int) -> Any:
    first = leaf.shape[-1] // parts * (parts - 1)
    if _chips(leaf, _spec(leaf)[-1]) > 1:
        return leaf
    return _replaced(leaf, lambda array: (array[..., :first], array[..., first:]), leaf.sharding)


def _whole_rows(leaf: Any, first: int) -> Any:
    if _chips(leaf, _spec(leaf)[-2]) > 1:
        return leaf
    return _replaced(leaf, lambda array: _split_rows(array, first), leaf.sharding)


def _spec(leaf: Any) -> list[Any]:
    spec = leaf.sharding.spec
    return [*spec, *[None] * (leaf.ndim - len(spec))]


def _fits(leaf: Any, across: Any, *sizes: int) -> bool:
    """Whether an axis is sharded, and its parts of these sizes can be."""
    chips = _chips(leaf, across)
    return chips > 1 and all(size and size % chips == 0 for size in sizes)


def _chips(leaf: Any, across: Any) -> int:
    """Number of chips over which an axis is sharded."""
    axes = across if isinstance(across, tuple) else (across,) if across else ()
    return math.prod(leaf.sharding.mesh.shape[axis] for axis in axes)


def _replaced(leaf: Any, cut: Callable[[Array], Any], place: NamedSharding) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.tree.map(lambda shape: shape.update(sharding=place), jax.eval_shape(cut, leaf))
    parts = jax.jit(cut, out_shardings=place)(leaf)
    leaf.delete()
    return parts


def _traced_columns(array: Array, parts: int) -> Array:
    if not _divides(array.shape[-1] // parts):
        return array
    return spread(columns(array, parts), *[FREE] * (array.ndim - 1), None, "heads")


def _traced_rows(array: Array, first: int) -> Any:
    if not _divides(first, array.shape[-2] - first):
        return array
    axes = *[FREE] * (array.ndim - 2), "mlp", FREE
    return tuple(spread(part, *axes) for part in _split_rows(array, first))


def _divides(*sizes: int) -> bool:
    chips = shares("heads")
    return chips > 1 and all(size and size % chips == 0 for size in sizes)
