"""What the lines do to bytes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cluster.real.handshake import Handshake
from cluster.real.wire import encode
from ops.addresses import HOST
from tests.nemesis.proxy import Opening, Proxy, client_opening, peer_opening
from tests.nemesis.ways import CLIENTS, Ways
from tests.process.ports import node_ports
from tests.process.running import async_test

LIMIT_S = 10.0
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def proxied(ways: Ways, opening: Opening = client_opening) -> AsyncIterator[Callable[[], Awaitable[Line]]]:
    """An echo behind a proxy; what opens a connection to it."""
    own, port = node_ports(2)
    server = await asyncio.start_server(_echo, HOST, own)
    proxy = Proxy("n2", (HOST, own), ways, opening)
    await proxy.listen(HOST, port)
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> Line:
        reader, writer = await asyncio.open_connection(HOST, port)
        opened.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in opened:
            writer.close()
        await proxy.close()
        server.close()


def all_ways() -> Ways:
    return Ways(["n1", "n2"], random.Random(1))


async def held_up(reader: asyncio.StreamReader) -> asyncio.Task[bytes]:
    """A read that does not end, however often the loop turns."""
    waiting = asyncio.create_task(reader.readexactly(4))
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done()
    return waiting


@async_test(LIMIT_S)
async def test_bytes_pass_unchanged_and_so_does_the_end() -> None:
    async with proxied(all_ways()) as connect:
        reader, writer = await connect()
        data = random.Random(2).randbytes(300_000)
        writer.write(data)
        writer.write_eof()
        assert await reader.read(-1) == data


@pytest.mark.parametrize("pair", [(CLIENTS, "n2"), ("n2", CLIENTS)])
@async_test(LIMIT_S)
async def test_dark_way_holds_back_until_it_is_mended(pair: tuple[str, str]) -> None:
    ways = all_ways()
    async with proxied(ways) as connect:
        reader, writer = await connect()
        writer.write(b"here")
        assert await reader.readexactly(4) == b"here"
        ways.way(*pair).darken()
        writer.write(b"late")
        waiting = await held_up(reader)
        ways.mend(cut=False)
        assert await waiting == b"late"


@async_test(LIMIT_S)
async def test_mending_with_a_cut_loses_what_waited() -> None:
    ways = all_ways()
    async with proxied(ways) as connect:
        reader, writer = await connect()
        writer.write(b"here")
        assert await reader.readexactly(4) == b"here"
        ways.part(["n2"], [CLIENTS])
        writer.write(b"lost")
        ways.mend(cut=True)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(4)
        again, other = await connect()
        other.write(b"next")
        assert await again.readexactly(4) == b"next"


@async_test(LIMIT_S)
async def test_dark_way_lets_no_connection_through() -> None:
    ways = all_ways()
    ways.part(["n2"], [CLIENTS])
    async with proxied(ways) as connect:
        reader, writer = await connect()
        writer.write(b"late")
        waiting = await held_up(reader)
        ways.mend(cut=False)
        assert await waiting == b"late"


@async_test(LIMIT_S)
async def test_torn_way_loses_the_connection_after_so_many_bytes() -> None:
    ways = all_ways()
    ways.way(CLIENTS, "n2").tear(10, 10, ways.rng)
    async with proxied(ways) as connect:
        reader, writer = await connect()
        writer.write(b"x" * 25)
        with contextlib.suppress(ConnectionError):  # the usual end of a connection that is cut
            assert len(await reader.read(-1)) <= 10
        again, other = await connect()
        other.write(b"y" * 9)
        assert await again.readexactly(9) == b"y" * 9


@async_test(LIMIT_S)
async def test_late_and_slow_ways_lose_nothing() -> None:
    ways = all_ways()
    ways.way(CLIENTS, "n2").delay_s = 0.05
    ways.way("n2", CLIENTS).bytes_per_s = 1_000_000
    async with proxied(ways) as connect:
        reader, writer = await connect()
        data = random.Random(3).randbytes(100_000)
        writer.write(data)
        writer.write_eof()
        assert await reader.read(-1) == data


@async_test(LIMIT_S)
async def test_peers_are_known_by_what_they_say_first() -> None:
    ways = all_ways()
    async with proxied(ways, peer_opening) as connect:
        first = encode(Handshake(b"s" * 32, dialer=True, hello={"node_id": "n1"}).first())
        reader, writer = await connect()
        writer.write(first)
        assert await reader.readexactly(len(first)) == first
        ways.way("n1", "n2").darken()
        writer.write(b"late")
        waiting = await held_up(reader)
        ways.mend(cut=False)
        assert await waiting == b"late"


@async_test(LIMIT_S)
async def test_who_is_no_peer_is_cut_off() -> None:
    async with proxied(all_ways(), peer_opening) as connect:
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", encode({"nonce": b""}), encode([1]), b"\x00\x00\x00\x01\xc1"):
            reader, writer = await connect()
            writer.write(nonsense)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
