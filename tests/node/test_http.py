"""HTTP on a connection, under clients of every kind: a real socket, a handler of the test."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from node.http import connection as connection_module
from node.http.connection import HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX, Connection
from node.http.message import UNREAD_BYTES_MAX, BodyBrokenError, BodyTooLongError, HttpMessage
from node.http.reply import WireReply
from node.http.server import HttpServer, bind
from node.http.stream import HttpStream
from tests.node.harness import run, until

Handle = Callable[[Connection, HttpMessage], Awaitable[WireReply | None]]


def _text(body: bytes, status: int = 200) -> WireReply:
    return WireReply(status, f"Content-Length: {len(body)}\r\n", body)


def _malformed(detail: str) -> WireReply:
    return _text(detail.encode(), 400)


async def _echo(_: Connection, message: HttpMessage) -> WireReply:
    body = await message.read(1 << 20)
    return _text(f"{message.method} {message.target} ".encode() + body)


class _Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of one reply with a length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        return int(status.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self) -> bytes:
        return await self.reader.read()


@asynccontextmanager
async def _serving(handle: Handle = _echo) -> AsyncIterator[tuple[HttpServer, Callable[[], Awaitable[_Client]]]]:
    server = HttpServer(handle, _malformed)
    port = await server.start(bind("127.0.0.1", 0))
    clients: list[_Client] = []

    async def connect() -> _Client:
        client = _Client(*await asyncio.open_connection("127.0.0.1", port))
        clients.append(client)
        return client

    try:
        yield server, connect
    finally:
        for client in clients:
            client.writer.close()
        await server.stop(5)


GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_of_one_connection_are_answered_in_order_however_they_arrive() -> None:
    async def test() -> None:
        async with _serving() as (_, connect):
            client = await connect()
            await client.send(b"".join(GET % number for number in range(100)))
            for number in range(100):
                assert (await client.reply())[2] == b"GET /%d " % number
            for byte in b"PUT /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
                await client.send(bytes([byte]))
            assert (await client.reply())[2] == b"PUT /slow abc"
            await client.send(b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
            await client.send(b"1\r\nc\r\n0\r\n\r\n" + GET % 7)
            assert (await client.reply())[2] == b"POST /c abc"
            assert (await client.reply())[2] == b"GET /7 "

    run(test())


def test_a_request_behind_one_that_waits_is_not_begun_and_no_more_is_read() -> None:
    begun: list[str] = []
    go_on = asyncio.Event()

    async def slow(connection: Connection, message: HttpMessage) -> WireReply:
        begun.append(message.target)
        await go_on.wait()
        return await _echo(connection, message)

    async def test() -> None:
        async with _serving(slow) as (server, connect):
            client = await connect()
            await client.send(GET % 1 + GET % 2)
            connection = await _only(server)
            await until(lambda: bool(begun) and not _reads(connection))
            assert begun == ["/1"]
            go_on.set()
            assert [(await client.reply())[2] for _ in range(2)] == [b"GET /1 ", b"GET /2 "]
            await client.send(GET % 3)
            assert (await client.reply())[2] == b"GET /3 "

    run(test())


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n",
        b"GET /" + b"a" * TARGET_BYTES_MAX + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(HEADERS_MAX + 1)) + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * (HEAD_BYTES_MAX + 1) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * (1 << 20),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ends(data: bytes) -> None:
    async def test() -> None:
        async with _serving() as (_, connect):
            client = await connect()
            try:
                await client.send(data)
            except ConnectionError:
                return  # closed before all of it was taken
            status, headers, _body = await client.reply()
            assert status == 400
            assert headers["connection"] == "close"
            # The rest of what the client sends may reset the connection once it is closed.
            with_rest = await asyncio.gather(client.rest(), return_exceptions=True)
            assert with_rest[0] == b"" or isinstance(with_rest[0], ConnectionError)

    run(test())


def test_a_request_before_garbage_is_answered() -> None:
    async def test() -> None:
        async with _serving() as (_, connect):
            client = await connect()
            await client.send(GET % 1 + b"GARBAGE\r\n\r\n")
            assert (await client.reply())[2] == b"GET /1 "
            assert await client.rest() == b""

    run(test())


def test_the_client_says_whether_the_connection_is_kept() -> None:
    async def test() -> None:
        async with _serving() as (_, connect):
            for head, kept in (
                (b"GET / HTTP/1.1\r\nHost: x\r\n", True),
                (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", False),
                (b"GET / HTTP/1.0\r\n", False),
                (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", True),
                (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", False),
            ):
                client = await connect()
                await client.send(head + b"\r\n")
                status, headers, _body = await client.reply()
                assert status == 200
                assert (headers.get("connection") == "close") is not kept, head
                if kept:
                    await client.send(GET % 2)
                    assert (await client.reply())[2] == b"GET /2 "
                else:
                    assert await client.rest() == b""

    run(test())


def test_a_reply_to_head_has_no_body() -> None:
    async def test() -> None:
        async with _serving() as (_, connect):
            client = await connect()
            await client.send(b"HEAD /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await client.rest()).endswith(b"Content-Length: 8\r\nConnection: close\r\n\r\n")

    run(test())


def test_a_body_that_is_refused_early_does_not_cost_the_reply() -> None:
    async def refuse(_: Connection, message: HttpMessage) -> WireReply:
        return _text(b"no", 413)

    async def test() -> None:
        async with _serving(refuse) as (server, connect):
            client = await connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000)
            status, headers, _ = await client.reply()
            assert (status, headers["connection"]) == (413, "close")
            assert await client.rest() == b""
            client.writer.close()
            await until(lambda: not _connections(server))

    run(test())


def test_a_body_is_read_within_its_limit_only() -> None:
    seen: list[Exception] = []

    async def read(_: Connection, message: HttpMessage) -> WireReply:
        try:
            return _text(b"%d" % len(await message.read(1_000)))
        except (BodyTooLongError, BodyBrokenError) as error:
            seen.append(error)
            return _text(b"no", 413)

    async def test() -> None:
        async with _serving(read) as (server, connect):
            client = await connect()
            chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            await client.send(chunked + b"3e8\r\n" + b"x" * 1_000 + b"\r\n0\r\n\r\n")
            assert (await client.reply())[2] == b"1000"
            await client.send(chunked)
            await client.send(b"3e8\r\n" + b"x" * 1_000 + b"\r\n")
            await client.send(b"1\r\nx\r\n")
            assert (await client.reply())[0] == 413
            broken = await connect()
            await broken.send(chunked)
            await until(lambda: any(one.busy for one in _connections(server)))
            await broken.send(b"zz\r\n")
            assert (await broken.reply())[0] == 413
            gone = await connect()
            await gone.send(chunked + b"5\r\nab")
            gone.writer.close()
            await until(lambda: len(seen) == 3)
            assert [type(error) for error in seen] == [BodyTooLongError, BodyBrokenError, BodyBrokenError]

    run(test())


def test_a_body_nobody_reads_stops_the_reading() -> None:
    go_on = asyncio.Event()

    async def wait(_: Connection, message: HttpMessage) -> WireReply:
        await go_on.wait()
        return _text(b"done")

    async def test() -> None:
        async with _serving(wait) as (server, connect):
            client = await connect()
            client.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + b"x" * (8 << 20))
            connection = await _only(server)
            await until(lambda: not _reads(connection))
            message = connection._incoming
            assert message is not None
            assert UNREAD_BYTES_MAX < message._length <= UNREAD_BYTES_MAX + (1 << 20)
            go_on.set()
            assert (await client.reply())[2] == b"done"

    run(test())


def test_a_large_reply_waits_for_its_reader_and_ends_with_it() -> None:
    large = b"x" * (16 << 20)

    async def handle(_: Connection, message: HttpMessage) -> WireReply:
        return _text(large)

    async def test() -> None:
        async with _serving(handle) as (server, connect):
            client = await connect()
            await client.send(GET % 1)
            assert (await client.reply())[2] == large
            slow = await connect()
            await slow.send(GET % 2)
            await until(lambda: any(one.busy for one in _connections(server)))
            slow.writer.transport.abort()
            await until(lambda: not any(one.busy for one in _connections(server)))

    run(test())


def test_a_connection_without_requests_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "IDLE_S", 0.0)

    async def test() -> None:
        async with _serving() as (_, connect):
            silent, begun = await connect(), await connect()
            await begun.send(b"GET / HT")
            assert await silent.rest() == b""
            ended = await asyncio.gather(begun.rest(), return_exceptions=True)
            assert ended[0] == b"" or isinstance(ended[0], ConnectionError)

    run(test())


def test_a_defect_ends_the_connection_and_is_heard_of() -> None:
    async def handle(_: Connection, message: HttpMessage) -> WireReply:
        raise RuntimeError("a defect")

    async def test() -> None:
        heard: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context.get("exception")))
        async with _serving(handle) as (_, connect):
            client = await connect()
            await client.send(GET % 1)
            ended = await asyncio.gather(client.rest(), return_exceptions=True)
            assert ended[0] == b"" or isinstance(ended[0], ConnectionError)
        gc.collect()  # a task tells of an error nobody asked for when it goes
        assert [type(one) for one in heard] == [RuntimeError]

    run(test())


def test_who_listens_is_told_once_when_the_client_goes() -> None:
    told: list[str] = []

    async def handle(connection: Connection, message: HttpMessage) -> None:
        gone = asyncio.Event()
        stop = connection.on_lost(lambda: told.append("not any more"))
        connection.on_lost(lambda: told.append("gone"))
        connection.on_lost(gone.set)
        stop()
        await gone.wait()
        connection.on_lost(lambda: told.append("late"))
        raise ConnectionResetError

    async def test() -> None:
        async with _serving(handle) as (server, connect):
            client = await connect()
            await client.send(GET % 1)
            await until(lambda: any(one.busy for one in _connections(server)))
            client.writer.close()
            await until(lambda: told == ["gone", "late"])

    run(test())


def test_a_stream_is_chunked_for_those_who_know_chunks() -> None:
    async def handle(connection: Connection, message: HttpMessage) -> None:
        stream = HttpStream(connection, message)
        stream.begin("Content-Type: text/plain\r\n")
        await stream.write(b"one")
        await stream.write(b"two")
        await stream.end()

    async def test() -> None:
        async with _serving(handle) as (_, connect):
            client = await connect()
            await client.send(GET % 1)
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert b"Transfer-Encoding: chunked\r\n" in head
            assert await client.reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
            await client.send(GET % 2)
            await client.reader.readuntil(b"0\r\n\r\n")
            old = await connect()
            await old.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await old.rest()).endswith(b"Connection: close\r\n\r\nonetwo")

    run(test())


def test_a_server_that_stops_answers_what_is_under_way() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(_: Connection, message: HttpMessage) -> WireReply:
        begun.set()
        await go_on.wait()
        message.keep_alive = False
        return _text(b"done")

    async def test() -> None:
        async with _serving(handle) as (server, connect):
            idle, busy, late = await connect(), await connect(), await connect()
            await busy.send(GET % 1)
            await begun.wait()
            server.stop_accepting()
            assert await idle.rest() == b""
            assert await late.rest() == b""
            stopping = asyncio.ensure_future(server.stop(5))
            go_on.set()
            assert (await busy.reply())[2] == b"done"
            await stopping
            with pytest.raises(ConnectionError):
                await connect()

    run(test())


def test_a_server_that_stops_does_not_wait_for_ever() -> None:
    cancelled: list[bool] = []

    async def handle(_: Connection, message: HttpMessage) -> WireReply:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        raise AssertionError

    async def test() -> None:
        async with _serving(handle) as (server, connect):
            client = await connect()
            await client.send(GET % 1)
            await until(lambda: any(one.busy for one in _connections(server)))
            await server.stop(0)
            assert await client.rest() == b""
            await until(lambda: cancelled == [True])

    run(test())


def _connections(server: HttpServer) -> set[Connection]:
    return server._open


async def _only(server: HttpServer) -> Connection:
    await until(lambda: len(_connections(server)) == 1)
    return next(iter(_connections(server)))


def _reads(connection: Connection) -> bool:
    return connection.transport is not None and connection.transport.is_reading()
