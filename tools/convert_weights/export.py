"""Networks of a model directory to a single safetensors file in the original naming, tensor by tensor."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict
from tqdm import tqdm

from uno_jax.networks.registry import abstract_params
from uno_jax.support.atomic import refuse_existing
from uno_jax.support.folder_lock import locked_path
from uno_jax.support.prefetch import prefetch
from uno_jax.weights.arrays import stored_arrays
from uno_jax.weights.checkpoint import read_config, read_record
from uno_jax.weights.int8 import int8_kernels
from uno_jax.weights.safetensors_file import write_safetensors

from . import mapping, stream
from .convert import CONFIG_METADATA, DTYPES, require_space
from .mapping import ConversionError, Entry, Model


class Part(NamedTuple):
    """A network to be written: its entries by the key of their tensor, its arrays and its config's record."""

    kind: str
    entries: dict[str, list[Entry]]
    stores: stream.Stores
    config: dict[str, Any]


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
    directory = Path(directory)
    directory = directory / model.kind if (directory / model.kind).is_dir() else directory
    return export_parts([open_part(model, directory)], file, dtype, overwrite)


def open_part(model: Model, directory: Path) -> Part:
    """The network in `directory`.

    Raises CheckpointError for another one, and ConversionError for one in 8 bits.
    """
    config = read_config(directory, model.kind)
    if int8_kernels(stored_arrays(directory)):
        raise ConversionError(
            f"{directory} holds kernels in 8 bits, which no other program reads: write it in bfloat16 first "
            f"(uno-convert pack --model {directory.parent} --dst DIR --dtype bf16)"
        )
    if getattr(config, "token_seed", None) is not None:
        raise ConversionError(
            f"{directory} has token embeddings that follow from a seed, which files for other programs "
            "cannot say: copy it as a model directory (uno-convert pack)"
        )
    stores = stream.open_params(directory, flatten_dict(abstract_params(config)[0]))
    entries: dict[str, list[Entry]] = {}
    for entry in mapping.expand(model, config, model.namings[0]):
        entries.setdefault(model.written_prefix + entry.source, []).append(entry)
    return Part(model.kind, entries, stores, read_record(directory)["config"])


def export_parts(
    parts: Sequence[Part],
    file: Path,
    dtype: str = "keep",
    overwrite: bool = False,
    tables: Mapping[str, Callable[[], np.ndarray]] = MappingProxyType({}),
) -> Path:
    """Writes networks to one file, and after them float32 arrays that follow from their configs.

    Raises FileExistsError, or ConversionError when the disk is too small.
    """
    file = Path(file)
    owners = {key: part for part in parts for key in part.entries}
    header: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    for key, part in owners.items():
        (shape,) = _shapes(part, key).values()
        stored = part.stores[part.entries[key][0].target].dtype.numpy_dtype
        header[key] = (stored if dtype == "keep" else DTYPES[dtype], shape)
    header |= {key: (np.dtype(np.float32), make().shape) for key, make in tables.items()}
    require_space(file, sum(math.prod(shape) * kind.itemsize for kind, shape in header.values()))
    config = parts[0].config if len(parts) == 1 else {part.kind: part.config for part in parts}

    def make_tensor(key: str) -> np.ndarray:
        if key in tables:
            return tables[key]()
        return _read_tensor(owners[key].entries[key], owners[key].stores, *header[key])

    with locked_path(file):
        refuse_existing(file, overwrite)
        made = prefetch(make_tensor, header, stream.WORKERS)
        title = parts[0].kind
        tensors = iter(tqdm(made, total=len(header), desc=title, unit="tensor", disable=None))
        metadata = {"format": "pt", CONFIG_METADATA: json.dumps(config)}
        write_safetensors(file, header, lambda key: next(tensors), metadata, overwrite)
    return file


def _shapes(part: Part, key: str) -> mapping.Shapes:
    return mapping.source_shapes(part.entries[key], part.stores)


def _read_tensor(
    entries: list[Entry], stores: stream.Stores, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
    """Assembles one tensor, in torch's axis order, from the parts of parameters that its entries name."""
    tensor = np.empty(shape, dtype)
    for entry in entries:
        store = stores[entry.target] if entry.layer is None else stores[entry.target][entry.layer]
        first, count = entry.rows[0], entry.rows[1] - entry.rows[0]
        last_axis = store.rank == 1 or entry.kernel  # rows are along it
        if last_axis:
            store = store[..., entry.column : entry.column + count]
        # In the bands that arrays are stored in, since a vocabulary's matrix has a gigabyte.
        band = count // stream.PIECES if store.rank > 1 and count % stream.PIECES == 0 else count
        for start in range(0, count, band):
            own = slice(start, start + band)
            part = np.asarray((store[..., own] if last_axis else store[own]).read().result())
            tensor[first + start : first + start + band] = in_torchs_order(entry, part)
    return tensor


def in_torchs_order(entry: Entry, part: np.ndarray) -> np.ndarray:
    if not entry.kernel:
        return part
    part = part.reshape(-1, part.shape[-1]) if entry.flat else part
    axes = (1, 0) if entry.flat else (part.ndim - 1, part.ndim - 2, *range(part.ndim - 2))
    return stream.contiguous(part.transpose(axes))
