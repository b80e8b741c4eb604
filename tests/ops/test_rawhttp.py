from __future__ import annotations

import asyncio

import pytest

from ops.rawhttp import RawConnection, RawReply, encode_request


def exchange_with(*replies: bytes) -> list[RawReply]:
    """What the client makes of these bytes, one for each request on one connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"POST /x HTTP/1.1\r\n")
            assert await reader.readexactly(2) == b"{}"
            writer.write(reply)
            await writer.drain()
        writer.close()

    async def run() -> list[RawReply]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            connection = await RawConnection.connect(endpoint)
            try:
                return [await connection.exchange(encode_request("POST", endpoint, "/x", b"{}")) for _ in replies]
            finally:
                connection.close()

    return asyncio.run(run())


def test_bodies_by_length_and_in_chunks() -> None:
    found = exchange_with(
        b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nHive-Node: n1\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    )
    assert [(r.status, r.body) for r in found] == [(201, b"hello"), (200, b"abcde"), (204, b"")]
    assert found[0].headers[b"hive-node"] == b"n1"


@pytest.mark.parametrize(
    "reply", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"nonsense\r\n\r\n"]
)
def test_a_broken_reply_is_an_error(reply: bytes) -> None:
    with pytest.raises((OSError, ValueError)):
        exchange_with(reply)
