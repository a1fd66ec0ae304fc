"""Locks on open files (flock). They end with the process that holds them, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_open: set[int] = set()


def _close_copies() -> None:
    """A forked child has copies of its parent's locks, which would outlive the parent."""
    while _open:
        os.close(_open.pop())


os.register_at_fork(after_in_child=_close_copies)


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Opens a file to lock it; whatever lock it then has is released at the end."""
    file = os.open(path, flags | os.O_CLOEXEC, 0o666)
    _open.add(file)
    try:
        yield file
    finally:
        if file in _open:  # and not a forked child's copy
            _open.remove(file)
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)


def try_lock(file: int, shared: bool = False) -> bool:
    """Locks an open file, unless another process (or another opening of the file) holds it; says whether.

    Raises OSError on a file system without locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_at(file: int, path: Path) -> bool:
    """Whether an open file still has that name: whoever held it before may have removed or renamed it."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
