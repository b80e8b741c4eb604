"""The simulated network: connections that delay, stall, break, fill up and are made again.

As TCP: what is sent on a connection arrives in order or not at all, and is lost only when the connection breaks. The
two ends learn of a break at times of their own. A cut direction holds packets back; healing delivers them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import msgpack

from cluster.ports import Receiver
from cluster.real.wire import encode
from tests.sim.clockwork import Host, Scheduler

Message = dict[str, Any]

_RETRY_S = 0.1
_KNOCK_S = 1.0
_HANDSHAKE_S = 1.0


class Delays:
    """How long packets take; rarely much longer, until it is `calm`."""

    def __init__(self, rng: Random, typical_s: float) -> None:
        self._rng = rng
        self._typical_s = typical_s
        self.calm = False

    def next_s(self) -> float:
        """Of one packet."""
        delay_s = self._typical_s * (0.5 + self._rng.random())
        return delay_s * 20 if not self.calm and self._rng.random() < 0.01 else delay_s


class Hub:
    """All links of a simulated cluster."""

    def __init__(self, scheduler: Scheduler, rng: Random, delays: Delays, in_flight_bytes_max: int) -> None:
        self.scheduler = scheduler
        self.rng = rng
        self.delays = delays
        self.in_flight_bytes_max = in_flight_bytes_max
        self.cut: set[tuple[str, str]] = set()
        self.ports: dict[str, Port] = {}
        self.connections: list[Connection] = []
        self.messages = 0
        self.on_sent: Callable[[str, str, Message], None] = lambda _a, _b, _m: None
        self.on_opened: Callable[[str, str, Message], None] = lambda _a, _b, _hello: None

    def reachable(self, a: str, b: str) -> bool:
        """Whether packets pass both ways."""
        return (a, b) not in self.cut and (b, a) not in self.cut

    def heal(self, pairs: set[tuple[str, str]]) -> None:
        """Let these directions pass again, with everything that was held back."""
        self.cut -= pairs
        for connection in self.connections:
            connection.release()

    def dial(self, port: Port, peer_id: str) -> None:
        """One attempt of `port` to reach a peer; it tries again by itself."""
        peer = self.ports.get(peer_id)
        if peer is None or peer.closed or not self.reachable(port.node_id, peer_id):
            port.dial_later(peer_id)
            return
        connection = Connection(self, port, peer)
        self.connections.append(connection)
        connection.begin()


class End:
    """One end of a connection."""

    def __init__(self, port: Port, peer_id: str) -> None:
        self.port = port
        self.peer_id = peer_id
        self.hello: Message | None = None
        self.opened = False
        self.closed = False
        self.in_flight_bytes = 0
        self.full = False
        self.arrives_s = 0.0
        self.held: deque[bytes] = deque()


class Connection:
    """Between a dialer and an acceptor. `broken`: nothing passes any more, whether or not the ends know it."""

    def __init__(self, hub: Hub, dialer: Port, acceptor: Port) -> None:
        self.hub = hub
        self.dialer = End(dialer, acceptor.node_id)
        self.acceptor = End(acceptor, dialer.node_id)
        self.broken = False

    def begin(self) -> None:
        """The handshake: both send their hello, judge the other's, and say so (cluster/real/network.py)."""
        self.dialer.arrives_s = self.hub.scheduler.now_s + self.hub.delays.next_s()
        self.hub.scheduler.at(self.dialer.arrives_s, self._accept)
        self._put(self.dialer, ["hello", self.dialer.port.receiver.hello()])
        self.hub.scheduler.after(_HANDSHAKE_S, self._give_up)

    def _accept(self) -> None:
        end = self.acceptor
        end.port.host.run(lambda: self._put(end, ["hello", end.port.receiver.hello()]))

    def _give_up(self) -> None:
        if not (self.dialer.opened and self.acceptor.opened) and not self.broken:
            self.break_now(0.0, 0.0)

    def other(self, end: End) -> End:
        """The far end."""
        return self.acceptor if end is self.dialer else self.dialer

    def send(self, end: End, message: Message) -> bool:
        """One message; False when too much is in flight."""
        if end.full:
            return False
        self.hub.messages += 1
        self.hub.on_sent(end.port.node_id, end.peer_id, message)
        self._put(end, ["message", message])
        return True

    def _put(self, end: End, frame: list[Any]) -> None:
        data = encode(frame)
        end.in_flight_bytes += len(data)
        end.full = end.in_flight_bytes > self.hub.in_flight_bytes_max
        end.arrives_s = max(end.arrives_s, self.hub.scheduler.now_s + self.hub.delays.next_s())
        self.hub.scheduler.at(end.arrives_s, lambda: self._arrive(end, data))

    def _arrive(self, end: End, data: bytes) -> None:
        if self.broken:
            return
        if end.held or (end.port.node_id, end.peer_id) in self.hub.cut:
            end.held.append(data)
            return
        far = self.other(end)
        far.port.host.run(lambda: self._receive(end, far, data))

    def release(self) -> None:
        """Deliver what a cut held back, if it is no longer cut; before anything that was sent after it."""
        for end in (self.dialer, self.acceptor):
            if (end.port.node_id, end.peer_id) not in self.hub.cut:
                held, end.held = end.held, deque()
                for data in held:
                    self._arrive(end, data)

    def _receive(self, end: End, far: End, data: bytes) -> None:
        if far.closed:
            return
        self._drain(end, len(data))
        kind, body = msgpack.unpackb(data[4:], raw=False, strict_map_key=True, use_list=True)
        if kind == "message":
            if far.opened:
                far.port.receiver.on_message(far.peer_id, body)
        elif kind == "hello":
            self._judge(far, body)
        elif kind == "refused":
            self._refused(far, body)
        elif kind == "welcome":
            self._open(far)

    def _drain(self, end: End, length: int) -> None:
        end.in_flight_bytes -= length
        if end.full and end.in_flight_bytes <= self.hub.in_flight_bytes_max // 4:
            end.full = False
            if end.opened and not end.closed:
                end.port.host.run(lambda: end.port.receiver.on_drained(end.peer_id))

    def _judge(self, end: End, hello: Message) -> None:
        end.hello = hello
        reason = end.port.receiver.refuse_hello(end.peer_id, hello)
        if reason is None:
            self._put(end, ["welcome", None])
            return
        self._put(end, ["refused", reason])
        self.close(end)
        end.port.receiver.on_refused(end.peer_id, reason)

    def _refused(self, end: End, reason: str) -> None:
        self.close(end)
        end.port.receiver.on_refused(end.peer_id, reason)

    def _open(self, end: End) -> None:
        assert end.hello is not None
        old = end.port.live.get(end.peer_id)
        if old is not None:
            old[0].close(old[1])
        end.opened = True
        end.port.live[end.peer_id] = (self, end)
        self.hub.on_opened(end.port.node_id, end.peer_id, end.hello)
        end.port.receiver.on_connected(end.peer_id, end.hello)

    def close(self, end: End) -> None:
        """This end closes: what it sent still arrives, then the far end hears of it."""
        if end.closed:
            return
        far = self.other(end)
        self._end_closed(end)
        self.hub.scheduler.at(
            max(end.arrives_s, self.hub.scheduler.now_s) + self.hub.delays.next_s(), lambda: self._far_closes(far)
        )

    def _far_closes(self, far: End) -> None:
        far.port.host.run(lambda: self._end_closed(far))
        self.broken = True

    def break_now(self, dialer_hears_s: float, acceptor_hears_s: float) -> None:
        """Lose everything under way; the ends hear of it after these times."""
        self.broken = True
        self._hear(self.dialer, dialer_hears_s)
        self._hear(self.acceptor, acceptor_hears_s)

    def lose(self, end: End, far_hears_s: float) -> None:
        """The process at this end is gone."""
        end.closed = self.broken = True
        if self.other(end).closed:
            self.hub.connections.remove(self)
        self._hear(self.other(end), far_hears_s)

    def _hear(self, end: End, after_s: float) -> None:
        self.hub.scheduler.after(after_s, lambda: end.port.host.run(lambda: self._end_closed(end)))

    def _end_closed(self, end: End) -> None:
        if end.closed:
            return
        end.closed = True
        if self.dialer.closed and self.acceptor.closed and self in self.hub.connections:
            self.hub.connections.remove(self)
        port = end.port
        if port.live.get(end.peer_id, (None, None))[1] is end:
            del port.live[end.peer_id]
            port.receiver.on_disconnected(end.peer_id)
        port.dial_later(end.peer_id)


