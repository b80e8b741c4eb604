"""One keep-alive HTTP connection and nothing else: for measuring, where a client library's own work must not count.

It never retries and never follows; a broken connection raises. Use `hive_client` for everything but measuring.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

REPLY_BYTES_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class RawReply:
    """A whole reply; header names in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class RawConnection:
    """Opened by `connect`; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, endpoint: str) -> RawConnection:
        """`endpoint` is http://host:port. Raises OSError."""
        parts = urlsplit(endpoint)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=REPLY_BYTES_MAX)
        return cls(reader, writer)

    async def exchange(self, request: bytes) -> RawReply:
        """Send an encoded request and read its reply to the end. Raises OSError or ValueError for a broken one."""
        self._writer.write(request)
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            status, headers = _parse_head(head)
            return RawReply(status, headers, await self._body(headers))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionResetError("the connection ended in the middle of a reply") from error

    async def _body(self, headers: dict[bytes, bytes]) -> bytes:
        if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
            return await self._reader.readexactly(min(int(headers.get(b"content-length", b"0")), REPLY_BYTES_MAX))
        chunks = []
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            chunks.append(await self._reader.readexactly(min(size, REPLY_BYTES_MAX)))
            await self._reader.readexactly(2)
        await self._reader.readuntil(b"\r\n")
        return b"".join(chunks)

    def close(self) -> None:
        self._writer.close()


def _parse_head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    lines = head.split(b"\r\n")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    version, _, rest = lines[0].partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError("the answer is not HTTP/1")
    return int(rest[:3]), headers


def encode_request(method: str, endpoint: str, target: str, body: bytes = b"") -> bytes:
    """The bytes of one request with a JSON body."""
    host = urlsplit(endpoint).netloc
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
