"""http:// and https:// as a file system for fsspec, in place of its own, which needs one more package and
whose reads have no bounds.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import fsspec
import httpx2
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from uno_jax.support.http import Client, HttpError, Limit, http_errors, limited

SECONDS = 30.0  # for one file, or one part of a larger one, with all redirects
SIZE_SECONDS = 10.0  # to say whether there is a file, and its size
MAX_ARCHIVE = 1 << 34
MAX_DOWNLOAD = 1 << 27  # held in memory by each thread that reads
BLOCK = 1 << 16
FIRST = {"Range": "bytes=0-0"}
PART = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class HttpFiles(AbstractFileSystem):  # type: ignore[misc]
    """Whole files of at most MAX_DOWNLOAD, and parts of larger ones where the server gives parts.

    Everything raises FileNotFoundError for 404 and 410, and HttpError naming the URL.
    """

    protocol = ("http", "https")
    seconds = SECONDS

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def exists(self, path: str, **_: Any) -> bool:
        try:
            self.info(path)
            return True
        except (FileNotFoundError, HttpError):
            return False

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """The size, None where the server gives no parts."""
        with limited(Limit(min(self.seconds, SIZE_SECONDS))), _ask(path, FIRST) as answer:
            part = _part(answer)
        return {"name": path, "type": "file", "size": int(part[3]) if part else None}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        first = start or 0
        most = min(MAX_DOWNLOAD + 1, MAX_DOWNLOAD + 1 if end is None else end - first)
        headers = {"Range": f"bytes={first}-{first + most - 1}"} if first or most <= MAX_DOWNLOAD else {}
        found = io.BytesIO()
        with limited(Limit(self.seconds)), _ask(path, headers) as answer:
            part = _part(answer)
            if int(part[1]) != first if part else first:
                raise HttpError(f"{path}: the server does not give the part of the file that was asked for")
            for each in answer.iter_raw():
                found.write(each)
                if found.tell() >= most:  # all, or a server that sends the whole file
                    break
        if found.tell() > MAX_DOWNLOAD:
            raise HttpError(f"{path}: more than {MAX_DOWNLOAD >> 20} MiB came, too large a file")
        found.truncate(most)
        return found.getvalue()

    def stream(self, path: str) -> io.RawIOBase:
        """The file from its beginning, of any length; reading raises as all else."""
        return _Stream(path, self.seconds)

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **_: Any) -> Any:
        if mode != "rb":
            raise HttpError(f"{path}: cannot be written to")
        size = self.info(path)["size"]
        if size is None:
            return io.BytesIO(self.cat_file(path))
        if size > MAX_ARCHIVE:
            raise HttpError(f"{path}: {size >> 20:,} MiB are more than {MAX_ARCHIVE >> 20:,}")
        return _Parts(self, path, mode, block_size or BLOCK, size=size, cache_type="readahead")


class _Parts(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))


class _Stream(io.RawIOBase):
    def __init__(self, path: str, seconds: float):
        self.path, self.rest = path, b""
        self.opened = contextlib.ExitStack()
        with limited(Limit(seconds)):
            self.parts = self.opened.enter_context(_ask(path, {})).iter_raw()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with http_errors(self.path):
            self.rest = self.rest or next(self.parts, b"")
        count = min(len(buffer), len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count

    def close(self) -> None:
        self.opened.close()
        super().close()


@contextlib.contextmanager
def _ask(path: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
    """An answer with its body unread; raises FileNotFoundError or HttpError for any status of an error."""
    with http_errors(path), _client(os.getpid()).stream("GET", path, headers=headers) as answer:
        status = f"{answer.status_code} {answer.reason_phrase}".strip()
        if answer.status_code in (404, 410):
            raise FileNotFoundError(f"{path}: the server answers {status}")
        if answer.status_code not in (200, 206):
            raise HttpError(f"{path}: the server answers {status}")
        yield answer


@lru_cache(1)
def _client(process: int) -> Client:
    return Client(SECONDS, None)


def _part(answer: httpx2.Response) -> re.Match[str] | None:
    return PART.fullmatch(answer.headers.get("Content-Range", "")) if answer.status_code == 206 else None


fsspec.register_implementation("http", HttpFiles, clobber=True)
fsspec.register_implementation("https", HttpFiles, clobber=True)
