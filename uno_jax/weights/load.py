"""Converted weights on disk -> a Model on this process's devices, with a LoRA merged into it if given."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from uno_jax.families.lora import merge
from uno_jax.families.model import Model
from uno_jax.families.registry import family_of
from uno_jax.networks.registry import NETWORKS, arrange
from uno_jax.sharding.rules import tree_shardings
from uno_jax.support.errors import CheckpointError
from uno_jax.support.trees import Params, TreePath
from uno_jax.weights.arrays import Convert, stored_arrays
from uno_jax.weights.base import Base, check_base
from uno_jax.weights.checkpoint import read_model, restore_network
from uno_jax.weights.lora_files import load_lora
from uno_jax.weights.names import find_lora, find_model
from uno_jax.weights.sample_mesh import SampleMesh, local_mesh


class Lora(NamedTuple):
    """A LoRA that fits a model, and the position convention it was trained with."""

    config: Any
    unope: Any
    params: Params


def default_dtype() -> str:
    """bfloat16 on accelerators, float32 on the CPU, where bfloat16 is not faster."""
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def load_model(
    path: str | Path,
    lora: str | Path | Lora | None = "auto",
    dtype: str | None = None,
    base: Base = "",
    mesh: Mesh | None = None,
) -> Model:
    """The model in a directory of converted networks, or the shipped one ("small"), read directly to the
    devices; several devices each hold a share of heads and MLPs.

    `lora` is a native LoRA directory, a .safetensors file, a LoRA from `read_fitting_lora`, "auto" for the
    lora/ in the model's directory if it has one, or None; it is merged in float32. Weights are kept, and
    computed with, in `dtype` (see `default_dtype`); with a `base` the kernels of the large networks' blocks
    are kept in 8 bits (`networks.quantize`), each of them converted as soon as it is read. `mesh` is that of
    the drawing; by default all devices of this process, as `sample_mesh.default_mix` divides them.

    Raises FileNotFoundError, CheckpointError for a directory that is not a model and for a LoRA of another
    model (checked before the model's weights are read), or ValueError for a base that this device cannot use.
    """
    check_base(base, jax.local_devices()[0])
    config, directory = read_model_config(path), find_model(path)
    if isinstance(lora, str | Path):
        lora = read_named_lora(lora, directory, config)
    family, kept = family_of(config), jnp.dtype(dtype or default_dtype())
    mesh = local_mesh(SampleMesh(), config, kept.name) if mesh is None else mesh
    tokenizer, params = family.read_tokenizer(directory, config), {}
    for kind in family.networks:
        own = lora if kind == family.core else None
        convert = _in_8_bits(kind, base, own, config, mesh) if base else None
        params[kind] = restore_network(directory / kind, kind, mesh, kept, convert)[1]
        if own is not None and not base:
            params[kind] = _merged(params.pop(kind), own.params, _lora_shardings(own, config, mesh))
    platform = mesh.devices.flat[0].platform
    params = {kind: arrange(kind, tree, platform) for kind, tree in params.items()}
    return Model(config, params, lora and lora.unope, kept, tokenizer)


def _merged(base: Params, lora: Params, shardings: Params) -> Params:
    """Donates `base`, since a second copy of the weights would not fit in memory."""
    places = jax.tree.map(lambda leaf: leaf.sharding, base)
    placed = jax.device_put(lora, shardings)
    merged: Params = jax.jit(merge, donate_argnums=0, out_shardings=places)(base, placed)
    return merged


def _lora_shardings(lora: Lora, config: Any, mesh: Mesh) -> Params:
    shapes, axes = abstract_lora_of(config, lora.config)
    return cast(Params, tree_shardings(mesh, axes, shapes))


def _in_8_bits(kind: str, base: str, lora: Lora | None, config: Any, mesh: Mesh) -> Convert:
    """A function from a network's arrays to what stands for them: the LoRA's update is added to a kernel
    before it is quantised.
    """
    from uno_jax.networks.quantize import quantized  # needs qwix, an extra

    updates = flatten_dict(lora.params) if lora else {}
    shardings = flatten_dict(_lora_shardings(lora, config, mesh)) if lora else {}

    def convert(path: TreePath, array: Any) -> Any:
        sites = {name: (*path[:-1], name) for name in ("down", "up")}
        if path[-1] == "kernel" and sites["down"] in updates:
            update, places = (
                {name: tree[site] for name, site in sites.items()} for tree in (updates, shardings)
            )
            array = _merged({"kernel": array}, update, places)["kernel"]
        return quantized(kind, path, array, base)

    return convert


def abstract_lora_of(config: Any, lora: Any) -> tuple[Params, Params]:
    """Shapes and logical axes of a LoRA for a model."""
    family = family_of(config)
    return family.need_lora().abstract(getattr(config, family.core), lora)


def held_bytes(directory: Path, kinds: Iterable[str], dtype: str, base: Base = "") -> int:
    """Bytes of a model's networks once they are loaded, at the least, by the sizes of the stored arrays.

    Raises CheckpointError for a damaged file.
    """
    total = 0
    for kind in kinds:
        size = 1 if base and NETWORKS[kind].large else jnp.dtype(dtype).itemsize
        total += size * sum(array.size for array in stored_arrays(directory / kind).values())
    return total


def read_model_config(path: str | Path) -> Any:
    """The config of a model directory or of the shipped model.

    Raises FileNotFoundError or CheckpointError saying what to do.
    """
    return read_model(find_model(path))


def read_tokenizer(path: str | Path, config: Any) -> Any:
    """The tokenizer beside a model's weights; None for a family whose tokenizers are part of this program.

    Raises CheckpointError.
    """
    return family_of(config).read_tokenizer(find_model(path), config)


def read_named_lora(name: str | Path, model: Path, config: Any) -> Lora | None:
    """The LoRA that `names.find_lora` finds by that name.

    Raises as `read_fitting_lora`.
    """
    place = find_lora(name, model)
    return None if place is None else read_fitting_lora(place, config)


def read_fitting_lora(path: str | Path, config: Any) -> Lora:
    """The LoRA at `path`.

    Raises FileNotFoundError, or CheckpointError unless it fits the model.
    """
    family = family_of(config)
    family.need_lora()
    lora = Lora(*load_lora(Path(path), getattr(config, family.core)))
    expected, _ = abstract_lora_of(config, lora.config)
    found, wanted = _shapes(lora.params), _shapes(expected)
    if found != wanted:
        name = next(name for name in sorted(found | wanted) if found.get(name) != wanted.get(name))
        raise CheckpointError(
            f"{path} is a LoRA for another model: its {name} is {found.get(name, 'absent')}, "
            f"this model needs {wanted.get(name, 'none')}"
        )
    return lora


def _shapes(tree: Params) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in flatten_dict(tree, sep=".").items()}
