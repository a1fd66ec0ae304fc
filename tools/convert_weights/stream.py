"""The native params/ folder, written and read layer by layer: a stacked parameter may not fit into memory.

Orbax writes its own metadata for a tree of one-element placeholders; tensorstore then creates each
placeholder's array again in full shape, in the same place and format (zarr3 without OCDBT), with one shard
per layer. The shards' files are written here: transposing directly into their order takes half the time of
passing whole layers to tensorstore.
"""

import logging
import math
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
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
Made = Mapping[mapping.Path, np.ndarray]  # a slice of a parameter, or what is stored in its place
WORKERS = min(4, os.cpu_count() or 1)  # each holds one layer of one parameter
PIECES = 8  # pieces of a layer along each of its last two axes, the unit in which shards are read
SMALL = 1 << 20  # a layer of at most this many bytes is one piece
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


class Job(NamedTuple):
    """One slice to be written: a layer of a parameter, or a whole parameter without layers."""

    target: mapping.Path
    layer: int | None


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


def write_shard(file: Path, array: np.ndarray) -> None:
    """Writes a slice, of any strides, as a zarr3 shard: its pieces, then (offset, length) of each."""
    piece = piece_shape(array.shape, array.dtype)
    nbytes = math.prod(piece) * array.dtype.itemsize
    offsets = np.arange(0, array.nbytes, nbytes, dtype=np.uint64)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        for band in _bands(array, piece):
            stream.write(contiguous(band).view(np.uint8).data)
        stream.write(np.stack([offsets, np.full_like(offsets, nbytes)], axis=-1).tobytes())


def _bands(array: np.ndarray, piece: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yields rows of pieces, (pieces along the last axis, *piece), as views."""
    if piece == array.shape:
        yield array
        return
    for start in range(0, array.shape[-2], piece[-2]):
        band = array[..., start : start + piece[-2], :]
        yield np.moveaxis(band.reshape(*band.shape[:-1], -1, piece[-1]), -2, 0)


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
) -> None:
    """Makes and writes every slice, a few at a time, with a progress bar in bytes."""

    def write_slice(job: Job) -> int:
        made = make(job)
        for path, array in made.items():
            rank = len(shapes[path].shape)
            indices = (0,) * rank if job.layer is None else (job.layer, *(0,) * (rank - 1))
            write_shard((directory / ".".join(path) / "c").joinpath(*map(str, indices)), array)
        return sum(array.nbytes for array in made.values())

    total = sum(leaf.size * leaf.dtype.itemsize for leaf in shapes.values())
    bar = tqdm(total=total, desc=title, unit="B", unit_scale=True, disable=None)
    with bar, ThreadPoolExecutor(WORKERS) as pool:
        try:
            for nbytes in pool.map(write_slice, jobs):
                bar.update(nbytes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
