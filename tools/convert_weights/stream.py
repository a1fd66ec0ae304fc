"""The native params/ folder, written and read by parts of layers: whole parameters may not fit into memory.

Orbax writes its own metadata for a tree of one-element placeholders; tensorstore then creates each
placeholder's array again in full shape, in the same place and format (zarr3 without OCDBT), with one shard
per layer. The shards' files are written here: transposing directly into pieces takes half the time of passing
whole layers to tensorstore. Pieces lie in the order in which they are read, so that memory of a few bands is
used again and again: to get new pages for whole layers took a third of a conversion's CPU time.
"""

import hashlib
import logging
import math
import os
from collections.abc import Callable, Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from flax.traverse_util import unflatten_dict
from tqdm import tqdm

from uno_jax.weights import arrays as params
from uno_jax.weights.integrity import check_files
from uno_jax.weights.safetensors_file import read_header

from . import mapping

Stores = dict[mapping.Path, ts.TensorStore]
Shapes = dict[mapping.Path, jax.ShapeDtypeStruct]
WORKERS = min(4, os.cpu_count() or 1)  # each holds one band of one layer
PIECES = 8  # pieces of a layer along each of its last two axes, the unit in which shards are read
SMALL = 1 << 20  # a layer of at most this many bytes is one piece
AT_ONCE = (
    4 << 20
)  # bytes that are transposed at once, and still in the processor's cache when they are written
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


class Job(NamedTuple):
    """One slice to be written: a layer of a parameter, or a whole parameter without layers."""

    target: mapping.Path
    layer: int | None


