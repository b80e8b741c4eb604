"""Peer connections over TCP: one per pair of members, dialed by the one with the smaller id, kept up for ever. The
other one dials when it has waited for a while: the first may not know (any more) where it is, or has removed it.

The new connection of a peer is announced only after the old one was reported lost; nothing of the old one is delivered
after that. Bytes in flight per peer are capped; a peer that does not read is not sent more until it has caught up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Mapping
from typing import Any, cast

from cluster.ports import Receiver
from cluster.real.handshake import Handshake, HandshakeError
from cluster.real.wire import FRAME_BYTES_MAX, Decoder, FrameError, encode
from cluster.settings import Limits, Timings

log = logging.getLogger("hive.cluster.network")

_KNOCK_S = 1.0
"""How long a node waits about for a member that should dial it, before it dials itself."""

_STRANGERS_MAX = 128
"""Connections whose handshake is not done. More would take descriptors away from the log."""

_SILENT_MS = 4_000
"""A peer that acknowledges nothing for so long, not even on the level of TCP, is gone. TCP alone waits for many
minutes, and after a partition tries again only after as long as it has lasted."""

Message = dict[str, Any]


class _Connection(asyncio.Protocol):
    """One socket: handshake, then messages."""

    def __init__(self, network: TcpNetwork, dialed: str | None) -> None:
        self.network = network
        self.dialed = dialed
        self.peer_id: str | None = None
        self.transport: asyncio.Transport | None = None
        self.full = False
        self.lost = asyncio.Event()
        self._decoder = Decoder()
        self._handshake = Handshake(network.secret, dialer=dialed is not None, hello=network.receiver.hello())
        self._hello: dict[str, Any] | None = None
        self._stage = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports are none of asyncio's classes.
        transport = cast(asyncio.Transport, transport)
        self.transport = transport
        if not self.network.let_in(self):
            transport.abort()
            return
        _watch(transport)
        cap = self.network.limits.peer_in_flight_bytes_max
        transport.set_write_buffer_limits(high=cap, low=cap // 4)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self.network.timings.connect_timeout_ms / 1000, transport.abort)
        transport.write(encode(self._handshake.first()))

    @property
    def is_stranger(self) -> bool:
        """Whether its handshake is not done."""
        return self._stage < 3

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
            while messages:
                for message in messages:
                    if self._stage == 3:
                        if not self.network.is_live(self):
                            return
                        self.network.receiver.on_message(str(self.peer_id), message)
                    else:
                        self._step(message)
                # The end of the handshake may have come together with a first message that only a peer may send.
                messages = self._decoder.feed(b"")
        except FrameError as error:
            self.close(f"bad frame: {error}")
        except HandshakeError as error:
            self._refused(str(error))

    def _step(self, message: Any) -> None:
        """Stages: 0 waits for the first message, 1 for the proof, 2 for the peer's consent, 3 is open."""
        if self.transport is None:
            return
        if self._stage == 0:
            self.transport.write(encode(self._handshake.second(message)))
            self._stage = 1
        elif self._stage == 1:
            hello = self._handshake.finish(message)
            self._hello, self.peer_id = hello, hello["node_id"]
            reason = self.network.refuse(self, hello)
            if reason is not None:
                self.transport.write(encode({"refused": reason}))
                raise HandshakeError(reason)
            self.transport.write(encode({"welcome": True}))
            self._stage = 2
        elif self._stage == 2:
            if type(message) is dict and type(message.get("refused")) is str:
                raise HandshakeError(message["refused"][:1024])
            self._stage = 3
            self._decoder.frame_bytes_max = FRAME_BYTES_MAX
            if self._deadline is not None:
                self._deadline.cancel()
            self.network.opened(self, str(self.peer_id), self._hello or {})

    def _refused(self, reason: str) -> None:
        peer_id = self.dialed or self.peer_id or "unknown"
        self.close(reason)
        self.network.receiver.on_refused(peer_id, reason)

    def close(self, reason: str) -> None:
        """Cut this connection."""
        peer_id = self.dialed or self.peer_id
        # Strangers could fill the disk with lines.
        level = logging.DEBUG if peer_id is None else logging.INFO
        log.log(level, "peer connection closed peer=%s reason=%s", peer_id, reason)
        if self.transport is not None and self.is_stranger:
            # What was written last (a refusal) should arrive; the deadline ends one that does not read.
            self.transport.close()
        elif self.transport is not None:
            # What is queued for a peer that does not read would keep the connection, and its successor is only dialed
            # when this one is gone.
            self.transport.abort()
        self.network.closed(self)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self.peer_id is not None:
            self.network.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.network.open.discard(self)
        self.lost.set()
        self.network.closed(self)


