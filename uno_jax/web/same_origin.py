"""Refuses requests that other pages make to this one's server, as any page open in the same browser could."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_own(host: str, origin: str, loopback: bool) -> bool:
    """Whether a request with these headers is the page's own; `origin` is empty where the browser sends none.
    A server that listens at this computer only has no other name: one that resolves to it is a trick.
    """
    if loopback and urlsplit(f"//{host}").hostname not in LOOPBACK:
        return False
    return not origin or urlsplit(origin).netloc.lower() == host.lower()


class SameOrigin:
    """ASGI middleware: answers 403 to what is not the page's own."""

    def __init__(self, app: App, loopback: bool) -> None:
        self.app, self.loopback = app, loopback

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
        known = scope["type"] not in ("http", "websocket")
        if known or is_own(headers.get(b"host", ""), headers.get(b"origin", ""), self.loopback):
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b"requests from other pages are refused"})
