"""One command at a time in a folder."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from .errors import ToolError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks `folder`, created if needed, against other commands.

    Raises ToolError if it is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ToolError(f"{folder}: another command is at work there; wait until it has ended") from None
        yield
