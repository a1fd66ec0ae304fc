"""The native params/ folder, written and read by layers: a stacked parameter can be too large for memory.

Orbax writes its own metadata for a tree of one-element placeholders; each placeholder's array is then
replaced, in the same place and format (zarr3 without OCDBT), by one of full shape. Orbax restores it like any
other checkpoint.
"""

import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from tqdm import tqdm

from uno_jax.lora import nest

from . import mapping

Stores = dict[mapping.Path, ts.TensorStore]
WORKERS = min(4, os.cpu_count() or 1)  # each holds one layer of one parameter, two or three times
PIECES = 8  # along each of the last two axes: what a restoring shard reads at least
SMALL = 1 << 20


class Job(NamedTuple):
    """One slice to be written: a parameter's layer, or the whole of one that has no layers."""

    target: mapping.Path
    layer: int | None
    nbytes: int


def create(directory: Path, shapes: dict[mapping.Path, jax.ShapeDtypeStruct]) -> Stores:
    """An orbax checkpoint of empty arrays of these shapes and dtypes in a new `directory`."""
    logging.getLogger("absl").addFilter(_is_news)
    placeholders = nest({path: np.zeros((1,) * len(leaf.shape), leaf.dtype) for path, leaf in shapes.items()})
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_zarr3=True)) as checkpointer:
        checkpointer.save(directory.absolute(), placeholders)
    # Synchronising every file would wait for the disk 780 times; restoring checks the folder's size instead.
    context = ts.Context({"file_io_sync": False})
    return {
        path: ts.open(
            _spec(directory, path, leaf), context=context, create=True, delete_existing=True
        ).result()
        for path, leaf in shapes.items()
    }


def _is_news(record: logging.LogRecord) -> bool:
    """Orbax warns on every save without OCDBT that it has no OCDBT files to merge."""
    return "Skipping merge of OCDBT" not in record.getMessage()


def _spec(directory: Path, path: mapping.Path, leaf: jax.ShapeDtypeStruct) -> dict[str, Any]:
    """One file a layer, in pieces that can be read alone. Uncompressed: weights do not compress."""
    shape = leaf.shape
    layer = (1, *shape[1:]) if len(shape) == 3 else shape
    nbytes = int(np.prod(layer)) * leaf.dtype.itemsize
    piece = [
        size // PIECES if axis >= len(shape) - 2 and nbytes > SMALL and size % PIECES == 0 else size
        for axis, size in enumerate(layer)
    ]
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {"chunk_shape": piece, "codecs": [little], "index_codecs": [little, {"name": "crc32c"}]}
    return {
        "driver": "zarr3",
        "store_data_equal_to_fill_value": True,  # a chunk that is absent is damage, not zeros
        "kvstore": {"driver": "file", "path": str(directory.absolute() / ".".join(path))},
        "metadata": {
            "shape": shape,
            "data_type": leaf.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": layer}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        },
    }


def open_params(directory: Path, paths: Iterable[mapping.Path]) -> Stores:
    """The arrays of a params/ folder, this module's or any other of orbax's, to be read by slices."""
    base: dict[str, Any] = {"driver": "file", "path": f"{directory.absolute()}/"}
    ocdbt = (directory / "manifest.ocdbt").is_file()
    stores = {}
    for path in paths:
        name = ".".join(path) + "/"
        place = (
            {"driver": "ocdbt", "base": base, "path": name} if ocdbt else base | {"path": base["path"] + name}
        )
        stores[path] = ts.open({"driver": "auto", "kvstore": place}, open=True, read=True).result()
    return stores


def write_all(stores: Stores, jobs: list[Job], make: Callable[[Job], np.ndarray], title: str) -> None:
    """Makes and writes every slice, a few at a time, with a progress bar in bytes."""

    def run(job: Job) -> int:
        store = stores[job.target]
        part = store if job.layer is None else store[job.layer]
        data = make(job)
        try:
            part.write(data, can_reference_source_data_indefinitely=True).result()
        except ValueError as error:  # tensorstore's word for every fault of the disk
            raise mapping.ConversionError(f"cannot write {'.'.join(job.target)}: {error}") from None
        return job.nbytes

    bar = tqdm(total=sum(job.nbytes for job in jobs), desc=title, unit="B", unit_scale=True, disable=None)
    with bar, ThreadPoolExecutor(WORKERS) as pool:
        try:
            for nbytes in pool.map(run, jobs):
                bar.update(nbytes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
