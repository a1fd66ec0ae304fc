"""URLs of any file system that fsspec knows -> bytes, within bounds; all that goes wrong is an OSError that
names the URL, so that one bad URL is one bad record.
"""

import io
import threading
from collections.abc import Callable
from concurrent.futures import Future
from importlib.metadata import metadata
from time import monotonic
from typing import Any, TypeVar

from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from uno_jax.data import http_files  # with it fsspec reads http
from uno_jax.support.http import HttpError, limit_hub
from uno_jax.support.picture_file import MAX_BYTES, ImageError
from uno_jax.support.words import one_line

Result = TypeVar("Result")
SECONDS = http_files.SECONDS + 5
MAX_LIST = 1 << 32  # bytes
LIST_SECONDS = 3600.0  # of waiting for a list
BLOCK = 1 << 16


class RemoteError(OSError):
    """A URL cannot be read; the message names it and says why."""


class UnknownFileSystemError(OSError):
    """A URL of a file system that fsspec does not know, or whose package is missing."""


def at(url: str, act: Callable[[Any, str], Result], seconds: float = SECONDS) -> Result:
    """What `act` returns of the URL's file system and the name there.

    Raises FileNotFoundError, UnknownFileSystemError, ImageError, or RemoteError, also after `seconds`.
    """

    def asked() -> Result:
        if "reference://" in url:  # a file of other URLs, read whole
            raise UnknownFileSystemError(f"{url}: reference:// is not read; name the files themselves")
        if "hf" in (get_protocol(part) for part in url.split("::")):
            limit_hub()
        fs, name = url_to_fs(url)
        return act(fs, name)

    return _naming(url, lambda: within(seconds, asked), seconds)


def read_remote(url: str, start: int = 0, length: int | None = None) -> bytes:
    """The bytes of a file, or of a part of it.

    Raises ImageError for more than MAX_BYTES, and as `at`.
    """
    end = start + (MAX_BYTES + 1 if length is None else length)
    content = at(url, lambda fs, name: bytes(fs.cat_file(name, start, end)))
    if len(content) > MAX_BYTES:
        raise ImageError(f"{url}: more than {MAX_BYTES >> 20} MiB, too large a file")
    return content


def open_list(url: str, seconds: float = SECONDS) -> io.RawIOBase:
    """A file to be read from its beginning, of at most MAX_LIST, for which reads wait LIST_SECONDS in all and
    `seconds` for each BLOCK. They raise as `at`.
    """

    def opened(fs: Any, name: str) -> Any:
        return fs.stream(name) if isinstance(fs, http_files.HttpFiles) else fs.open(name, "rb")

    return _List(url, at(url, opened, seconds), seconds)


class _List(io.RawIOBase):
    def __init__(self, url: str, file: Any, seconds: float):
        self.url, self.file, self.seconds = url, file, seconds
        self.taken, self.waited, self.rest = 0, 0.0, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.rest:
            began, left = monotonic(), min(self.seconds, LIST_SECONDS - self.waited)
            self.rest = _naming(self.url, lambda: within(left, self._block), left)
            self.waited, self.taken = self.waited + monotonic() - began, self.taken + len(self.rest)
            if self.taken > MAX_LIST:
                raise RemoteError(f"{self.url}: more than {MAX_LIST >> 20:,} MiB, too long a list")
        count = min(len(buffer), len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count

    def _block(self) -> bytes:
        found = b""
        while len(found) < BLOCK and (part := self.file.read(BLOCK - len(found))):
            found += part
        return found

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()


def within(seconds: float, act: Callable[[], Result]) -> Result:
    """The result of `act`, which runs in a thread of its own and is left to itself after `seconds`.

    Raises TimeoutError then, and what `act` raises.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(act())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(max(0.0, seconds))


def _naming(url: str, act: Callable[[], Result], seconds: float) -> Result:
    """What `act` returns; whatever it raises becomes an OSError or ImageError that names the URL."""
    try:
        return act()
    except (FileNotFoundError, ImageError, UnknownFileSystemError, RemoteError):
        raise
    except HttpError as error:
        text = str(error)
        raise RemoteError(text if text.startswith(url) else f"{url}: {text}") from None
    except TimeoutError:
        raise RemoteError(f"{url}: not read within {seconds:.0f} s") from None
    except ImportError as error:
        raise UnknownFileSystemError(f"{url}: {one_line(error)}{_extra(url)}") from None
    except Exception as error:  # the libraries of file systems have errors of their own
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            raise UnknownFileSystemError(f"{url}: {one_line(error)}") from None
        raise RemoteError(f"{url}: cannot be read ({type(error).__name__}: {one_line(error)})") from None


def _extra(url: str) -> str:
    """What to install for a URL."""
    extras = metadata("fsspec").get_all("Provides-Extra") or []
    needed = [name for part in url.split("::") if (name := get_protocol(part)) in extras]
    return "".join(f"; pip install 'fsspec[{name}]'" for name in needed)
