"""The HTTP wire against servers that misbehave: what was never sent is told apart from what may have arrived."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hive_client import Client
from hive_client.testing import FakeHive
from hive_client.wire import Cut, HttpWire, NotSent, Request

from tests.clients.running import async_test, raised

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GET = Request("GET", "/api")


@asynccontextmanager
async def served(talk: Talk) -> AsyncIterator[str]:
    """A raw TCP server on the loopback interface."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def wire() -> AsyncIterator[HttpWire]:
    opened = HttpWire()
    try:
        yield opened
    finally:
        await opened.close()


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@async_test
async def test_a_closed_port_means_not_sent() -> None:
    async with wire() as opened:
        await raised(opened.send(closed_port(), GET, 5), NotSent)


@async_test
async def test_a_connection_closed_without_answer_means_cut() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with served(hang_up) as url, wire() as opened:
        await raised(opened.send(url, Request("POST", "/api/tasks", body=b"{}"), 5), Cut)


@async_test
async def test_an_answer_broken_off_in_the_middle_means_cut() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"task_id":')
        await writer.drain()

    async with served(half) as url, wire() as opened:
        await raised(opened.send(url, GET, 5), Cut)


@async_test
async def test_silence_means_cut() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with served(silent) as url, wire() as opened:
        await raised(opened.send(url, GET, 0.05), Cut)
        await raised(opened.open_stream(url, GET, 0.05), Cut)


@async_test
async def test_an_endless_answer_is_not_swallowed() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"x" * 65536
        try:
            while True:
                writer.write(b"10000\r\n" + block + b"\r\n")
                await writer.drain()
        except ConnectionError:
            return

    async with served(flood) as url, wire() as opened:
        error = await raised(opened.send(url, GET, 30), Cut)
        assert "larger than" in str(error)
        stream = await opened.open_stream(url, GET, 30)
        error = await raised(stream.line(), Cut)
        assert "longer than" in str(error)


@async_test
async def test_a_redirect_is_not_followed() -> None:
    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with served(elsewhere) as url, wire() as opened:
        assert (await opened.send(url, GET, 5)).status == 307


@async_test
async def test_a_lost_reply_over_http_leaves_exactly_one_task() -> None:
    async with FakeHive() as fake, Client(fake.url) as client:
        fake.faults.lose_reply("/api/tasks", times=3)
        task = await client.tasks.create(title="once")
        assert [t.task_id for t in fake.tasks()] == [task.task_id]
        assert task.reply is not None
        assert task.reply.replayed
        assert len({seen.key for seen in fake.requests}) == 1
        assert len(fake.requests) == 4


@async_test
async def test_the_second_node_serves_when_the_first_is_gone() -> None:
    async with FakeHive() as fake, Client([closed_port(), fake.url]) as client:
        assert (await client.tasks.create(title="x")).status == "pending"
