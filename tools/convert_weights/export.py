"""One network of a model directory to a single safetensors file in the original naming, tensor by tensor."""

import json
import math
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict
from tqdm import tqdm

from uno_jax.networks.registry import abstract_params
from uno_jax.support.atomic import refuse_existing
from uno_jax.support.folder_lock import locked_path
from uno_jax.support.prefetch import prefetch
from uno_jax.weights.checkpoint import read_config, read_record
from uno_jax.weights.safetensors_file import write_safetensors

from . import mapping, stream
from .convert import CONFIG_METADATA, DTYPES, require_space
from .mapping import Entry, Model


def export(
    model: Model,
    directory: Path,
    file: Path,
    dtype: str = "keep",
    overwrite: bool = False,
) -> Path:
    """Writes a network, from its own or its model's directory, to `file` in the original naming.

    Raises CheckpointError for another network, FileExistsError, ConversionError when the disk is too small.
    """
    directory, file = Path(directory), Path(file)
    directory = directory / model.kind if (directory / model.kind).is_dir() else directory
    config = read_config(directory, model.kind)
    params = flatten_dict(abstract_params(config)[0])
    stores = stream.open_params(directory, params)
    entries: dict[str, list[Entry]] = {}
    for entry in mapping.expand(model, config, model.namings[0]):
        entries.setdefault(model.written_prefix + entry.source, []).append(entry)
    header = {}
    for key, parts in entries.items():
        (shape,) = mapping.source_shapes(parts, params).values()
        stored = stores[parts[0].target].dtype.numpy_dtype
        header[key] = (stored if dtype == "keep" else DTYPES[dtype], shape)
    require_space(file, sum(math.prod(shape) * kind.itemsize for kind, shape in header.values()))
    metadata = {"format": "pt", CONFIG_METADATA: json.dumps(read_record(directory)["config"])}
    with locked_path(file):
        refuse_existing(file, overwrite)
        made = prefetch(lambda key: _read_tensor(entries[key], stores, *header[key]), header, stream.WORKERS)
        tensors = iter(tqdm(made, total=len(header), desc=model.kind, unit="tensor", disable=None))
        write_safetensors(file, header, lambda key: next(tensors), metadata, overwrite)
    return file


def _read_tensor(
    entries: list[Entry], stores: stream.Stores, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
    """Assembles one tensor, in torch's axis order, from the parts of parameters that its entries name."""
    tensor = np.empty(shape, dtype)
    for entry in entries:
        store = stores[entry.target] if entry.layer is None else stores[entry.target][entry.layer]
        rows = slice(*entry.rows)
        if store.rank == 1 or entry.kernel:
            store = store[..., entry.column : entry.column + rows.stop - rows.start]
        part = np.asarray(store.read().result())
        axes = (part.ndim - 1, part.ndim - 2, *range(part.ndim - 2))
        if entry.flat:
            part, axes = part.reshape(-1, part.shape[-1]), (1, 0)
        tensor[rows] = stream.contiguous(part.transpose(axes)) if entry.kernel else part
    return tensor