class TcpNetwork:
    """As `ports.Network`. `members` maps node id to "host:port"."""

    receiver: Receiver

    def __init__(
        self, node_id: str, members: Mapping[str, str], secret: bytes, timings: Timings, limits: Limits
    ) -> None:
        self.node_id = node_id
        self.members = dict(members)
        self.secret = secret
        self.timings = timings
        self.limits = limits
        self.open: set[_Connection] = set()
        self._live: dict[str, _Connection] = {}
        self._server: asyncio.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._dialers: dict[str, asyncio.Task[None]] = {}
        self._started = False
        self._closed = False

    async def listen(self, address: str) -> None:
        """Bind the peer port. Raises OSError. Connections are accepted only after `start`."""
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self, None), host, port, start_serving=False)
        # Two that have bound the port and wait may each believe that it is theirs: only listening decides.
        for bound in self._server.sockets:
            with socket.socket(fileno=os.dup(bound.fileno())) as duplicate:
                duplicate.listen()

    def start(self, receiver: Receiver) -> None:
        """Accept and dial."""
        self.receiver = receiver
        self._started = True
        if self._server is not None:
            self._serving = asyncio.get_running_loop().create_task(self._server.start_serving())
        self.set_members(self.members)

    def set_members(self, addresses: Mapping[str, str]) -> None:
        """As `ports.Network`; before `start` it only says whom to dial then."""
        self.members = {peer_id: address for peer_id, address in addresses.items() if peer_id != self.node_id}
        if not self._started or self._closed:
            return
        for gone in self._dialers.keys() - self.members.keys():
            self._dialers.pop(gone).cancel()
        for peer_id in self.members.keys() - self._dialers.keys():
            self._dialers[peer_id] = asyncio.get_running_loop().create_task(self._dial(peer_id))

    async def _dial(self, peer_id: str) -> None:
        retry_s = self.timings.connect_retry_ms / 1000
        if self.node_id > peer_id:
            retry_s = max(retry_s, _KNOCK_S)
            await asyncio.sleep(retry_s * (0.5 + random.random()))
        while not self._closed:
            if peer_id not in self._live:
                connection = await self._connect(peer_id)
                if connection is not None:
                    await connection.lost.wait()
            await asyncio.sleep(retry_s * (0.5 + random.random()))

    async def _connect(self, peer_id: str) -> _Connection | None:
        """One attempt, at the address that counts now."""
        loop = asyncio.get_running_loop()
        try:
            host, port = split_address(self.members[peer_id])
            async with asyncio.timeout(self.timings.connect_timeout_ms / 1000):
                _, connection = await loop.create_connection(lambda: _Connection(self, peer_id), host, port)
        except (OSError, TimeoutError, ValueError):  # the last: an address or a name that is none
            return None
        return connection

    def let_in(self, connection: _Connection) -> bool:
        """Whether there is room for one more handshake."""
        strangers = sum(one.is_stranger for one in self.open)
        if self._closed or (connection.dialed is None and strangers >= _STRANGERS_MAX):
            return False
        self.open.add(connection)
        return True

    def refuse(self, connection: _Connection, hello: dict[str, Any]) -> str | None:
        """Why this connection must not be."""
        peer_id = hello["node_id"]
        if connection.dialed is not None and connection.dialed != peer_id:
            address = self.members.get(connection.dialed)
            return f"{address} is node {peer_id}, not {connection.dialed}: check the addresses"
        return self.receiver.refuse_hello(peer_id, hello)

    def opened(self, connection: _Connection, peer_id: str, hello: dict[str, Any]) -> None:
        """A handshake is done: the old connection is reported lost first."""
        old = self._live.get(peer_id)
        if old is not None:
            old.close("replaced by a newer connection")
        self._live[peer_id] = connection
        log.info("peer connected peer=%s", peer_id)
        self.receiver.on_connected(peer_id, hello)

    def is_live(self, connection: _Connection) -> bool:
        """Whether what comes from this connection may be delivered."""
        return self._live.get(connection.peer_id or "") is connection

    def closed(self, connection: _Connection) -> None:
        """A connection ended: reported once, and only for the live one."""
        peer_id = connection.peer_id
        if peer_id is not None and self._live.get(peer_id) is connection:
            del self._live[peer_id]
            self.receiver.on_disconnected(peer_id)

    def drained(self, connection: _Connection) -> None:
        """A peer has caught up."""
        if connection.peer_id is not None and self._live.get(connection.peer_id) is connection:
            self.receiver.on_drained(connection.peer_id)

    def send(self, peer_id: str, message: Message) -> bool:
        """Queue a message; False without a connection, or over the cap."""
        connection = self._live.get(peer_id)
        if connection is None or connection.full or connection.transport is None:
            return False
        connection.transport.write(encode(message))
        return True

    def disconnect(self, peer_id: str, reason: str) -> None:
        """Cut the connection to a peer."""
        connection = self._live.get(peer_id)
        if connection is not None:
            connection.close(reason)

    def close(self) -> None:
        """Stop everything."""
        self._closed = True
        for task in (self._serving, *self._dialers.values()):
            if task is not None:
                task.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.open):
            if connection.transport is not None:
                connection.transport.abort()


def _watch(transport: asyncio.Transport) -> None:
    """Have the kernel end the connection when the other machine is silent, also while there is nothing to send."""
    wire: socket.socket = transport.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # By name: other systems than Linux lack some of them, and find out later.
    for name, value in (
        ("TCP_KEEPIDLE", 1),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", _SILENT_MS // 1000),
        ("TCP_USER_TIMEOUT", _SILENT_MS),
    ):
        if hasattr(socket, name):
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of "host:port" or "[v6]:port". Raises ValueError."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
