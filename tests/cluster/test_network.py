"""Peer connections over real sockets: who gets in, in what order things are told, what a stranger can do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from cluster.real import network as network_module
from cluster.real.handshake import Handshake
from cluster.real.network import TcpNetwork
from cluster.real.wire import HELLO_BYTES_MAX, Decoder, encode
from cluster.settings import Limits, Timings
from tests.process.ports import node_ports

_PATIENCE_S = 10.0
_TIMINGS = Timings(connect_retry_ms=10, connect_timeout_ms=400)

_BEYOND_THE_KERNEL_BYTES = 24 << 20
"""More than the kernel keeps for a peer that does not read."""

Told = tuple[str, str, Any]


class _Receiver:
    """Writes down what it is told; `until` waits for it."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.told: list[Told] = []
        self.refusing: Callable[[dict[str, Any]], str | None] = lambda _: None
        self.on_each: Callable[[Told], None] = lambda _: None
        self._changed = asyncio.Event()

    def _tell(self, kind: str, peer_id: str, what: Any) -> None:
        self.told.append((kind, peer_id, what))
        self._changed.set()
        self.on_each(self.told[-1])

    def on_connected(self, peer_id: str, hello: dict[str, Any]) -> None:
        self._tell("connected", peer_id, hello["node_id"])

    def on_refused(self, peer_id: str, reason: str) -> None:
        self._tell("refused", peer_id, reason)

    def on_disconnected(self, peer_id: str) -> None:
        self._tell("disconnected", peer_id, None)

    def on_drained(self, peer_id: str) -> None:
        self._tell("drained", peer_id, None)

    def on_message(self, peer_id: str, message: dict[str, Any]) -> None:
        self._tell("message", peer_id, message)

    def hello(self) -> dict[str, Any]:
        return {"node_id": self.node_id}

    def refuse_hello(self, peer_id: str, hello: dict[str, Any]) -> str | None:
        return self.refusing(hello)

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.told]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_told(self, kind: str, times: int = 1) -> Any:
        await self.until(lambda: self.kinds().count(kind) >= times)
        return [what for told, _, what in self.told if told == kind][-1]


