"""A full disk reported as such, wherever it occurs: in a log, an export, or a checkpoint's own thread."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import orbax.checkpoint as ocp

from uno_jax.support.full_disk import is_full, without_full_disk_logs


class FullDiskError(OSError):
    """The disk is full; the run's last good checkpoint is complete."""


@contextlib.contextmanager
def report_full_disk(workdir: Path) -> Iterator[None]:
    """Turns any error that a full disk caused into a FullDiskError naming the last good checkpoint of
    `workdir`.
    """
    try:
        with without_full_disk_logs():
            yield
    except Exception as error:
        if not is_full(error):
            raise
        steps = ocp.utils.checkpoint_steps(workdir / "checkpoints")
        last = f"the last good checkpoint is step {max(steps)}" if steps else "there is no checkpoint yet"
        raise FullDiskError(
            f"no space left in {workdir}; {last}, from which the same command continues"
        ) from error
