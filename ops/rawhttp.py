"""One keep-alive HTTP connection and nothing else: for measuring, where a client library's own work must not count.

It never retries and never follows; a broken connection raises. Use `hive_client` for everything but measuring.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

REPLY_BYTES_MAX = 8 << 20

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class RawReply:
    """A whole reply."""

    status: int
    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[bytes, bytes]:
        """By name in lower case; read when asked for, since most measurements do not ask."""
        return _headers(self.head)


class RawConnection(asyncio.Protocol):
    """Opened by `connect`; one request at a time. Streams would cost as much again as all the rest of an exchange."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[RawReply] | None = None
        self._received = bytearray()
        self._lacking = 0

    @classmethod
    async def connect(cls, endpoint: str) -> RawConnection:
        """`endpoint` is http://host:port. Raises OSError."""
        parts = urlsplit(endpoint)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, parts.hostname or "", parts.port or 80)
        return connection

    async def exchange(self, request: bytes) -> RawReply:
        """Send an encoded request and read its reply to the end. Raises OSError or ValueError for a broken one."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection has ended")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted to be asyncio.Transport: uvloop's transports are none of asyncio's classes.
        self._transport = transport  # type: ignore[assignment]  # a stream transport, whatever its class

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < self._lacking:
            return
        try:
            found = _parse(self._received)
        except ValueError as error:
            self._end(error)
            self.close()
            return
        if isinstance(found, RawReply):
            self._received.clear()
            self._lacking = 0
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(found)
        else:
            self._lacking = found

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._end(error or ConnectionResetError("the connection ended in the middle of a reply"))

    def _end(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


def _parse(received: bytearray) -> RawReply | int:
    """The one reply that these bytes are, or how many bytes it takes at least. Raises ValueError for what is none."""
    head_end = received.find(_HEAD_END)
    if head_end < 0:
        return len(received) + 1
    head, start = bytes(received[:head_end]), head_end + len(_HEAD_END)
    if not head.startswith(b"HTTP/1."):
        raise ValueError("the answer is not HTTP/1")
    status = int(head.partition(b" ")[2][:3])
    lowered = head.lower()
    if b"\r\ntransfer-encoding: chunked" in lowered:
        body = _chunks(received, start)
        return len(received) + 1 if body is None else RawReply(status, head, body)
    place = lowered.find(b"\r\ncontent-length:")
    length = 0 if place < 0 else int(lowered[place + 17 :].partition(b"\r\n")[0])
    if length > REPLY_BYTES_MAX:
        raise ValueError(f"a reply of {length} bytes is too large")
    if len(received) < start + length:
        return start + length
    return RawReply(status, head, bytes(received[start : start + length]))


def _chunks(received: bytearray, start: int) -> bytes | None:
    """The body of these chunks, None while the last one is not there."""
    chunks: list[bytes] = []
    while (line_end := received.find(b"\r\n", start)) >= 0:
        size = int(received[start:line_end].split(b";")[0], 16)
        start, end = line_end + 2, line_end + 2 + size
        if len(received) < end + 2:
            return None
        if size == 0:
            return b"".join(chunks)
        chunks.append(bytes(received[start:end]))
        start = end + 2
    return None


def _headers(head: bytes) -> dict[bytes, bytes]:
    headers = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return headers


def encode_request(method: str, endpoint: str, target: str, body: bytes = b"") -> bytes:
    """The bytes of one request with a JSON body."""
    host = urlsplit(endpoint).netloc
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
