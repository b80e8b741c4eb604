"""One request as it comes in: its head is whole, its body may still be on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

UNREAD_BYTES_MAX = 256 << 10
"""So much of a body is kept while nobody reads it; then the connection is not read."""


class BodyTooLongError(Exception):
    """The body is longer than its reader takes."""


class BodyBrokenError(Exception):
    """The body ends before its end, or is malformed."""


class HttpMessage:
    """A request. Header names are in lower case; of a header that comes twice the first counts.

    `keep_alive`: whether the connection may serve another request after this one.
    """

    __slots__ = (
        "_chunks",
        "_error",
        "_length",
        "_limit_bytes",
        "_pause",
        "_resume",
        "_waiter",
        "complete",
        "headers",
        "keep_alive",
        "method",
        "minor_version",
        "started",
        "target",
    )

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """`pause` and `resume` stop and go on with the reading of the connection."""
        self.method = ""
        self.target = ""
        self.headers: dict[str, str] = {}
        self.minor_version = 1
        self.keep_alive = True
        self.started = False
        self.complete = False
        self._chunks: list[bytes] = []
        self._length = 0
        self._limit_bytes: int | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._pause = pause
        self._resume = resume

    @property
    def has_body(self) -> bool:
        """Whether its head announces a body."""
        headers = self.headers
        return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    @property
    def content_length(self) -> int:
        """What the head says of the body's length, bytes; 0 if it says nothing."""
        # The parser lets nothing pass that is no number.
        return int(self.headers.get("content-length", "0"))

    # --- the reader's side --------------------------------------------------------------------------------------------

    def read_now(self) -> bytes:
        """The body of a complete message."""
        chunks = self._chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. Raises BodyTooLongError, BodyBrokenError."""
        if self._length > limit_bytes:
            raise BodyTooLongError
        if self.complete:
            return self.read_now()
        if self._error is None:
            if self._limit_bytes is None:
                self._limit_bytes = limit_bytes
                self._resume()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error
        return self.read_now()

    # --- the connection's side ----------------------------------------------------------------------------------------

    def feed(self, chunk: bytes) -> None:
        """A part of the body."""
        if self._error is not None:
            return
        self._length += len(chunk)
        if self._limit_bytes is not None and self._length > self._limit_bytes:
            self.fail(BodyTooLongError())
            return
        self._chunks.append(chunk)
        if self._limit_bytes is None and self._length > UNREAD_BYTES_MAX:
            self._pause()

    def finish(self) -> None:
        """The body has ended."""
        self.complete = self._error is None
        self._wake()

    def fail(self, error: Exception) -> None:
        """The body will not come."""
        if not self.complete and self._error is None:
            self._error = error
            self._chunks.clear()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
