"""Runs over several processes: joining them, waiting for them, and each process's share of a batch."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from uno_jax.sharding.rules import BATCH
from uno_jax.support.errors import InUseError

NAME_BYTES = 512


def join_processes(coordinator: str, count: int, index: int) -> None:
    """Makes this process one of a run's `count`; call it before any computation.

    `coordinator` is HOST:PORT, "auto" for the cluster's own settings, or "" for a run of one process.
    """
    if not coordinator or jax.distributed.is_initialized():
        return
    if coordinator == "auto":
        jax.distributed.initialize()
    else:
        jax.distributed.initialize(coordinator, count, index)


def is_first_process() -> bool:
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Every process of the run waits here for the others."""
    if jax.distributed.is_initialized():
        multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def first_process_first(what: str) -> Iterator[None]:
    """The first process runs the body before the others do, who then find what it wrote."""
    if not is_first_process():
        wait_for_all(what)
    try:
        yield
    finally:
        if is_first_process():
            wait_for_all(what)


def same_everywhere(number: int) -> bool:
    """Whether a number of at most 32 bits is the same in every process."""
    if not jax.distributed.is_initialized():
        return True
    numbers = multihost_utils.process_allgather(np.array(number, np.uint32))
    return bool((numbers == numbers[0]).all())


def everywhere(holds: bool) -> bool:
    """Whether something holds in every process."""
    if not jax.distributed.is_initialized():
        return holds
    return bool(multihost_utils.process_allgather(np.array(holds)).all())


def from_first_process(name: str) -> str:
    """The name of a file, of at most NAME_BYTES bytes, that the first process gives."""
    if not jax.distributed.is_initialized():
        return name
    padded = np.frombuffer(os.fsencode(name).ljust(NAME_BYTES, b"\0"), np.uint8)
    return os.fsdecode(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes().rstrip(b"\0"))


@contextlib.contextmanager
def locked_by_first(lock: contextlib.AbstractContextManager[None]) -> Iterator[None]:
    """Holds a lock (`support.folder_lock`) that the first process takes for the whole run.

    Raises InUseError in every process when it is refused.
    """
    with contextlib.ExitStack() as held:
        refused = None
        if is_first_process():
            try:
                held.enter_context(lock)
            except OSError as error:
                refused = error
        begun = everywhere(refused is None)
        if refused is not None:
            raise refused
        if not begun:
            raise InUseError("the first process could not begin: see what it says")
        yield


def on_host(tree: Any) -> Any:
    """The tree as numpy arrays, gathered from the devices of all processes."""
    if not jax.distributed.is_initialized():
        return jax.tree.map(np.asarray, tree)
    return jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), tree)


def batch_share(mesh: Mesh) -> tuple[int, int]:
    """(index, count): which of `count` equal shares of a batch's samples this process's devices hold.

    Processes that differ only along the tensor or sequence axis hold the same share.

    Raises ValueError if this process's samples do not form a contiguous share of the batch.
    """
    groups = mesh.devices.reshape(mesh.shape["data"] * mesh.shape["fsdp"], -1)
    here = jax.process_index()
    mine = [number for number, row in enumerate(groups) if any(d.process_index == here for d in row)]
    size = len(mine)
    if len(groups) % size or mine != list(range(mine[0], mine[0] + size)) or mine[0] % size:
        raise ValueError(
            f"mesh {dict(mesh.shape)}: the samples of process {here} do not form a contiguous share of a "
            "batch"
        )
    return mine[0] // size, len(groups) // size


def place_batch(mesh: Mesh, batch: Any) -> Any:
    """The global arrays of a batch, given this process's share of it."""
    place = NamedSharding(mesh, BATCH)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, x), batch)