class Bands(NamedTuple):
    """A slice of a parameter in the order in which it is written: `parts` are its rows of pieces (axis -2) or
    its columns of pieces (axis -1), of any strides.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    axis: int
    parts: Iterable[np.ndarray]


Made = Mapping[mapping.Path, Bands]  # a slice of a parameter, or what is stored in its place


def piece_shape(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    """Shape of the part of a slice that can be read separately."""
    if math.prod(shape) * dtype.itemsize <= SMALL or len(shape) < 2:
        return shape
    return *shape[:-2], *(size // PIECES if size % PIECES == 0 else size for size in shape[-2:])


def create(directory: Path, shapes: Shapes, stacked: Container[mapping.Path]) -> None:
    """Creates an orbax checkpoint in a new `directory` with empty arrays: of a `stacked` one a shard for
    every layer.
    """
    logging.getLogger("absl").addFilter(_is_not_ocdbt_warning)
    empty = {path: np.zeros((1,) * len(leaf.shape), leaf.dtype) for path, leaf in shapes.items()}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_zarr3=True)) as checkpointer:
        checkpointer.save(params.orbax_path(directory), unflatten_dict(empty))
    for path, leaf in shapes.items():
        spec = _spec(directory / ".".join(path), leaf, path in stacked)
        ts.open(spec, create=True, delete_existing=True).result()


def _is_not_ocdbt_warning(record: logging.LogRecord) -> bool:
    """A log filter: on every save without OCDBT, orbax warns that there are no OCDBT files to merge."""
    return "Skipping merge of OCDBT" not in record.getMessage()


def _spec(place: Path, leaf: jax.ShapeDtypeStruct, stacked: bool) -> dict[str, Any]:
    """Uncompressed, because weights do not compress; each shard ends with an index of its pieces."""
    first = (1,) if stacked else ()
    shape = leaf.shape[len(first) :]
    piece = (*first, *piece_shape(shape, leaf.dtype))
    sharding = {"chunk_shape": piece, "codecs": [LITTLE], "index_codecs": [LITTLE]}
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(params.orbax_path(place))},
        "metadata": {
            "shape": leaf.shape,
            "data_type": leaf.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": (*first, *shape)}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        },
    }


def whole(array: np.ndarray) -> Bands:
    """A slice that is in memory."""
    piece = piece_shape(array.shape, array.dtype)
    if piece == array.shape:
        return Bands(array.shape, array.dtype, -2, [array])
    starts = range(0, array.shape[-2], piece[-2])
    parts = (array[..., start : start + piece[-2], :] for start in starts)
    return Bands(array.shape, array.dtype, -2, parts)


def write_shard(file: Path, slice_: Bands) -> str:
    """Writes a slice as a zarr3 shard, its pieces as they come and then (offset, length) of each; returns the
    file's SHA-256.
    """
    piece = piece_shape(slice_.shape, slice_.dtype)
    nbytes = math.prod(piece) * slice_.dtype.itemsize
    hashed = hashlib.sha256()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        for part in slice_.parts:
            pieces, some = _pieces(part, piece), max(1, AT_ONCE // max(nbytes, 1))
            for start in range(0, len(pieces), some):
                block = contiguous(pieces[start : start + some]).view(np.uint8).data
                stream.write(block)
                hashed.update(block)
        index = _index(slice_, piece, nbytes)
        stream.write(index)
        hashed.update(index)
    return hashed.hexdigest()


def _pieces(part: np.ndarray, piece: tuple[int, ...]) -> np.ndarray:
    """The pieces of a band, as a view."""
    if part.shape == piece:
        return part[None]
    *first, rows, columns = part.shape
    if rows == piece[-2]:
        return np.moveaxis(part.reshape(*first, rows, -1, piece[-1]), -2, 0)
    return np.moveaxis(part.reshape(*first, -1, piece[-2], columns), -3, 0)


def _index(slice_: Bands, piece: tuple[int, ...], nbytes: int) -> bytes:
    """The (offset, length) of every piece, in C order."""
    grid = [size // own for size, own in zip(slice_.shape, piece, strict=True)]
    places = np.arange(math.prod(grid), dtype=np.uint64)
    if slice_.axis == -1:
        places = places.reshape(grid[-1], grid[-2]).T.reshape(-1)
    return np.stack([places * nbytes, np.full_like(places, nbytes)], axis=-1).tobytes()


def contiguous(array: np.ndarray) -> np.ndarray:
    """Copies an array into C order; jax does so in cache-sized blocks, 8 times faster than numpy."""
    if array.flags.c_contiguous:
        return np.asarray(array)
    return np.asarray(jax.device_put(np.asarray(array), jax.devices("cpu")[0]))


def open_params(directory: Path, paths: Iterable[mapping.Path]) -> Stores:
    """Opens the arrays of a checkpoint, of either form, to be read by slices.

    Raises CheckpointError for a damaged file.
    """
    check_files(directory)
    if params.is_compact(directory):
        tensors, _ = read_header(directory / params.FILE)
        return {path: ts.array(tensors["/".join(path)].map(), write=False) for path in paths}
    folder = directory / params.FOLDER
    base: dict[str, Any] = {"driver": "file", "path": f"{params.orbax_path(folder)}/"}
    ocdbt = (folder / "manifest.ocdbt").is_file()
    stores = {}
    for path in paths:
        name = ".".join(path) + "/"
        place = (
            {"driver": "ocdbt", "base": base, "path": name} if ocdbt else base | {"path": base["path"] + name}
        )
        stores[path] = ts.open({"driver": "auto", "kvstore": place}, open=True, read=True).result()
    return stores


def write_all(
    directory: Path, shapes: Shapes, jobs: list[Job], make: Callable[[Job], Made], title: str
) -> dict[Path, str]:
    """Makes and writes every slice, a few at a time, with a progress bar in bytes.

    Returns the SHA-256 of the files.
    """

    def write_slice(job: Job) -> tuple[int, dict[Path, str]]:
        hashes, nbytes = {}, 0
        for path, slice_ in make(job).items():
            rank = len(shapes[path].shape)
            indices = (0,) * rank if job.layer is None else (job.layer, *(0,) * (rank - 1))
            file = (directory / ".".join(path) / "c").joinpath(*map(str, indices))
            hashes[file] = write_shard(file, slice_)
            nbytes += math.prod(slice_.shape) * slice_.dtype.itemsize
        return nbytes, hashes

    total = sum(leaf.size * leaf.dtype.itemsize for leaf in shapes.values())
    bar = tqdm(total=total, desc=title, unit="B", unit_scale=True, disable=None)
    known: dict[Path, str] = {}
    with bar, ThreadPoolExecutor(WORKERS) as pool:
        try:
            for nbytes, hashes in pool.map(write_slice, jobs):
                known |= hashes
                bar.update(nbytes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return known
