"""One client connection: requests one after the other, each answered before the next is begun (RFC 9112).

The parser is llhttp (httptools). It refuses what may be read in two ways (two lengths, a length beside chunks); what a
client may cost is bounded here: the head, the part of a body that nobody reads, idle time, replies nobody takes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import httptools

from node.http.message import BodyBrokenError, HttpMessage
from node.http.reply import WireReply

HEAD_BYTES_MAX = 64 << 10
TARGET_BYTES_MAX = 16 << 10
HEADERS_MAX = 128
IDLE_S = 75.0
"""How long a connection may be without a request, and a head take to come."""

LINGER_S = 2.0
"""After the last reply of a connection whose client is still sending, so that a reset does not overtake the reply."""

DRAINED_ABOVE_BYTES = 64 << 10
"""Replies above this wait until the client has taken them, so that a slow reader holds its memory only once."""

Handler = Callable[["Connection", HttpMessage], Awaitable[WireReply | None]]
"""Answers a request; None when it was answered by a stream. Raises ConnectionError when nobody is there any more."""

Malformed = Callable[[str], WireReply]
"""The answer to bytes that are no request, given what is wrong."""


class Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_callbacks",
        "_deaf",
        "_drained",
        "_fault",
        "_full",
        "_handle",
        "_head_bytes",
        "_idle_since_s",
        "_incoming",
        "_loop",
        "_malformed",
        "_open",
        "_parser",
        "_paused",
        "_timer",
        "_waiting",
        "task",
        "transport",
    )

    def __init__(self, handle: Handler, malformed: Malformed, open_connections: set[Connection]) -> None:
        """`open_connections` is whom it enters while it lives."""
        self._loop = asyncio.get_running_loop()
        self._handle = handle
        self._malformed = malformed
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None
        self._incoming: HttpMessage | None = None
        self._waiting: deque[HttpMessage] = deque()
        self._head_bytes = 0
        self._fault: str | None = None
        self._paused = False
        self._deaf = False
        self._full = False
        self._drained: asyncio.Future[None] | None = None
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._idle_since_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # --- the transport's side -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports are none of asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)
        self._open.add(self)
        wire = transport.get_extra_info("socket")
        if wire is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._idle_since_s = self._loop.time()
        self._timer = self._loop.call_later(IDLE_S, self._look)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.transport = None
        self._open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._incoming is not None:
            self._incoming.fail(BodyBrokenError("the client has gone"))
        self._wake_drained()
        callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks.values():
            callback()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake_drained()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        before = self._incoming
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing is upgraded to; what follows is in another protocol.
            self._deaf = True
        except httptools.HttpParserError as error:
            self._fault = self._fault or str(error)
        message = self._incoming
        if message is not None and not message.method and message is before:
            # The parser keeps a header until it is whole.
            self._count_head(len(data))
        if self._fault is not None:
            self._refuse(self._fault)
        elif message is not None and message.method and not message.started:
            self._arrived(message)

    # --- the parser's side --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._incoming = HttpMessage(self._pause, self._resume)
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        message = self._message()
        message.target += url.decode("latin-1")
        if len(message.target) > TARGET_BYTES_MAX:
            self._fault = f"a target of more than {TARGET_BYTES_MAX} bytes"

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._message().headers
        headers.setdefault(name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape"))
        self._count_head(len(name) + len(value))
        if len(headers) > HEADERS_MAX:
            self._fault = f"more than {HEADERS_MAX} headers"

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            self._fault = f"a head of more than {HEAD_BYTES_MAX} bytes"

    def on_headers_complete(self) -> None:
        message, parser = self._message(), self._parser
        message.method = parser.get_method().decode("latin-1")
        message.minor_version = 0 if parser.get_http_version() == "1.0" else 1
        message.keep_alive = parser.should_keep_alive() and not parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        self._message().feed(body)

    def on_message_complete(self) -> None:
        message = self._message()
        message.finish()
        self._incoming = None
        if not message.started and self._fault is None:
            self._arrived(message)

    def _message(self) -> HttpMessage:
        message = self._incoming
        if message is None:
            raise AssertionError("the parser speaks of a message that has not begun")
        return message

    # --- requests -----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.task is not None

    def on_lost(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the client's connection is gone; returns the way to stop listening."""
        if self.transport is None:
            callback()
        token = object()
        self._callbacks[token] = callback

        def stop() -> None:
            self._callbacks.pop(token, None)

        return stop

    def _arrived(self, message: HttpMessage) -> None:
        message.started = True
        if self.task is not None:
            # One at a time: those behind it wait, and no more are read.
            self._waiting.append(message)
            self._pause()
            return
        self.task = self._loop.create_task(self._serve(message))

    async def _serve(self, message: HttpMessage) -> None:
        """Answer this message and those that wait behind it."""
        try:
            while await self._answer(message):
                if not self._waiting:
                    self._idle_since_s = self._loop.time()
                    return
                message = self._waiting.popleft()
                if not self._waiting:
                    self._resume()
        except ConnectionError:
            self.abort()
        except BaseException:
            # A client that waits for a reply which nobody makes any more would wait for ever.
            self.abort()
            raise
        finally:
            self.task = None

    async def _answer(self, message: HttpMessage) -> bool:
        """Whether another request may follow."""
        reply = await self._handle(self, message)
        if not message.complete:
            message.keep_alive = False
        if reply is not None:
            transport = self.transport
            if transport is None:
                return False
            transport.write(reply.encode(message))
            if len(reply.body) > DRAINED_ABOVE_BYTES:
                await self.drain()
        if message.keep_alive and not self._deaf:
            return True
        self._end(message)
        return False

    def _refuse(self, fault: str) -> None:
        """What came is no request: say so, and end."""
        self._deaf = True
        if self._incoming is not None:
            self._incoming.fail(BodyBrokenError(fault))
            if self._incoming.started:
                return  # whoever reads its body answers
        if self.transport is None or self.task is not None:
            return  # the one before it is answered, and nothing follows
        message = HttpMessage(self._pause, self._resume)
        message.keep_alive = False
        self.transport.write(self._malformed(fault).encode(message))
        self._end(message)

    def _end(self, message: HttpMessage) -> None:
        """Close behind the last reply."""
        self._deaf = True
        self._waiting.clear()
        transport = self.transport
        if transport is None:
            return
        if message.complete:
            transport.close()
            return
        # Closing while the client sends would reset the connection, and the reply with it (RFC 9112, 9.6).
        self._resume()
        if transport.can_write_eof():
            transport.write_eof()
        self._loop.call_later(LINGER_S, transport.abort)

    # --- what a stream needs ------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until the client has taken most of what was written. Raises ConnectionResetError when it has gone."""
        while self._full and self.transport is not None:
            self._drained = self._loop.create_future()
            await self._drained
        if self.transport is None:
            raise ConnectionResetError("the client has gone")

    def _wake_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def close_if_idle(self) -> None:
        """Close now, unless a request is being answered."""
        if self.task is None and self.transport is not None:
            self.transport.close()

    def close(self) -> None:
        """Close behind what was written."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abort()

    def _look(self) -> None:
        """From time to time: an idle connection is closed."""
        idle_s = 0.0 if self.task is not None else self._loop.time() - self._idle_since_s
        if idle_s >= IDLE_S:
            self.abort()
        else:
            self._timer = self._loop.call_later(IDLE_S - idle_s, self._look)

    def _pause(self) -> None:
        if not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
