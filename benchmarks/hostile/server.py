"""A server that misbehaves in every way of BEHAVIOURS.

with serving() as server:
    server.url("trickle_body", "picture.png")    # http://127.0.0.1:PORT/trickle_body/picture.png

The first folder of a URL's path names the behaviour. Whatever follows it is answered alike, by `content`'s
bytes where a behaviour has a body at all, so the same server plays a picture's host, a list's, the hub
(HF_ENDPOINT=server.url("silent")) and a language model's endpoint (server.url("silent", "v1")).

python -m benchmarks.hostile.server [FILE] serves until it is interrupted, and prints every base URL.
"""

import contextlib
import gzip
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

TRICKLE = 0.5  # seconds between bytes
LONG = 1 << 30  # Retry-After and the like
BLOCK = b"\0" * (1 << 16)


class Gone(Exception):
    """The client has closed the connection, or the server stops."""


@dataclass
class Exchange:
    """One request and the connection to answer it on."""

    connection: socket.socket
    stop: threading.Event
    origin: str
    path: str
    headers: dict[str, str]
    content: bytes
    trickle: float

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self.stop.is_set():
                raise Gone
            if select.select([], [self.connection], [], 0.2)[1]:
                view = view[self.connection.send(view[: 1 << 16]) :]

    def wait(self, seconds: float) -> None:
        """Pauses; raises Gone as soon as the client has left."""
        if self.stop.wait(seconds):
            raise Gone
        if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(1, socket.MSG_PEEK):
            raise Gone

    def head(self, status: str = "200 OK", **headers: object) -> None:
        lines = [
            f"HTTP/1.1 {status}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def answer(self, status: str = "200 OK", body: bytes | None = None, **headers: object) -> None:
        body = self.content if body is None else body
        self.head(status, **{"Content_Length": len(body), "Connection": "close"} | headers)
        self.send(body)

    def forever(self, data: bytes, pause: float = 0.0) -> None:
        while True:
            self.send(data)
            if pause:
                self.wait(pause)


@cache
def _bomb() -> bytes:
    return gzip.compress(b"\0" * (1 << 24), 1) * 128


Behaviour = Callable[[Exchange], None]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(act: Behaviour) -> Behaviour:
    BEHAVIOURS[act.__name__] = act
    return act


@behaviour
def good(it: Exchange) -> None:
    it.answer()


@behaviour
def silent(it: Exchange) -> None:
    while True:
        it.wait(0.2)


@behaviour
def trickle_headers(it: Exchange) -> None:
    it.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    it.forever(b"a", it.trickle)


@behaviour
def trickle_body(it: Exchange) -> None:
    it.head(Content_Length=1 << 30)
    it.forever(b" ", it.trickle)


@behaviour
def endless_body(it: Exchange) -> None:
    it.head(Connection="close")
    it.forever(BLOCK)


@behaviour
def endless_spaces(it: Exchange) -> None:
    """White space, which JSON may begin with."""
    it.head(Connection="close")
    it.forever(b" " * len(BLOCK))


@behaviour
def endless_chunks(it: Exchange) -> None:
    it.head(Transfer_Encoding="chunked")
    it.forever(b"10000\r\n" + BLOCK + b"\r\n")


@behaviour
def endless_header(it: Exchange) -> None:
    it.send(b"HTTP/1.1 200 OK\r\n")
    it.forever(b"X-Header: " + b"a" * 1000 + b"\r\n")


@behaviour
def endless_continue(it: Exchange) -> None:
    it.forever(b"HTTP/1.1 100 Continue\r\n\r\n")


@behaviour
def header_of_1_mb(it: Exchange) -> None:
    it.answer(X_Long="a" * (1 << 20))


@behaviour
def gzip_bomb(it: Exchange) -> None:
    """Two gigabytes of zeros in two megabytes."""
    it.answer(body=_bomb(), Content_Encoding="gzip")


@behaviour
def length_too_long(it: Exchange) -> None:
    it.answer(Content_Length=len(it.content) + 1000)


@behaviour
def length_too_short(it: Exchange) -> None:
    it.answer(Content_Length=max(0, len(it.content) // 2))


@behaviour
def length_of_petabytes(it: Exchange) -> None:
    it.head(Content_Length=1 << 50)
    it.forever(BLOCK)


@behaviour
def length_negative(it: Exchange) -> None:
    it.answer(Content_Length=-5)


@behaviour
def length_is_text(it: Exchange) -> None:
    it.answer(Content_Length="many")


@behaviour
def bad_chunks(it: Exchange) -> None:
    it.head(Transfer_Encoding="chunked")
    it.send(b"-5\r\nabc\r\nzz\r\n")


@behaviour
def huge_chunk(it: Exchange) -> None:
    it.head(Transfer_Encoding="chunked")
    it.send(b"f" * 15 + b"\r\n")
    it.forever(BLOCK)


@behaviour
def closes_at_once(it: Exchange) -> None:
    pass


@behaviour
def resets(it: Exchange) -> None:
    it.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@behaviour
def closes_in_headers(it: Exchange) -> None:
    it.send(b"HTTP/1.1 200 OK\r\nContent-Ty")


@behaviour
def closes_in_body(it: Exchange) -> None:
    it.head(Content_Length=len(it.content))
    it.send(it.content[: len(it.content) // 2])


@behaviour
def no_http(it: Exchange) -> None:
    it.send(b"\x00\xff SSH-2.0-nothing\r\n\r\n")


@behaviour
def redirect_loop(it: Exchange) -> None:
    it.answer("302 Found", b"", Location=it.path)


@behaviour
def redirects_300(it: Exchange) -> None:
    base, _, number = it.path.partition("?hop=")
    hop = int(number or 0) + 1
    if hop > 300:
        it.answer()
    else:
        it.answer("307 Temporary Redirect", b"", Location=f"{base}?hop={hop}")


@behaviour
def redirect_to_other_host(it: Exchange) -> None:
    """To `good` under another name of this machine: keys are not for that."""
    _, _, rest = it.path.lstrip("/").partition("/")
    it.answer(
        "307 Temporary Redirect", b"", Location=f"{it.origin.replace('127.0.0.1', 'localhost')}/good/{rest}"
    )


@behaviour
def redirect_to_file(it: Exchange) -> None:
    it.answer("302 Found", b"", Location="file:///etc/passwd")


@behaviour
def redirect_to_ftp(it: Exchange) -> None:
    it.answer("302 Found", b"", Location="ftp://127.0.0.1/file")


@behaviour
def redirect_to_nonsense(it: Exchange) -> None:
    it.answer("302 Found", b"", Location="http://[::1/\x7f\x01")


@behaviour
def redirect_to_nowhere(it: Exchange) -> None:
    it.answer("302 Found", b"")


@behaviour
def status_403(it: Exchange) -> None:
    it.answer("403 Forbidden", b"no")


@behaviour
def status_404(it: Exchange) -> None:
    it.answer("404 Not Found", b"no")


@behaviour
def status_429(it: Exchange) -> None:
    it.answer("429 Too Many Requests", b"no", Retry_After=LONG)


@behaviour
def status_500(it: Exchange) -> None:
    it.answer("500 Internal Server Error", b"no", Retry_After=LONG)


@behaviour
def error_without_end(it: Exchange) -> None:
    it.head("500 Internal Server Error", Retry_After=LONG, Connection="close")
    it.forever(BLOCK)


@behaviour
def empty(it: Exchange) -> None:
    it.answer(body=b"")


@behaviour
def nested_json(it: Exchange) -> None:
    it.answer(body=b"[" * 200_000, Content_Type="application/json")


@behaviour
def nested_objects(it: Exchange) -> None:
    it.answer(body=b'{"choices":' * 100_000 + b"1" + b"}" * 100_000, Content_Type="application/json")


@behaviour
def nan_json(it: Exchange) -> None:
    it.answer(body=b'{"choices": NaN, "siblings": Infinity}', Content_Type="application/json")


@behaviour
def invalid_utf8(it: Exchange) -> None:
    it.answer(body=b'{"choices": "\xff\xfe\xc3("}', Content_Type="application/json")


@behaviour
def other_range(it: Exchange) -> None:
    """Another part of the file than was asked for, of a size that no file has."""
    it.answer("206 Partial Content", Content_Range=f"bytes 5-9/{1 << 50}")


@dataclass
class Server:
    """A running server; `requests` holds the path and the headers of each, in the order they came."""

    port: int
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, name: str, rest: str = "") -> str:
        return f"http://127.0.0.1:{self.port}/{name}" + (f"/{rest}" if rest else "")


@contextlib.contextmanager
def serving(content: bytes = b"", trickle: float = TRICKLE) -> Iterator[Server]:
    """A server on a free port of this machine, until the block ends.

    `content` is the body of the behaviours that send a proper one; `trickle` is the pause between the bytes
    of those that send one at a time, in seconds.
    """
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        server = Server(listener.getsockname()[1])

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError, Gone, ValueError):
                connection.settimeout(10)
                path, headers = _request(connection)
                server.requests.append((path, headers))
                origin = f"http://127.0.0.1:{server.port}"
                act = BEHAVIOURS.get(path.strip("/").partition("/")[0].partition("?")[0], status_404)
                act(Exchange(connection, stop, origin, path, headers, content, trickle))

        def accept() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        listener.settimeout(0.1)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            stop.set()
            thread.join()


def _request(connection: socket.socket) -> tuple[str, dict[str, str]]:
    """The path and the headers of a request, whose body is read and forgotten."""
    with connection.makefile("rb") as file:
        path = file.readline(1 << 16).decode("latin-1").split()[1]
        headers = {}
        while line := file.readline(1 << 16).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        left = int(headers.get("content-length", 0))
        while left > 0:
            left -= len(file.read(min(left, 1 << 16))) or left
    return path, headers


def main() -> None:
    content = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else b""
    with serving(content) as server, contextlib.suppress(KeyboardInterrupt):
        print("\n".join(server.url(name) for name in BEHAVIOURS), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
