"""A reply that is written piece by piece."""

from __future__ import annotations

import asyncio

from node.http.connection import Connection
from node.http.message import HttpMessage
from node.http.reply import REASONS


class HttpStream:
    """A reply of unknown length: chunks for HTTP/1.1, until the end of the connection for HTTP/1.0."""

    def __init__(self, connection: Connection, message: HttpMessage) -> None:
        self._connection = connection
        self._message = message
        self._chunked = message.minor_version > 0
        if not self._chunked:
            message.keep_alive = False

    def begin(self, head: str) -> None:
        """Write the head: 200, and these header lines. Raises ConnectionResetError."""
        framing = "Transfer-Encoding: chunked\r\n" if self._chunked else ""
        if not self._message.keep_alive:
            framing += "Connection: close\r\n"
        self._write(f"HTTP/1.1 200 {REASONS[200]}\r\n{head}{framing}\r\n".encode("latin-1"))

    async def write(self, data: bytes) -> None:
        """Write a piece, and wait while the client takes nothing. Raises ConnectionResetError."""
        self._write(self._frame(data))
        await self._connection.drain()

    async def end(self) -> None:
        """Write the end. Raises ConnectionResetError."""
        if self._chunked:
            self._write(b"0\r\n\r\n")
        await self._connection.drain()

    def cut_off(self, data: bytes, patience_s: float) -> None:
        """A last piece for a client that takes nothing: it may still read it within that time, then it is cut."""
        transport = self._connection.transport
        self._message.keep_alive = False
        if transport is not None:
            transport.write(self._frame(data) + (b"0\r\n\r\n" if self._chunked else b""))
            transport.close()
            asyncio.get_running_loop().call_later(patience_s, transport.abort)

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _write(self, data: bytes) -> None:
        transport = self._connection.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        transport.write(data)
