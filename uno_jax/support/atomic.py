"""Atomic writes: a file is written under a temporary name beside its destination, then renamed."""

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from uno_jax.support.left_overs import aside_of, held, remove_left_overs


@contextlib.contextmanager
def atomic_write(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`, locked and of no other writer, and renames it to `path` at the
    end. A symbolic link stays: the file that it names is written.

    On failure it is removed, and so are the folders that were made for it. What killed writers left in the
    folder is removed when a process first writes there.

    Raises FileExistsError before anything is written when `path` exists and `overwrite` is false, OSError for
    a device or a pipe.
    """
    refuse_device(path)
    refuse_existing(path, overwrite)
    path = followed(path)
    with made_parents(path):
        _remove_left_overs_once(path.absolute().parent)
        partial = aside_of(path)
        with held(partial):
            try:
                yield partial
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)


def followed(path: Path) -> Path:
    """What a symbolic link leads to, which need not exist; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


@functools.cache
def _remove_left_overs_once(folder: Path) -> None:
    remove_left_overs(folder)


def check_output(option: str, path: Path) -> None:
    """Checks, before work is done, that the file `path` can be written, its folders being made when needed.

    Raises OSError naming `option` where it cannot: a folder of that name, a file in place of a folder, a name
    that is too long, a place without permission. Nothing is left behind.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{option} {path} is a directory: give a file")
    refuse_device(path)
    _check_place(f"{option} {path}", path.parent, aside_of(path).name)


def check_output_folder(option: str, folder: Path) -> None:
    """Checks, before work is done, that files can be written into `folder`, which is made when needed.

    Raises OSError as `check_output`.
    """
    _check_place(f"{option} {folder}", folder)


def check_utf8(path: Path, what: str, fault: Callable[[str], Exception] = OSError) -> None:
    """Raises what `fault` makes of a message for a path that is not UTF-8, as libraries that write `what`
    demand.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise fault(f"{path} is not UTF-8, as paths of {what} must be: choose another") from None


def _check_place(what: str, folder: Path, name: str = "") -> None:
    """Makes a temporary file in the nearest folder that exists; `name` is the file's that will be written."""
    try:
        missing = []
        while not os.path.lexists(folder):
            missing.append(folder.name)
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a directory: choose another name")
        if max(len(os.fsencode(each)) for each in (*missing, name)) > os.pathconf(folder, "PC_NAME_MAX"):
            raise OSError("the name is too long for a file: choose a shorter one")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(f"{what}: {error.strerror or error}") from None


def refuse_device(path: Path) -> None:
    """Raises OSError for a device or a pipe, which a rename would replace by a file."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(f"{path} is a device or a pipe: give a file")


def refuse_existing(path: Path, overwrite: bool, folder: bool = False) -> None:
    """Raises FileExistsError when `path` exists and `overwrite` is false, or OSError when it is a folder
    where a file will be written, or the reverse.
    """
    if folder and path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file: give a directory, or remove it")
    if not folder and path.is_dir():
        raise IsADirectoryError(f"{path} is a directory: give a file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already: choose another destination, or pass --overwrite")


@contextlib.contextmanager
def made_parents(path: Path) -> Iterator[None]:
    """Makes the folders above `path`; those that did not exist before are removed on failure."""
    missing = [parent for parent in path.absolute().parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: another process has written there meanwhile
            for parent in missing:
                parent.rmdir()
        raise


def replace_directory(partial: Path, directory: Path) -> None:
    """Renames the written folder `partial` to `directory`, replacing the one that is there."""
    if not directory.exists():
        os.replace(partial, directory)
        return
    old = aside_of(directory, "old")
    with held(directory, folder=True):
        os.replace(directory, old)
        os.replace(partial, directory)
        shutil.rmtree(old)
