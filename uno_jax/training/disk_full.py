"""A full disk reported as such, wherever it occurs: in a log, an export, or a checkpoint's own thread."""

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import orbax.checkpoint as ocp

FULL = {errno.ENOSPC, errno.EDQUOT}


class FullDiskError(OSError):
    """The disk is full; the run's last good checkpoint is complete."""


@contextlib.contextmanager
def report_full_disk(workdir: Path) -> Iterator[None]:
    """Turns any error that a full disk caused into a FullDiskError naming the last good checkpoint of
    `workdir`.
    """
    log = logging.getLogger("absl")  # orbax prints the traceback of what it raises too
    log.addFilter(_is_not_disk_full)
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        steps = ocp.utils.checkpoint_steps(workdir / "checkpoints")
        last = f"the last good checkpoint is step {max(steps)}" if steps else "there is no checkpoint yet"
        raise FullDiskError(
            f"no space left in {workdir}; {last}, from which the same command continues"
        ) from error
    finally:
        log.removeFilter(_is_not_disk_full)


def _is_not_disk_full(record: logging.LogRecord) -> bool:
    return not (record.exc_info and is_full(record.exc_info[1]))


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota caused an error. Tensorstore reports it in the message only."""
    while error is not None:
        named = any(words in str(error) for words in ("No space left on device", "Disk quota exceeded"))
        if named or (isinstance(error, OSError) and error.errno in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
