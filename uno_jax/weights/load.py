"""Converted weights on disk -> a Model on this process's devices, with a LoRA merged into it if given."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from uno_jax.families.lora import logical_axes, merge
from uno_jax.families.model import Model
from uno_jax.families.registry import family_of
from uno_jax.networks.registry import NETWORKS, abstract_params, arrange
from uno_jax.sharding.rules import tree_shardings
from uno_jax.support.trees import Params, TreePath
from uno_jax.weights.arrays import Convert, stored_arrays
from uno_jax.weights.base import Base, check_base
from uno_jax.weights.checkpoint import read_model, restore_network
from uno_jax.weights.int8 import StoredKernel, widen
from uno_jax.weights.loras import Added, Names, find_loras, read_loras
from uno_jax.weights.names import find_model
from uno_jax.weights.sample_mesh import SampleMesh, local_mesh


def default_dtype() -> str:
    """bfloat16 on accelerators, float32 on the CPU, where bfloat16 is not faster."""
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def load_model(
    path: str | Path,
    lora: Names | Added | None = "auto",
    dtype: str | None = None,
    base: Base = "",
    mesh: Mesh | None = None,
    offload: bool = False,
) -> Model:
    """The model in a directory of converted networks, or the shipped one ("small"), read directly to the
    devices; several devices each hold a share of heads and MLPs.

    `lora` is a native LoRA directory, a .safetensors file, "auto" for the lora/ in the model's directory if
    it has one, "small-cached" (`names`), or a list of these; each may end in a strength, as
    "style.safetensors:0.8". It may also be what `loras.read_loras` gives, or None. All are merged in float32,
    and a warning names layers that the model does not have. Weights are kept, and computed with, in `dtype`
    (see `default_dtype`); with a `base` the kernels of the large networks' blocks are kept in 8 bits
    (`networks.quantize`), each of them converted as soon as it is read. `mesh` is that of the drawing; by
    default all devices of this process, as `sample_mesh.default_mix` divides them. With `offload` the weights
    are kept in the host's memory, and a stage of a drawing brings those that it needs to the devices.

    Raises FileNotFoundError, CheckpointError for a directory that is not a model and for a LoRA of another
    model (checked before the model's weights are read), or ValueError for a base that this device cannot
    use, for a strength out of bounds, and for a family whose models cannot be offloaded.
    """
    check_base(base, jax.local_devices()[0])
    config, directory = read_model_config(path), find_model(path)
    if not isinstance(lora, Added | None):
        lora = read_loras(find_loras(lora, directory), config)
        for note in lora.notes if lora else ():
            warnings.warn(note.removeprefix("note: "), stacklevel=2)
    family, kept = family_of(config), jnp.dtype(dtype or default_dtype())
    mesh = local_mesh(SampleMesh(), config, kept.name) if mesh is None else mesh
    if offload:
        family.need_stages()
    tokenizer, params, homes = family.read_tokenizer(directory, config), {}, {}
    for kind in family.networks:
        own = lora.params.get(kind) if lora else None
        convert = _in_8_bits(kind, base, own, config, mesh) if base else None
        params[kind] = restore_network(directory / kind, kind, mesh, kept, convert)[1]
        if own is not None and not base:
            params[kind] = _merged(params.pop(kind), own, _shardings(kind, own, config, mesh))
        params[kind] = arrange(kind, params.pop(kind), mesh.devices.flat[0].platform)
        if offload:
            homes[kind] = jax.tree.map(lambda leaf: leaf.sharding, params[kind])
            params[kind] = jax.device_get(params.pop(kind))
    return Model(config, params, lora and lora.unope, kept, tokenizer, homes or None)


def _merged(base: Params, lora: Params, shardings: Params) -> Params:
    """Donates `base`, since a second copy of the weights would not fit in memory."""
    places = jax.tree.map(lambda leaf: leaf.sharding, base)
    placed = jax.device_put(lora, shardings)
    merged: Params = jax.jit(merge, donate_argnums=0, out_shardings=places)(base, placed)
    return merged


def _shardings(kind: str, update: Params, config: Any, mesh: Mesh) -> Params:
    _, axes = abstract_params(getattr(config, kind))
    return cast(Params, tree_shardings(mesh, logical_axes(update, axes), update))


def _in_8_bits(kind: str, base: str, update: Params | None, config: Any, mesh: Mesh) -> Convert:
    """A function from a network's arrays to what stands for them: a LoRA's update is added to a kernel before
    it is quantised.
    """
    from uno_jax.networks.quantize import FORMATS, Kernel, quantized  # needs qwix, an extra

    updates = flatten_dict(update) if update else {}
    shardings = flatten_dict(_shardings(kind, update, config, mesh)) if update else {}

    def convert(path: TreePath, array: Any) -> Any:
        sites = {name: (*path[:-1], name) for name in ("down", "up")}
        updated = path[-1] == "kernel" and sites["down"] in updates
        if isinstance(array, StoredKernel):
            if base == "int8" and not updated:
                return Kernel(**array._asdict(), qtype=FORMATS[base])
            array = widen(array, jnp.float32)
        if updated:
            own, places = (
                {name: tree[site] for name, site in sites.items()} for tree in (updates, shardings)
            )
            array = _merged({"kernel": array}, own, places)["kernel"]
        return quantized(kind, path, array, base)

    return convert


def held_bytes(
    directory: Path, kinds: Iterable[str], dtype: str, base: Base = "", offload: bool = False
) -> int:
    """Bytes of a model's networks on the devices, at the least, by the sizes of the stored arrays; of an
    offloaded model those of the largest network, but on a CPU, whose memory is the host's, of all.

    Raises CheckpointError for a damaged file.
    """

    apart = offload and jax.default_backend() != "cpu"
    sizes = []
    for kind in kinds:
        size = 1 if base and NETWORKS[kind].large else jnp.dtype(dtype).itemsize
        sizes.append(size * sum(array.size for array in stored_arrays(directory / kind).values()))
    return max(sizes) if apart else sum(sizes)


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
