"""A model, with its LoRA if given, in the compact form of the native format: one file per network.

It is meant to be shipped and copied. Every command reads both forms; DST/lora is the model's own LoRA.
"""

from pathlib import Path

import numpy as np

from uno_jax.families.registry import family_of
from uno_jax.support.atomic import refuse_existing
from uno_jax.support.digests import file_hash
from uno_jax.support.folder_lock import locked
from uno_jax.weights import arrays as params
from uno_jax.weights.checkpoint import atomic_directory, read_lora, read_model, read_record, write_config
from uno_jax.weights.safetensors_file import write_safetensors

from . import stream
from .convert import DTYPES, require_space
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


def pack_network(source: Path, directory: Path, dtype: str, overwrite: bool) -> int:
    """Writes the directory of a network or a LoRA in the compact form; returns its size in bytes."""
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

    def read_tensor(name: str) -> np.ndarray:
        return stores[tuple(name.split("/"))].read().result()

    with atomic_directory(directory, overwrite) as partial:
        file = partial / params.FILE
        write_safetensors(file, header, read_tensor, {})
        # It identifies the weights by config.json alone.
        about = {name: value for name, value in record.items() if name not in ("format", "params_bytes")}
        about["params_sha256"] = file_hash(file)
        write_config(partial, about)
        return file.stat().st_size
