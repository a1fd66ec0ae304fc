"""A model, with its LoRA if given, in the compact form of the native format: one file per network.

It is meant to be shipped and copied. Every command reads both forms; DST/lora is the model's own LoRA.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from uno_jax.families.lora import merge
from uno_jax.families.registry import family_of
from uno_jax.support.atomic import refuse_existing
from uno_jax.support.digests import file_hash
from uno_jax.support.folder_lock import locked
from uno_jax.support.trees import Params, TreePath
from uno_jax.weights import arrays as params
from uno_jax.weights.checkpoint import atomic_directory, read_lora, read_model, read_record, write_config
from uno_jax.weights.int8 import int8_kernels, scale_path
from uno_jax.weights.loras import Added, Names, find_loras, read_loras
from uno_jax.weights.safetensors_file import write_safetensors

from . import stream
from .convert import DTYPES, require_space
from .eight_bits import INT8, check_qwix, chosen_kernels, stored_shapes, to_int8
from .mapping import ConversionError
from .scone import copy_files


def pack(model: Path, lora: Path | None, dst: Path, dtype: str = "keep", overwrite: bool = False) -> int:
    """Writes the networks of a model, its other folders and, where a LoRA is given, lora; returns the size of
    the weights in bytes.

    Raises FileExistsError, or CheckpointError for anything but a model and a LoRA, or when the disk is too
    small.
    """
    family = family_of(config := read_model(model))
    family.read_tokenizer(Path(model), config)
    sources = {kind: Path(model) / kind for kind in family.networks}
    if lora is not None:
        read_lora(lora)
        sources["lora"] = Path(lora)
    with locked(dst):
        for kind in (*sources, *family.beside):
            refuse_existing(dst / kind, overwrite, folder=True)
        for name in family.beside:
            copy_files(sorted((Path(model) / name).iterdir()), dst / name, overwrite)
        return sum(pack_network(source, dst / kind, dtype, overwrite) for kind, source in sources.items())


def merge_loras(model: Path, loras: Names, dst: Path, dtype: str = "keep", overwrite: bool = False) -> Added:
    """Writes a model with LoRAs added to its kernels in the compact form; returns what was added.

    Raises as `pack`, CheckpointError and ValueError as `loras.read_loras` and `find_loras`.
    """
    family = family_of(config := read_model(model))
    added = read_loras(find_loras(loras, model), config)
    if added is None:
        raise ConversionError("there is no LoRA to merge: name one as --src")
    with locked(dst):
        for kind in family.networks:
            refuse_existing(dst / kind, overwrite, folder=True)
        for kind in family.networks:
            pack_network(model / kind, dst / kind, dtype, overwrite, added.params.get(kind))
    return added


def pack_network(
    source: Path,
    directory: Path,
    dtype: str,
    overwrite: bool,
    update: Params | None = None,
) -> int:
    """Writes the directory of a network or a LoRA in the compact form, with a LoRA's `update` added to the
    kernels that it has; returns its size in bytes.
    """
    record = read_record(source)
    arrays = params.stored_arrays(source)
    stored, written = int8_kernels(arrays), packed_arrays(record["kind"], arrays, dtype)
    if update and stored and dtype == "keep":
        check_qwix()  # what is merged is quantised again
    require_space(directory, sum(leaf.size * leaf.dtype.itemsize for leaf in written.values()))
    stores, updates = stream.open_params(source, arrays), flatten_dict(update or {})
    scales: dict[TreePath, np.ndarray] = {}  # of the kernel that was written last

    def read_tensor(name: str) -> np.ndarray:
        path = tuple(name.split("/"))
        if path in scales:
            return scales.pop(path)
        array: np.ndarray = stores[path].read().result()
        own = {part: updates[site] for part, site in lora_sites(path) if site in updates}
        in_8_bits = written[path].dtype == np.int8
        if not own and in_8_bits == (path in stored):
            return array
        scale = stores[scale_path(path)].read().result() if path in stored else None
        array, new_scale = remade_kernel(array, scale, own, written[path].dtype)
        if new_scale is not None:
            scales[scale_path(path)] = new_scale
        return array

    with atomic_directory(directory, overwrite) as partial:
        file = partial / params.FILE
        header = {"/".join(path): (np.dtype(leaf.dtype), leaf.shape) for path, leaf in written.items()}
        write_safetensors(file, header, read_tensor, {})
        # It identifies the weights by config.json alone.
        about = {name: value for name, value in record.items() if name not in ("format", "params_bytes")}
        about["params_sha256"] = file_hash(file)
        write_config(partial, about, {file: about["params_sha256"]})
        return file.stat().st_size


def lora_sites(path: TreePath) -> list[tuple[str, TreePath]]:
    """The names of a LoRA's matrices for the array at a path, and their paths; empty but for kernels."""
    return [(part, (*path[:-1], part)) for part in ("down", "up") if path[-1] == "kernel"]


def packed_arrays(kind: str, arrays: stream.Shapes, dtype: str) -> stream.Shapes:
    """Shape and dtype of what is written of the arrays stored for a `kind`, scales next to their kernels."""
    stored = int8_kernels(arrays)
    scales = set(map(scale_path, stored))
    own = {path: leaf for path, leaf in arrays.items() if path not in scales}
    in_8_bits = stored if dtype == "keep" else chosen_kernels(kind, own) if dtype == INT8 else set()
    written: stream.Shapes = {}
    for path, leaf in sorted(own.items()):
        if path in in_8_bits:
            written |= stored_shapes(path, leaf)
        else:
            written[path] = leaf if dtype in ("keep", INT8) else leaf.update(dtype=DTYPES[dtype])
    return written


def remade_kernel(
    kernel: np.ndarray, scale: np.ndarray | None, update: Params, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray | None]:
    """A kernel, or the one that 8 bits and their `scale` stand for, with a LoRA's `update` if there is one,
    in `dtype`; and, if that is int8, its scales.

    Layer by layer, since in float32 all of them may not fit in memory.
    """
    layers, *sides = kernel.shape if kernel.ndim == 3 else (1, *kernel.shape)
    made = np.empty((layers, *sides), dtype)
    scales = np.empty((layers, 1, sides[-1]), np.float32) if dtype == np.int8 else None
    own = {name: np.reshape(leaf, (layers, *leaf.shape[-2:])) for name, leaf in update.items()}
    for layer, rows in enumerate(kernel.reshape(made.shape)):
        if scale is not None:
            rows = rows.astype(np.float32) * scale[layer]
        if own:
            part = {name: jnp.asarray(leaf[layer]) for name, leaf in own.items()}
            rows = np.asarray(merge({"kernel": jnp.asarray(rows)}, part)["kernel"])
        if scales is None:
            made[layer] = rows
        else:
            made[layer], scales[layer] = to_int8(rows)
    return made.reshape(kernel.shape), scales
