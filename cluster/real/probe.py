"""Ask a peer port who is there, and whether it knows the same secret, before anything depends on it.

A node that is to join asks this first: with another secret it would become a member that nobody lets in.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cluster.real.handshake import Handshake, HandshakeError
from cluster.real.network import split_address
from cluster.real.wire import Decoder, FrameError, encode

_READ_BYTES = 65_536


async def hello_of(address: str, node_id: str, secret: bytes, timeout_s: float) -> dict[str, Any]:
    """The proven hello of the node that listens at `address`; `node_id` is who asks. It learns nothing it could use.

    Raises HandshakeError if the secrets differ or nobody there is a node, OSError if nothing answers in time.
    """
    host, port = split_address(address)
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            return await _ask(reader, writer, Handshake(secret, dialer=True, hello={"node_id": node_id}))
        except FrameError as error:
            raise HandshakeError(f"no handshake: {error}") from error
        finally:
            writer.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handshake: Handshake) -> dict[str, Any]:
    """The other side proves itself to whoever says hello, so that our own proof need not be sent."""
    writer.write(encode(handshake.first()))
    decoder, messages = Decoder(), list[Any]()
    while len(messages) < 2:
        data = await reader.read(_READ_BYTES)
        if not data:
            raise ConnectionError("the connection was closed in the handshake")
        messages += decoder.feed(data)
    handshake.second(messages[0])
    return handshake.finish(messages[1])
