"""One client connection: it tells who waits on it when the client goes, and writes replies as ready-made bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
DRAINED_ABOVE_BYTES = 64 << 10
"""Replies above this wait until the client has taken them, so that a slow reader holds its memory only once."""

MalformedReply = Callable[[str], "WireReply"]


class Connection(RequestHandler):
    """aiohttp's protocol with two additions: `on_lost`, and problem documents for what is not HTTP."""

    __slots__ = ("_lost_callbacks", "malformed")

    def __init__(self, *args: Any, malformed: MalformedReply, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lost_callbacks: dict[object, Callable[[], None]] = {}
        self.malformed = malformed

    def on_lost(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the client's connection is gone; returns the way to stop listening."""
        if self.transport is None:
            callback()
        token = object()
        self._lost_callbacks[token] = callback

        def stop() -> None:
            self._lost_callbacks.pop(token, None)

        return stop

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        callbacks, self._lost_callbacks = self._lost_callbacks, {}
        for callback in callbacks.values():
            callback()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are no request; handlers' own errors never come here."""
        reply = self.malformed(message or "the request is not HTTP")
        reply.keep_alive = False
        return reply.as_response()


class WireReply:
    """A reply as bytes. It has the three members that aiohttp asks of a response, and none of their cost."""

    __slots__ = ("body", "head", "keep_alive", "status")

    def __init__(self, status: int, head: str, body: bytes) -> None:
        self.status = status
        self.head = head
        self.body = body
        self.keep_alive: bool | None = None

    def as_response(self) -> web.StreamResponse:
        """Itself, under the type that aiohttp's signatures name."""
        response: Any = self
        return response  # type: ignore[no-any-return]  # it is one by its members, not by its ancestors

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write head and body in one piece."""
        if self.keep_alive is None:
            self.keep_alive = request.keep_alive
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        close = ""
        if not self.keep_alive:
            close = "Connection: close\r\n"
        elif request.version.minor == 0:
            close = "Connection: keep-alive\r\n"
        head = f"HTTP/1.1 {self.status} {REASONS[self.status]}\r\n{self.head}{close}\r\n".encode("latin-1")
        transport.write(head if request.method == "HEAD" else head + self.body)
        if len(self.body) > DRAINED_ABOVE_BYTES:
            await request.writer.drain()

    async def write_eof(self) -> None:
        """Everything is written already."""
