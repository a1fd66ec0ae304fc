"""Files that may be opened: regular ones, since a FIFO waits for a writer and a device has no end."""

import os
import stat
from pathlib import Path

KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularFileError(OSError):
    """A path names a directory, a pipe, a socket or a device where a file is needed."""


def regular_file(path: str | os.PathLike[str]) -> Path:
    """The path, once it is known to name a regular file; nothing is opened.

    Raises FileNotFoundError, NotRegularFileError, or OSError where the path cannot be followed (a circle of
    symbolic links, no permission).
    """
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        raise NotRegularFileError(f"{os.fspath(path)} is {KINDS.get(kind, 'not a file')}; expected a file")
    return Path(path)
