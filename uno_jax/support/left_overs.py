"""Names of files and folders that are still being written, and the removal of those whose writer was killed.

A writer holds a lock on what it writes aside, so that what is not locked has been left.
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from uno_jax.support.file_lock import is_at, opened, try_lock

HOST = socket.gethostname().replace(".", "-")
ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)\.(?P<pid>\d+)(?P<own>-[0-9a-f]{8})?\.(partial|old)")
LOCK = ".lock"
# Locks may not reach from one host to another: what another wrote must also have rested for so many seconds.
REST = 24 * 60 * 60
MOMENT = 0.01  # seconds


def aside_of(path: Path, kind: str = "partial") -> Path:
    """A name beside `path` that nothing else has: for what will be renamed to `path` ("partial"), or for what
    it replaces ("old").
    """
    return path.with_name(f".{path.name}.{HOST}.{os.getpid()}-{secrets.token_hex(4)}.{kind}")


def is_passing(name: str) -> bool:
    """Whether a file or folder of this name is there only while a command is at work, or was left by one."""
    return name == LOCK or bool(ASIDE.fullmatch(name)) or (name.startswith(".") and name.endswith(LOCK))


@contextlib.contextmanager
def held(path: Path, folder: bool = False) -> Iterator[None]:
    """Makes a file or a folder where there is none, and locks it where its file system has locks."""
    while True:
        if folder:
            path.mkdir(parents=True, exist_ok=True)
        with opened(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT) as file:
            try:
                mine = try_lock(file) and is_at(file, path)
            except OSError:
                mine = True
            if mine:
                yield
                return
        time.sleep(MOMENT)  # another command looks whether it was left, or has removed it


def remove_left_overs(folder: Path) -> None:
    """Removes what killed writers left in `folder`. A folder that was being replaced, and whose replacement
    did not come, gets its name back.
    """
    for name in os.listdir(folder):
        if found := ASIDE.fullmatch(name):
            with contextlib.suppress(OSError):  # of another user, or gone meanwhile
                _remove_unless_live(folder / name, found)


def _remove_unless_live(path: Path, named: re.Match[str]) -> None:
    is_folder = path.is_dir()
    if path.is_symlink() or not (is_folder or path.is_file()):
        return
    with opened(path, os.O_RDONLY if is_folder else os.O_RDWR) as file:
        if not _is_left(file, named):
            return
        target = path.with_name(named["name"])
        if path.suffix == ".old" and not target.exists():
            os.rename(path, target)
        elif is_folder:
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_left(file: int, named: re.Match[str]) -> bool:
    here = named["host"] == HOST
    try:
        free = try_lock(file)
    except OSError:  # no locks here: the process must have ended
        return here and not is_running(int(named["pid"]))
    rested = named["own"] is not None and time.time() - os.fstat(file).st_mtime > REST
    return free and (here or rested)


def is_running(pid: int) -> bool:
    """Whether this host has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
