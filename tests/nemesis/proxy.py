"""A TCP proxy before a node's port: passes bytes on as the ways between the two ends allow."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack

from tests.nemesis.pauses import pause
from tests.nemesis.ways import CLIENTS, Way, Ways

_CHUNK_BYTES = 64 << 10
_CHUNKS_WAITING_MAX = 64
_HELLO_BYTES_MAX = 64 << 10
_LENGTH = struct.Struct(">I")

Opening = Callable[[asyncio.StreamReader], Awaitable[tuple[str, bytes]]]
"""Who opens a connection, and the bytes that had to be read to know it."""


async def client_opening(_: asyncio.StreamReader) -> tuple[str, bytes]:
    """Whoever comes to an HTTP port is a client."""
    return CLIENTS, b""


async def peer_opening(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """A node says first who it is. Raises ValueError for somebody else."""
    head = await reader.readexactly(_LENGTH.size)
    (length,) = _LENGTH.unpack(head)
    if length > _HELLO_BYTES_MAX:
        raise ValueError("no hello")
    body = await reader.readexactly(length)
    first: dict[str, Any] = msgpack.unpackb(body)
    node_id: str = msgpack.unpackb(first["hello"])["node_id"]
    return node_id, head + body


class Proxy:
    """Listens in the place of `target`, which is really at `address`."""

    def __init__(self, target: str, address: tuple[str, int], ways: Ways, opening: Opening) -> None:
        self._target = target
        self._address = address
        self._ways = ways
        self._opening = opening
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> None:
        """Take connections. Raises OSError."""
        self._server = await asyncio.start_server(self._accepted, host, port, limit=_CHUNK_BYTES)

    async def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            source, begin = await self._opening(reader)
            there, back = self._ways.both(source, self._target)
            # A connection is only there when its first packets have come through, in both directions.
            await there.light()
            await back.light()
            target_reader, target_writer = await asyncio.open_connection(*self._address, limit=_CHUNK_BYTES)
            ends.append(target_writer)
            await _Connection(self._ways, there, back).run((reader, writer), (target_reader, target_writer), begin)
        except (OSError, EOFError, ValueError, KeyError, TypeError, msgpack.UnpackException):
            pass  # nobody is there, or it was no peer: whoever came is cut off
        finally:
            for end in ends:
                end.transport.abort()


_End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One connection and the two ways it takes."""

    def __init__(self, ways: Ways, there: Way, back: Way) -> None:
        self._ways = ways
        self._there = there
        self._back = back
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """See `ways.Cuttable`."""
        self._cut.set()

    async def run(self, source: _End, target: _End, begin: bytes) -> None:
        """Pass bytes both ways until both ends are done, one is broken, or it is cut."""
        for way in (self._there, self._back):
            way.connections.add(self)
        works = [
            asyncio.create_task(work)
            for work in (
                self._pass(source[0], target[1], self._there, begin),
                self._pass(target[0], source[1], self._back, b""),
            )
        ]
        cut = asyncio.create_task(self._cut.wait())
        try:
            while not cut.done() and not all(work.done() for work in works):
                await asyncio.wait([cut, *(work for work in works if not work.done())], return_when="FIRST_COMPLETED")
        finally:
            for task in (*works, cut):
                task.cancel()
            await asyncio.gather(*works, cut, return_exceptions=True)
            for way in (self._there, self._back):
                way.connections.discard(self)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way, begin: bytes) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_WAITING_MAX)
        loop = asyncio.get_running_loop()
        sending = asyncio.create_task(self._send(queue, writer, way))
        try:
            await queue.put((loop.time(), begin))
            data = b"begun"
            while data and not sending.done():
                data = await reader.read(_CHUNK_BYTES)
                await queue.put((loop.time() + way.delay_s, data))
            await sending
        except OSError:
            self.cut()
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await sending

    async def _send(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, way: Way) -> None:
        loop = asyncio.get_running_loop()
        begun = False
        while True:
            due_s, data = await queue.get()
            await pause(due_s - loop.time(), self._cut)
            await way.light()
            if not data and begun:
                writer.write_eof()
                return
            begun = True
            passed = way.passes(len(data), self._ways.rng)
            writer.write(data[:passed])
            await writer.drain()
            if passed < len(data):
                self.cut()
                return
            if way.bytes_per_s:
                await pause(len(data) / way.bytes_per_s, self._cut)
