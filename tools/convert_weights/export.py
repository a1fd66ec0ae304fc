"""One of our networks back into a single safetensors file with its original names, tensor by tensor."""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uno_jax.checkpoint import read_config
from uno_jax.models import abstract_params

from . import mapping, stream
from .convert import DTYPES, need_room, transposed
from .mapping import Entry, Model
from .source import DTYPES as STORED

NAMES = {kind: name for name, kind in STORED.items()}
Header = dict[str, tuple[np.dtype, tuple[int, ...]]]


def export(
    model: Model,
    directory: Path,
    file: Path,
    dtype: str = "keep",
    overwrite: bool = False,
    free: Callable[[Path], int] | None = None,
) -> Path:
    """Writes a network, or that network of a model directory, to `file` in the original naming.

    Raises CheckpointError for another network, FileExistsError, ConversionError for a full disk.
    """
    directory, file = Path(directory), Path(file)
    directory = directory / model.kind if (directory / model.kind).is_dir() else directory
    config = read_config(directory, model.kind)
    params = mapping.leaves(abstract_params(config)[0])
    stores = stream.open_params(directory / "params", params)
    entries: dict[str, list[Entry]] = {}
    for entry in mapping.expand(model, config, model.namings[0]):
        entries.setdefault(entry.source, []).append(entry)
    header: Header = {}
    for key, shape in mapping.source_shapes(sum(entries.values(), []), params).items():
        stored = stores[entries[key][0].target].dtype.numpy_dtype
        header[key] = (stored if dtype == "keep" else DTYPES[dtype], shape)
    need_room(file, sum(map(_nbytes, header.values())), free)
    with _written_file(file, overwrite) as aside, aside.open("wb") as out:
        out.write(_encoded({model.written_prefix + key: about for key, about in header.items()}))
        for key, (kind, shape) in tqdm(header.items(), desc=model.kind, unit="tensor", disable=None):
            out.write(_tensor(entries[key], stores, kind, shape).tobytes())
    return file


def _nbytes(about: tuple[np.dtype, tuple[int, ...]]) -> int:
    return math.prod(about[1]) * about[0].itemsize


def _encoded(header: Header) -> bytes:
    """The head of a safetensors file whose tensors follow in this order."""
    record: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, about in header.items():
        begin, end = end, end + _nbytes(about)
        record[key] = {"dtype": NAMES[about[0]], "shape": list(about[1]), "data_offsets": [begin, end]}
    text = json.dumps(record).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _tensor(
    entries: list[Entry], stores: stream.Stores, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
    """One source tensor from the parts of parameters that its entries name, in torch's axis order."""
    tensor = np.empty(shape, dtype)
    for entry in entries:
        store = stores[entry.target] if entry.layer is None else stores[entry.target][entry.layer]
        rows = slice(*entry.rows)
        if store.rank == 1 or entry.kernel:
            store = store[..., entry.column : entry.column + rows.stop - rows.start]
        part = np.asarray(store.read().result())
        axes = (part.ndim - 1, part.ndim - 2, *range(part.ndim - 2))
        tensor[rows] = transposed(part, axes) if entry.kernel else part
    return tensor


@contextmanager
def _written_file(file: Path, overwrite: bool) -> Iterator[Path]:
    """Gives a path beside `file` to write to, which then takes its place; removed on any failure."""
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} exists already: choose another destination or pass --overwrite")
    created = [parent for parent in file.absolute().parents if not parent.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.partial")
    try:
        yield aside
        os.replace(aside, file)
    except BaseException:
        aside.unlink(missing_ok=True)
        for parent in created:
            parent.rmdir()
        raise