class Port:
    """`ports.Network` of one life of a process."""

    receiver: Receiver

    def __init__(self, hub: Hub, host: Host, node_id: str) -> None:
        self.hub = hub
        self.host = host
        self.node_id = node_id
        self.others: frozenset[str] = frozenset()
        self._dialing: set[str] = set()
        self.live: dict[str, tuple[Connection, End]] = {}
        self.closed = False

    def start(self, receiver: Receiver) -> None:
        """Accept, and dial the members with larger ids; the others only when they are not there for a while."""
        self.receiver = receiver
        self.hub.ports[self.node_id] = self

    def set_members(self, addresses: Mapping[str, str]) -> None:
        """Dial these from now on."""
        self.others = frozenset(addresses)
        for peer_id in sorted(self.others):
            self.dial_later(peer_id)

    def dial_later(self, peer_id: str) -> None:
        """Try to reach a peer in a moment, or in a while if it is the one that should dial."""
        if peer_id not in self.others or peer_id in self._dialing:
            return
        self._dialing.add(peer_id)
        retry_s = _RETRY_S if self.node_id < peer_id else _KNOCK_S
        delay_s = retry_s * (0.1 + self.hub.rng.random())
        self.hub.scheduler.after(delay_s, lambda: self.host.run(lambda: self._dial(peer_id)))

    def _dial(self, peer_id: str) -> None:
        self._dialing.discard(peer_id)
        if self.closed or peer_id not in self.others:
            return
        if peer_id not in self.live:
            self.hub.dial(self, peer_id)

    def send(self, peer_id: str, message: Message) -> bool:
        """Queue a message; False without a connection, or when too much is in flight."""
        live = self.live.get(peer_id)
        return live is not None and live[0].send(live[1], message)

    def disconnect(self, peer_id: str, reason: str) -> None:
        """Cut the connection."""
        live = self.live.get(peer_id)
        if live is not None:
            live[0].close(live[1])

    def close(self) -> None:
        """Stop everything."""
        self.closed = True

    def drop(self, hears_s: Callable[[], float]) -> None:
        """The process is gone: its connections break, its peers hear of it after `hears_s()` each."""
        self.closed = True
        for connection in list(self.hub.connections):
            for end in (connection.dialer, connection.acceptor):
                if end.port is self:
                    connection.lose(end, hears_s())
