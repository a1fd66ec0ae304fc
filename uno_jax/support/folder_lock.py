"""One writer at a time in a folder, or of a file: the second is told who the first is, before it works.

Locks are the files FOLDER/.lock and FOLDER/.NAME.lock, which are removed at the end. What a killed command
leaves of them blocks nobody. On a file system without locks a warning says so, and the command goes on.
"""

import contextlib
import datetime
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_type_hints

from uno_jax.support.atomic import followed, made_parents
from uno_jax.support.errors import InUseError
from uno_jax.support.file_lock import is_at, opened, try_lock
from uno_jax.support.json_files import check_fields, parse_json
from uno_jax.support.left_overs import HOST, LOCK, is_running, remove_left_overs
from uno_jax.support.words import printable

SHOWN = 200  # letters of a command
MOST = 1 << 20  # bytes of holders
WAITS, WAIT = 100, 0.05  # times and seconds: another of several at work may just begin or end


@contextlib.contextmanager
def locked(folder: Path, sharing: str = "") -> Iterator[None]:
    """Locks `folder`, made if needed, against other commands, and removes what killed ones left in it.

    Several commands that give the same `sharing` may be at work there at once.

    Raises InUseError, which says who is at work there.
    """
    with _locked(Path(folder) / LOCK, Path(folder), sharing):
        yield


@contextlib.contextmanager
def locked_path(path: Path, sharing: str = "") -> Iterator[None]:
    """Locks a file or folder that will be replaced as a whole; otherwise as `locked`."""
    path = followed(Path(path))
    with _locked(path.with_name(f".{path.name}{LOCK}"), path, sharing):
        yield


@contextlib.contextmanager
def _locked(lock: Path, place: Path, sharing: str) -> Iterator[None]:
    with made_parents(lock):
        for _ in range(WAITS):
            with opened(lock, os.O_RDWR | os.O_CREAT | os.O_APPEND) as file:
                try:
                    taken = _take(file, place, sharing) and is_at(file, lock)
                except InUseError:
                    raise
                except OSError as error:
                    _warn(place, error)
                    taken = True
                if taken:
                    with _removed_by_last(lock, file):
                        remove_left_overs(lock.parent)
                        yield
                    return
            time.sleep(WAIT if sharing else 0)
        raise InUseError(
            f"{place} is in use by other commands: wait until they have ended, or name another place"
        )


def _take(file: int, place: Path, sharing: str) -> bool:
    """Locks an open file and writes down who has it; false where it is worth another try.

    Raises InUseError, or OSError where there are no locks.
    """
    if try_lock(file):
        with contextlib.suppress(OSError):  # a full disk: then others are not told who it is
            os.ftruncate(file, 0)
            os.write(file, _this(sharing))
        return not sharing or try_lock(file, shared=True)
    shared = sharing and try_lock(file, shared=True)
    holders = _read_holders(file)
    if shared and any(holder.sharing == sharing for holder in holders):
        with contextlib.suppress(OSError):
            os.write(file, _this(sharing))
        return True
    if sharing and all(holder.sharing == sharing for holder in holders):
        return False  # another such command is about to write its record, or to end
    raise InUseError(
        f"{place} is in use by {_describe(holders)}: wait until it has ended, or name another place"
    )


@contextlib.contextmanager
def _removed_by_last(lock: Path, file: int) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if try_lock(file):  # which fails while others share it
                lock.unlink()


class Holder(NamedTuple):
    """A command at work, as it is written in the lock's file."""

    command: str
    process: int
    host: str
    since: str
    sharing: str


def _this(sharing: str) -> bytes:
    """The line of this command."""
    module = sys.orig_argv[1:3] if sys.orig_argv[1:2] == ["-m"] else [Path(sys.argv[0]).name]
    command = printable(shlex.join([*module, *sys.argv[1:]]))
    command = command if len(command) <= SHOWN else f"{command[:SHOWN]}…"
    now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return json.dumps(Holder(command, os.getpid(), HOST, now, sharing)._asdict()).encode() + b"\n"


def _read_holders(file: int) -> list[Holder]:
    """Who is at work; empty where that is not written yet, or was by another program."""
    try:
        lines = [parse_json(line, "lock") for line in os.pread(file, MOST, 0).splitlines()]
        return [Holder(**check_fields(line, get_type_hints(Holder), "lock")) for line in lines]
    except (ValueError, TypeError):
        return []


def _describe(holders: list[Holder]) -> str:
    if not holders:
        return "another command"
    live = [each for each in holders if each.host != HOST or is_running(each.process)]
    last = (live or holders)[-1]
    return printable(f"`{last.command}` (process {last.process} on {last.host}, since {last.since})")


def _warn(place: Path, error: OSError) -> None:
    print(
        f"warning: the file system of {place} has no locks ({error.strerror}): start no second command that "
        "writes there",
        file=sys.stderr,
    )