class _Place:
    """Two members, n1 and n2, and their addresses."""

    def __init__(self) -> None:
        ports = node_ports(2)
        self.members = {f"n{number}": f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
        self._up: list[TcpNetwork] = []
        self._sockets: list[asyncio.StreamWriter] = []

    async def stranger(self, node_id: str) -> _Stranger:
        """Somebody who connects to this member."""
        _, _, port = self.members[node_id].rpartition(":")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        self._sockets.append(writer)
        return _Stranger(reader, writer)

    async def start(
        self,
        node_id: str,
        *,
        secret: bytes = b"secret",
        calls_itself: str | None = None,
        cap_bytes: int = 1 << 20,
        timings: Timings = _TIMINGS,
        refusing: Callable[[dict[str, Any]], str | None] | None = None,
    ) -> tuple[TcpNetwork, _Receiver]:
        made = TcpNetwork(
            calls_itself or node_id, self.members, secret, timings, Limits(peer_in_flight_bytes_max=cap_bytes)
        )
        receiver = _Receiver(calls_itself or node_id)
        if refusing is not None:
            receiver.refusing = refusing
        await made.listen(self.members[node_id])
        made.start(receiver)
        self._up.append(made)
        return made, receiver

    async def stop(self) -> None:
        for writer in self._sockets:
            writer.transport.abort()
        for one in self._up:
            one.close()
            for connection in list(one.open):
                await connection.lost.wait()


@asynccontextmanager
async def _place() -> AsyncIterator[_Place]:
    place = _Place()
    try:
        yield place
    finally:
        await place.stop()


@asynccontextmanager
async def _pair(**options: Any) -> AsyncIterator[tuple[TcpNetwork, _Receiver, TcpNetwork, _Receiver, _Place]]:
    async with _place() as place:
        one, hears_one = await place.start("n1", **options)
        two, hears_two = await place.start("n2", **options)
        await hears_one.until_told("connected")
        await hears_two.until_told("connected")
        yield one, hears_one, two, hears_two, place


class _Stranger:
    """A socket of somebody who does what he likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = Decoder()
        self._messages: list[Any] = []

    async def hear(self) -> Any:
        """The next message; None at the end of the connection."""
        async with asyncio.timeout(_PATIENCE_S):
            while not self._messages:
                data = await self.reader.read(65536)
                if not data:
                    return None
                self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    def say(self, message: Any) -> None:
        self.writer.write(encode(message))

    async def until_cut(self) -> None:
        """Read until the other side ends it."""
        async with asyncio.timeout(_PATIENCE_S):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
        self.writer.close()

    async def shake(self, node_id: str = "n1", secret: bytes = b"secret") -> Handshake:
        """Up to its own proof, which is sent."""
        handshake = Handshake(secret, dialer=True, hello={"node_id": node_id})
        self.say(handshake.first())
        self.say(handshake.second(await self.hear()))
        return handshake

    async def enter(self, node_id: str = "n1") -> None:
        """The whole handshake."""
        handshake = await self.shake(node_id)
        handshake.finish(await self.hear())
        assert await self.hear() == {"welcome": True}
        self.say({"welcome": True})


def _run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_messages_arrive_in_order_both_ways(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def play() -> None:
        async with _pair() as (one, hears_one, two, hears_two, _):
            for number in range(100):
                assert one.send("n2", {"to": "n2", "number": number})
                assert two.send("n1", {"to": "n1", "number": number})
            await hears_one.until_told("message", 100)
            await hears_two.until_told("message", 100)
            for hears, node_id in ((hears_one, "n1"), (hears_two, "n2")):
                messages = [message for kind, _, message in hears.told if kind == "message"]
                assert messages == [{"to": node_id, "number": number} for number in range(100)]
            assert not one.send("n9", {})

    run(play())


def test_a_long_first_message_right_behind_the_handshake() -> None:
    """What is read in one chunk with the end of the handshake may be longer than a stranger's frame."""

    async def play() -> None:
        async with _place() as place:
            _, hears = await place.start("n2")
            peer = await place.stranger("n2")
            handshake = await peer.shake()
            handshake.finish(await peer.hear())
            assert await peer.hear() == {"welcome": True}
            long = {"entries": bytes(HELLO_BYTES_MAX * 2)}
            peer.writer.write(encode({"welcome": True}) + encode(long))
            assert await hears.until_told("message") == long
            assert hears.kinds() == ["connected", "message"]

    _run(play())


def test_another_secret_gets_nobody_in() -> None:
    async def play() -> None:
        async with _place() as place:
            _, hears_one = await place.start("n1")
            _, hears_two = await place.start("n2", secret=b"another")
            for hears in (hears_one, hears_two):
                assert "secret differs" in await hears.until_told("refused")
                assert "connected" not in hears.kinds()

    _run(play())


def test_both_sides_say_why_a_hello_is_refused() -> None:
    async def play() -> None:
        async with _place() as place:
            _, hears_one = await place.start("n1")
            _, hears_two = await place.start("n2", refusing=lambda _: "another cluster")
            for hears in (hears_one, hears_two):
                assert await hears.until_told("refused") == "another cluster"
                assert "connected" not in hears.kinds()

    _run(play())


def test_another_node_behind_an_address_is_noticed() -> None:
    async def play() -> None:
        async with _place() as place:
            _, hears_one = await place.start("n1")
            await place.start("n2", calls_itself="n3")
            assert "is node n3, not n2" in await hears_one.until_told("refused")

    _run(play())


def test_the_greater_id_dials_when_it_waits_in_vain() -> None:
    """The smaller one does not know where it is, or not that it is there."""

    async def play() -> None:
        async with _place() as place:
            one, hears_one = await place.start("n1")
            one.set_members({})
            _, hears_two = await place.start("n2")
            assert await hears_two.until_told("connected") == "n1"
            assert await hears_one.until_told("connected") == "n2"

    _run(play())


def test_a_recorded_beginning_gets_nobody_in() -> None:
    async def play() -> None:
        async with _place() as place:
            _, hears = await place.start("n2")
            recorded = Handshake(b"secret", dialer=True, hello={"node_id": "n1"})
            first, proof = recorded.first(), recorded.second(Handshake(b"secret", dialer=False, hello={}).first())
            stranger = await place.stranger("n2")
            stranger.say(first)
            stranger.say(proof)
            await stranger.until_cut()
            assert hears.kinds() == ["refused"]

    _run(play())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(100),
        b"\xff" * 100,
        (HELLO_BYTES_MAX + 1).to_bytes(4, "big"),
        encode({"nonce": b"x" * 32, "hello": b"\x80"}) + encode({"proof": b"y" * 32}),
        encode(None),
    ],
)
def test_garbage_is_cut_off_at_once(data: bytes) -> None:
    async def play() -> None:
        async with _place() as place:
            # The deadline is not what ends it.
            _, hears = await place.start("n2", timings=Timings(connect_timeout_ms=60_000))
            stranger = await place.stranger("n2")
            stranger.writer.write(data)
            await stranger.until_cut()
            assert "connected" not in hears.kinds()

    _run(play())


