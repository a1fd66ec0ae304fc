"""Low-rank updates for any family: a tree with `down` and `up` at the path of each adapted layer."""

from collections.abc import Sequence
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import PartitionSpec

from uno_jax.support.trees import Params, subtree


def merge(params: Params, lora: Params, scale: float = 1.0) -> Params:
    """The base with kernel + scale * down @ up at every site, added in float32 and returned in the kernel's
    dtype.

    Used for sampling and export only; training keeps the side path (see `networks.layers.Dense`).
    """

    def walk(base: Params, part: Params) -> Params:
        if "down" in part:
            update = jnp.einsum(
                "...ir,...ro->...io", part["down"].astype(jnp.float32), part["up"].astype(jnp.float32)
            )
            kernel = base["kernel"]
            return base | {"kernel": (kernel.astype(jnp.float32) + scale * update).astype(kernel.dtype)}
        return base | {key: walk(base[key], part[key]) for key in part}

    return walk(params, lora)


def joined(updates: Sequence[tuple[Params, float]]) -> Params:
    """One update that equals the sum of all, each times its strength: their pairs side by side along the
    rank, so that a kernel is rounded once, whatever their number.
    """
    if len(updates) == 1 and updates[0][1] == 1:
        return updates[0][0]
    columns: dict[tuple[str, ...], list[np.ndarray]] = {}
    for tree, strength in updates:
        for path, leaf in flatten_dict(tree).items():
            scale = strength if path[-1] == "up" else 1
            columns.setdefault(path, []).append(np.asarray(leaf, np.float32) * np.float32(scale))
    along = {"down": -1, "up": -2}
    return cast(
        Params,
        unflatten_dict({path: np.concatenate(each, along[path[-1]]) for path, each in columns.items()}),
    )


def logical_axes(update: Params, axes: Any) -> Params:
    """The logical axes of an update, from those of the network that it is for."""

    def of_leaf(path: tuple[str, ...]) -> PartitionSpec:
        *layers, in_axis, out_axis = subtree(axes, path[:-1])["kernel"]
        return PartitionSpec(*layers, *((in_axis, "rank") if path[-1] == "down" else ("rank", out_axis)))

    return cast(Params, unflatten_dict({path: of_leaf(path) for path in flatten_dict(update)}))
