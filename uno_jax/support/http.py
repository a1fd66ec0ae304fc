"""HTTP whose every answer ends: the client that pictures, lists, the hub and language models are asked with.

httpx2's own timeouts are those of one read, so a server that sends a byte now and then is waited for without
end, and it has no bound of sizes. Here a `Limit` holds for all that a thread asks within `limited`:
connecting, headers, informational answers, redirects and body together.
"""

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import httpcore2
import httpx2

from uno_jax.support.words import one_line

CONNECT = 10.0  # seconds
MAX_REDIRECTS = 10
BLOCK = 1 << 16
STALLED = 30.0  # seconds within which a BLOCK of a long download must come
MAX_API_REPLY = 1 << 26


class HttpError(OSError):
    """Nothing usable came from a URL; the message names it and says why."""


class TooLongError(httpx2.TransportError):
    """An answer has more bytes than are taken."""


class Limit:
    """Seconds from now on, and bytes of bodies as they are sent; None: any number."""

    def __init__(self, seconds: float, size: int | None = None):
        self.size, self.taken = size, 0
        self.end = time.monotonic() + seconds

    def left(self, timeout: float | None) -> float:
        """How long the next operation may take, at most `timeout`.

        Raises ReadTimeout when the time is over.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the time is over")
        return left if timeout is None else min(left, timeout)

    def take(self, count: int) -> None:
        """Counts bytes; raises TooLongError for one too many."""
        self.taken += count
        if self.size is not None and self.taken > self.size:
            raise TooLongError(f"more than {_size(self.size)} came")


_THREAD = threading.local()


@contextlib.contextmanager
def limited(limit: Limit) -> Iterator[None]:
    """Holds all requests of this thread to a limit, but those that are held to another one within."""
    before = getattr(_THREAD, "limit", None)
    _THREAD.limit = limit
    try:
        yield
    finally:
        _THREAD.limit = before


def _left(timeout: float | None) -> float | None:
    limit: Limit | None = getattr(_THREAD, "limit", None)
    return limit.left(timeout) if limit else timeout


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream):
        self.inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), BLOCK):
            self.inner.write(buffer[start : start + BLOCK], _left(timeout))

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self.inner.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


class _Backend(httpcore2.SyncBackend):
    def connect_tcp(  # noqa: PLR0913 (httpcore's)
        self, host: str, port: int, timeout: float | None = None, *args: Any, **more: Any
    ) -> httpcore2.NetworkStream:
        return _Stream(super().connect_tcp(host, port, _left(timeout), *args, **more))


class _Body(httpx2.SyncByteStream):
    """A body that is counted; without a `limited` around it, each BLOCK of it must come within STALLED."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __iter__(self) -> Iterator[bytes]:
        parts, waited, got = iter(self.inner), 0.0, 0
        while True:
            limit: Limit = getattr(_THREAD, "limit", None) or Limit(STALLED - waited)
            began = time.monotonic()
            with limited(limit):
                part = next(parts, None)
            if part is None:
                return
            limit.take(len(part))
            waited, got = waited + time.monotonic() - began, got + len(part)
            if got >= BLOCK:
                waited, got = 0.0, 0
            yield part

    def close(self) -> None:
        self.inner.close()


class _Transport(httpx2.BaseTransport):
    def __init__(self, inner: httpx2.BaseTransport):
        self.inner = inner
        inner._pool._network_backend = _Backend()  # type: ignore[attr-defined]  # there is no argument for it

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = self.inner.handle_request(request)
        if (coding := response.headers.get("Content-Encoding", "identity").lower()) not in ("identity", ""):
            response.close()  # a few bytes of it can be gigabytes
            raise httpx2.RemoteProtocolError(f"the answer is {coding[:20]}, though it was asked for as it is")
        response.stream = _Body(response.stream)
        return response

    def close(self) -> None:
        self.inner.close()


class Client(httpx2.Client):
    """httpx2's client. A request, with its redirects and, unless it is streamed, its whole answer is held to
    `seconds` and `size`, or else to the limit of a `limited` around it; a streamed body as `_Body` says.
    """

    def __init__(self, seconds: float, size: int | None, **options: Any):
        options = {"follow_redirects": True, "max_redirects": MAX_REDIRECTS} | options
        options.setdefault("timeout", httpx2.Timeout(seconds, connect=min(CONNECT, seconds)))
        super().__init__(**options)
        self.seconds, self.size = seconds, size

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        with limited(getattr(_THREAD, "limit", None) or Limit(self.seconds, self.size)):
            return super().send(request, **options)

    def _init_transport(self, *args: Any, **options: Any) -> httpx2.BaseTransport:
        return _Transport(super()._init_transport(*args, **options))

    def _init_proxy_transport(self, *args: Any, **options: Any) -> httpx2.BaseTransport:
        return _Transport(super()._init_proxy_transport(*args, **options))


@lru_cache(1)
def limit_hub() -> None:
    """Lets huggingface_hub, in this process, ask with a `Client`."""
    from huggingface_hub import get_session, set_client_factory

    hooks = get_session().event_hooks  # offline mode and the like
    set_client_factory(lambda: Client(STALLED, MAX_API_REPLY, timeout=None, event_hooks=hooks))


@contextlib.contextmanager
def http_errors(url: str) -> Iterator[None]:
    """Turns what httpx2 raises into an HttpError that names the URL."""
    try:
        yield
    except httpx2.TimeoutException:
        raise HttpError(f"{url}: the server takes too long") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, ValueError) as error:
        raise HttpError(f"{url}: {one_line(error)}") from None


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"