@pytest.mark.parametrize("hello", [b"\xc1", b"\x91" * 2000, b"\x80", b"\x90", b"\x81\xa7node_id\x01"])
def test_a_member_with_a_broken_hello_is_refused(hello: bytes) -> None:
    """It knows the secret, and is no reason to fail all the same."""

    async def play() -> None:
        async with _place() as place:
            _, hears = await place.start("n2", timings=Timings(connect_timeout_ms=60_000))
            stranger = await place.stranger("n2")
            handshake = Handshake(b"secret", dialer=True, hello={})
            handshake._hello = hello
            stranger.say(handshake.first())
            stranger.say(handshake.second(await stranger.hear()))
            assert "no hello" in await hears.until_told("refused")
            await stranger.until_cut()

    _run(play())


@pytest.mark.parametrize("how_far", [0, 1, 2])
def test_a_handshake_that_is_never_finished_is_cut_by_the_deadline(how_far: int) -> None:
    async def play() -> None:
        async with _place() as place:
            network, hears = await place.start("n2", timings=Timings(connect_timeout_ms=50))
            stranger = await place.stranger("n2")
            if how_far == 1:
                stranger.writer.write(encode({"nonce": b"x" * 32})[:20])
            if how_far == 2:
                await stranger.shake()
            await stranger.until_cut()
            assert "connected" not in hears.kinds()
            assert not network.open

    _run(play())


def test_strangers_do_not_take_all_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        monkeypatch.setattr(network_module, "_STRANGERS_MAX", 3)
        async with _place() as place:
            network, hears = await place.start("n2", timings=Timings(connect_timeout_ms=60_000))
            one, two, member = [await place.stranger("n2") for _ in range(3)]
            for stranger in (one, two):
                assert "nonce" in await stranger.hear()
            handshake = await member.shake()
            await (await place.stranger("n2")).until_cut()
            assert len(network.open) == 3
            # Whoever has proved himself is none of them.
            handshake.finish(await member.hear())
            assert await member.hear() == {"welcome": True}
            member.say({"welcome": True})
            await hears.until_told("connected")
            assert "nonce" in await (await place.stranger("n2")).hear()

    _run(play())


def test_a_newer_connection_takes_the_place_of_the_older() -> None:
    """The old one is told lost before the new one is told there; nothing of the old one is heard after that."""

    async def play() -> None:
        async with _place() as place:
            network, hears = await place.start("n2")
            old, new = await place.stranger("n2"), await place.stranger("n2")
            await old.enter()
            old.say({"of": "old"})
            await hears.until_told("message")
            await new.enter()
            await hears.until_told("connected", 2)
            old.say({"of": "old"})
            new.say({"of": "new"})
            assert await hears.until_told("message", 2) == {"of": "new"}
            assert hears.kinds() == ["connected", "message", "disconnected", "connected", "message"]
            assert network.send("n1", {"to": "new"})
            assert await new.hear() == {"to": "new"}
            await old.until_cut()

    _run(play())


