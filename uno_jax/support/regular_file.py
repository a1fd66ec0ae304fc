"""The kind of a file, asked before it is opened: a named pipe waits for a writer, and a device has no end."""

import os
import stat

from uno_jax.support.errors import FileKindError

KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular_file(path: str | os.PathLike[str]) -> None:
    """Raises FileNotFoundError, or FileKindError for anything but a regular file, which stays unopened."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{os.fspath(path)} cannot be read: no such file") from None
    if kind != stat.S_IFREG:
        raise FileKindError(f"{os.fspath(path)} is {KINDS.get(kind, 'of an unknown kind')}, expected a file")
