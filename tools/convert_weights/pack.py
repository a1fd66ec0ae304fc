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
from uno_jax.support.trees import Params
from uno_jax.weights import arrays as params
from uno_jax.weights.checkpoint import atomic_directory, read_lora, read_model, read_record, write_config
from uno_jax.weights.loras import Added, Names, find_loras, read_loras
from uno_jax.weights.safetensors_file import write_safetensors

from . import stream
from .convert import DTYPES, require_space
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


def merged_kernel(kernel: np.ndarray, update: Params) -> np.ndarray:
    """A kernel with its update, layer by layer, since in float32 all of them may not fit in memory."""
    layers = kernel.shape[0] if kernel.ndim == 3 else 1
    merged = np.empty((layers, *kernel.shape[-2:]), kernel.dtype)
    own = {name: np.reshape(leaf, (layers, *leaf.shape[-2:])) for name, leaf in update.items()}
    for layer, rows in enumerate(kernel.reshape(merged.shape)):
        part = {name: jnp.asarray(leaf[layer]) for name, leaf in own.items()}
        merged[layer] = merge({"kernel": jnp.asarray(rows)}, part)["kernel"]
    return merged.reshape(kernel.shape)


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
    header = {
        "/".join(path): (np.dtype(leaf.dtype) if dtype == "keep" else DTYPES[dtype], leaf.shape)
        for path, leaf in sorted(arrays.items())
    }
    require_space(
        directory, sum(leaf.size * header["/".join(path)][0].itemsize for path, leaf in arrays.items())
    )
    stores = stream.open_params(source, arrays)

    updates = flatten_dict(update or {})

    def read_tensor(name: str) -> np.ndarray:
        path = tuple(name.split("/"))
        array: np.ndarray = stores[path].read().result()
        if path[-1] != "kernel" or (*path[:-1], "down") not in updates:
            return array
        return merged_kernel(array, {part: updates[*path[:-1], part] for part in ("down", "up")})

    with atomic_directory(directory, overwrite) as partial:
        file = partial / params.FILE
        write_safetensors(file, header, read_tensor, {})
        # It identifies the weights by config.json alone.
        about = {name: value for name, value in record.items() if name not in ("format", "params_bytes")}
        about["params_sha256"] = file_hash(file)
        write_config(partial, about)
        return file.stat().st_size