def test_a_lost_connection_is_told_once_and_made_again() -> None:
    async def play() -> None:
        async with _pair() as (one, hears_one, two, hears_two, _):
            two.disconnect("n1", "a test")
            assert hears_two.kinds() == ["connected", "disconnected"]
            assert not two.send("n1", {})
            for hears in (hears_one, hears_two):
                await hears.until_told("connected", 2)
                assert hears.kinds() == ["connected", "disconnected", "connected"]
            assert one.send("n2", {"again": True})
            assert await hears_two.until_told("message") == {"again": True}

    _run(play())


def test_nothing_behind_a_message_that_costs_the_connection_is_delivered() -> None:
    async def play() -> None:
        async with _place() as place:
            network, hears = await place.start("n2")
            hears.on_each = lambda told: network.disconnect("n1", "bad") if told[0] == "message" else None
            peer = await place.stranger("n2")
            await peer.enter()
            peer.writer.write(encode({"number": 1}) + encode({"number": 2}))
            await peer.until_cut()
            assert hears.kinds() == ["connected", "message", "disconnected"]

    _run(play())


def test_a_member_that_sends_no_frames_any_more_is_cut_off() -> None:
    async def play() -> None:
        async with _place() as place:
            _, hears = await place.start("n2")
            peer = await place.stranger("n2")
            await peer.enter()
            peer.writer.write(b"\xff" * 4)
            await peer.until_cut()
            assert hears.kinds() == ["connected", "disconnected"]

    _run(play())


def test_a_peer_that_does_not_read_is_sent_no_more_until_it_does() -> None:
    async def play() -> None:
        async with _place() as place:
            network, hears = await place.start("n2", cap_bytes=64 << 10)
            peer = await place.stranger("n2")
            await peer.enter()
            await hears.until_told("connected")
            message = {"entries": bytes(32 << 10)}
            sent = 0
            while network.send("n1", message):
                sent += 1
            assert not network.send("n1", message)
            assert hears.kinds() == ["connected"], "full is not lost"
            peer._decoder.frame_bytes_max = 1 << 20
            for _ in range(sent):
                assert await peer.hear() == message
            await hears.until_told("drained")
            assert network.send("n1", {"more": True})
            assert await peer.hear() == {"more": True}

    _run(play())


def test_one_that_does_not_read_does_not_keep_its_cut_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its successor is only dialed when it is gone: what is queued must not wait for being read."""

    async def play() -> None:
        monkeypatch.setattr(network_module, "_SILENT_MS", 60_000)  # the kernel would end it at last
        async with _place() as place:
            network, hears = await place.start("n2", cap_bytes=_BEYOND_THE_KERNEL_BYTES)
            peer = await place.stranger("n2")
            await peer.enter()
            await hears.until_told("connected")
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads, too
            while network.send("n1", {"entries": bytes(1 << 20)}):
                pass
            (connection,) = network.open
            network.disconnect("n1", "a test")
            async with asyncio.timeout(_PATIENCE_S):
                await connection.lost.wait()
            assert not network.open

    _run(play())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_the_kernel_watches_over_a_silent_peer(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    """Or a partition would last twice as long as it does, and a machine that lost power be missed for minutes."""
    async def play() -> None:
        async with _pair() as (one, _, two, _, _):
            for network in (one, two):
                (connection,) = network.open
                assert connection.transport is not None
                wire = connection.transport.get_extra_info("socket")
                assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == network_module._SILENT_MS
                assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 1

    run(play())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_port_is_taken_from_listening_on_not_from_starting_on(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def play() -> None:
        async with _place() as place:
            first = TcpNetwork("n1", place.members, b"s", _TIMINGS, Limits())
            await first.listen(place.members["n1"])
            second = TcpNetwork("n1", place.members, b"s", _TIMINGS, Limits())
            with pytest.raises(OSError, match="in use"):
                await second.listen(place.members["n1"])
            first.close()
            second.close()

    run(play())


def test_it_is_closed_at_any_time() -> None:
    async def play() -> None:
        async with _place() as place:
            never_started = TcpNetwork("n1", place.members, b"s", _TIMINGS, Limits())
            await never_started.listen(place.members["n1"])
            never_started.close()
            network, _ = await place.start("n2")
            stranger = await place.stranger("n2")
            assert "nonce" in await stranger.hear()
            network.close()
            network.close()
            await stranger.until_cut()
            assert not network.send("n1", {})

    _run(play())
