"""The engine's transport: every message between engines passes a guard here. Numbers (H1…) are the engine's holes,
listed in DESIGN.md.

Sending: acknowledgements and votes carry the term and wait for the disk (H4, H5); appends are numbered (H16).
Receiving: what the engine would get wrong is changed or dropped before it sees it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from cluster.engine import Engine
from cluster.journal import Journal
from cluster.member_node import member_node
from cluster.messages import ProtocolViolationError
from cluster.outbox import Message, Outbox


class Elections(Protocol):
    """What the transport asks the election rules (cluster/election.py)."""

    def leader_heard(self, peer_id: str) -> None: ...
    def refuse_vote_request(self, message: Message) -> bool: ...
    def may_vote(self) -> bool: ...
    @property
    def is_voter(self) -> bool: ...
    @property
    def leader_missed(self) -> bool: ...


class GuardedTransport(Transport):  # type: ignore[misc]  # the package is untyped
    """Between one engine and the network. `peer` below is always a member's node id."""

    def __init__(self, journal: Journal, send: Callable[[str, Message], bool]) -> None:
        super().__init__(None, None, [])
        self._journal = journal
        self._network_send = send
        self._outbox = Outbox(send)
        self._engine: Engine | None = None
        self._elections: Elections | None = None
        self.connected: set[str] = set()
        self.uncounted: set[str] = set()
        self.installing: set[str] = set()
        self._append_number: dict[str, int] = {}
        self._answering: int | None = None
        self._installed_index: int | None = None
        self._reset_floor: dict[str, int] = {}
        self._held_acks: deque[tuple[str, Message]] = deque()
        self._votes: set[tuple[int, str]] = set()
        self._transfer_campaign = False

    def bind(self, engine: Engine, elections: Elections) -> None:
        """The engine is made with its transport, so it can be named only afterwards."""
        self._engine = engine
        self._elections = elections

    # --- engine -> network --------------------------------------------------------------------------------------------

    def send(self, node: Node, message: Message) -> bool:
        """Called by the engine."""
        peer, kind = node.id, message["type"]
        if kind == "append_entries":
            return self._send_append(peer, message)
        if kind == "next_node_idx":
            message["term"] = self._require_engine().term
            message["n"] = self._answering
            if self._installed_index is not None:
                # The engine would vouch for its whole log, but what it kept behind the snapshot (Raft figure 13) was
                # never compared with the leader's.
                message["next_node_idx"] = self._installed_index + 1
            if message["reset"]:
                message["next_node_idx"] = self._back_off(message["next_node_idx"])
            self._outbox.hold(peer, self._journal.written_sequence, message)
            return True
        if kind in ("request_vote", "response_vote"):
            if kind == "request_vote":
                message["transfer"] = self._transfer_campaign
            self._outbox.hold(peer, self._journal.written_sequence, message)
            return True
        if kind == "timeout_now":
            return self._network_send(peer, message)
        # H10: apply_command and its responses never leave; commands travel by cluster/forwarding.py.
        return False

    def _back_off(self, index: int) -> int:
        """The first entry of the conflicting term, so that a divergent tail costs one round trip per term, not per
        entry
        (Raft paper 5.3); never below what is committed."""
        term, floor = self._journal.term_at(index), self._require_engine().commit_index + 1
        while term is not None and index > floor and self._journal.term_at(index - 1) == term:
            index -= 1
        return index

    def mark_transfer_campaign(self, *, on: bool) -> None:
        """The engine clears its own flag before it sends the vote requests of a transfer (syncobj.py:636)."""
        self._transfer_campaign = on

    def _send_append(self, peer: str, message: Message) -> bool:
        """Nobody hears of a commit before this leader's own disk has it: with only one voter the engine commits at
        once, and a learner would apply what a loss of power takes back."""
        if peer in self.installing:
            return False
        if "serialized" in message:
            # The peer is behind the log. It gets the manifest, and fetches the image itself; until it is done the
            # engine must not send it anything (H17 and endless repeats), so for the engine it is gone.
            sent = self._network_send(
                peer, {"type": "snapshot_offer", "term": message["term"], "manifest": message["serialized"][0]}
            )
            if sent:
                self.installing.add(peer)
            self._onNodeDisconnected(member_node(peer))
            return sent
        number = self._append_number.get(peer, 0) + 1
        self._append_number[peer] = number
        message["n"] = number
        message["commit_index"] = min(message["commit_index"], self._journal.durable_index)
        entries = message["entries"]
        if type(entries) is not list:
            message["entries"] = list(entries)
        if self._network_send(peer, message):
            return True
        # Not sent: too much is in flight, or the link just broke. The engine has no window of its own (rule 11).
        self._onNodeDisconnected(member_node(peer))
        return False

    def heartbeat_installing(self, term: int) -> None:
        """Peers that fetch a snapshot hear of their leader although the engine sends them nothing."""
        for peer in sorted(self.installing):
            self._network_send(
                peer, {"type": "append_entries", "term": term, "commit_index": 0, "serialized": None, "n": 0}
            )

    def release(self) -> None:
        """The disk has advanced: send what waited for it, deliver what waited for it."""
        self._require_engine().enter()
        self._outbox.release(self._journal.durable_sequence)
        self._deliver_held_acks()

    # --- network -> engine --------------------------------------------------------------------------------------------

    def peer_connected(self, peer: str) -> None:
        """A fresh connection: nothing of an older one counts."""
        self.connected.add(peer)
        self.installing.discard(peer)
        self._reset_floor.pop(peer, None)
        self._require_engine().enter()
        self._onNodeConnected(member_node(peer))

    def peer_disconnected(self, peer: str) -> None:
        """The connection is gone, with everything that was held for it or from it."""
        self.connected.discard(peer)
        self.installing.discard(peer)
        self._outbox.forget(peer)
        self._held_acks = deque(held for held in self._held_acks if held[0] != peer)
        self._require_engine().enter()
        self._onNodeDisconnected(member_node(peer))

    def drained(self, peer: str) -> None:
        """The peer reads again; one that fetches a snapshot goes on fetching."""
        if peer not in self.installing:
            self.resume(peer)

    def resume(self, peer: str) -> None:
        """The engine may send to this peer again."""
        self.installing.discard(peer)
        if peer in self.connected:
            self._onNodeConnected(member_node(peer))

    def installed(self, peer: str, applied_index: int) -> None:
        """The peer needs no snapshot (any more): it has applied everything up to there, so it is in this log too.

        Its acknowledgement of the snapshot may be lost, and is not waited for: the same offer would be made for ever.
        """
        engine = self._require_engine()
        if engine.leading and peer in self.installing:
            after = min(applied_index, self._journal.last_index) + 1
            engine.set_next_index(peer, max(engine.next_index(peer), after))
        self.resume(peer)

    def leadership_changed(self) -> None:
        """What was offered in one leadership is forgotten in the next: the peer may have dropped it for another's."""
        for peer in sorted(self.installing):
            self.resume(peer)

    def receive(self, peer: str, message: Message) -> None:
        """One engine message. Raises ProtocolViolationError."""
        self._require_engine().enter()
        kind = message["type"]
        if kind == "append_entries":
            self._receive_append(peer, message)
        elif kind == "next_node_idx":
            self._receive_ack(peer, message)
        elif kind == "request_vote":
            self._receive_vote_request(peer, message)
        elif kind == "response_vote":
            self._receive_vote(peer, message)
        elif kind == "timeout_now":
            if self._elections is not None and self._elections.is_voter and self._elections.may_vote():
                self._onMessageReceived(member_node(peer), message)
        else:
            raise ProtocolViolationError(f"message of type {kind!r}")

    def _receive_append(self, peer: str, message: Message) -> None:
        engine = self._require_engine()
        if message["term"] < engine.term:
            # H20: the engine says nothing to an old leader, which then goes on until its fallback time.
            self._network_send(peer, {"type": "newer_term", "term": engine.term})
            return
        if "prevLogIdx" not in message:
            # H1: without a log match nothing may be committed here.
            message["commit_index"] = 0
            message["serialized"] = None
        if "transmission" in message:
            raise ProtocolViolationError("chunked entry")
        if self._elections is not None:
            self._elections.leader_heard(peer)
        self._answering = message.get("n")
        try:
            self._onMessageReceived(member_node(peer), message)
        finally:
            self._answering = None

    def _receive_ack(self, peer: str, message: Message) -> None:
        engine = self._require_engine()
        if message["term"] != engine.term or not engine.leading:
            return  # H5: an acknowledgement of another leadership says nothing about this one
        if not engine.counts(peer):
            return  # it was removed, or this node does not know of it yet
        if peer not in self.uncounted:
            engine.credit_contact(peer)
        self._held_acks.append((peer, message))
        self._deliver_held_acks()

    def _deliver_held_acks(self) -> None:
        """Successes count only up to what the leader itself has on disk: the engine counts it as one copy (H4)."""
        durable = self._journal.durable_index
        engine = self._require_engine()
        kept: deque[tuple[str, Message]] = deque()
        blocked: set[str] = set()
        for peer, message in self._held_acks:
            if peer in blocked or (message["success"] and message["next_node_idx"] - 1 > durable):
                blocked.add(peer)
                kept.append((peer, message))
            elif message["term"] == engine.term and engine.counts(peer):
                self._deliver_ack(engine, peer, message)
        self._held_acks = kept

    def _deliver_ack(self, engine: Engine, peer: str, message: Message) -> None:
        before = engine.next_index(peer)
        if peer in self.uncounted and message["success"]:
            # It is being rebuilt, and is no copy of anything yet; but it wants what follows.
            engine.set_next_index(peer, max(before, message["next_node_idx"]))
            return
        number = message["n"] or 0
        if message["reset"]:
            if number <= self._reset_floor.get(peer, -1):
                return  # H16: it answers an append sent before the last reset was acted upon
            self._reset_floor[peer] = self._append_number.get(peer, 0)
            engine.send_now()  # or what it lacks waits for the next period
        self._onMessageReceived(member_node(peer), message)
        if message["success"] and not message["reset"]:
            # H2: the engine rewinds to the acknowledged entry and would send everything after it twice.
            engine.set_next_index(peer, max(before, engine.next_index(peer)))

    def _receive_vote_request(self, peer: str, message: Message) -> None:
        elections = self._elections
        if elections is None or not elections.may_vote() or elections.refuse_vote_request(message):
            return
        self._onMessageReceived(member_node(peer), message)

    def _receive_vote(self, peer: str, message: Message) -> None:
        vote = (message["term"], peer)
        if vote in self._votes or not self._require_engine().is_voter(peer):
            return  # H19; and whoever has no vote
        if message["term"] == self._require_engine().term:
            self._votes = {v for v in self._votes if v[0] == message["term"]} | {vote}
        self._onMessageReceived(member_node(peer), message)

    def install(self, peer: str, term: int, manifest: bytes, index: int) -> None:
        """Inject a snapshot up to `index` whose image was fetched and checked (the engine's own shipping is not
        used)."""
        # What it holds is committed, and is the one thing H1 lets be so without a log match: the engine's commit index
        # must not stand before its log, or a later reset would go back to what is no longer there.
        message = {"type": "append_entries", "term": term, "commit_index": index, "serialized": (manifest, True, True)}
        self._installed_index = index
        try:
            self._onMessageReceived(member_node(peer), message)
        finally:
            self._installed_index = None

    def follow_term(self, peer: str, term: int) -> None:
        """Who misses a leader takes over the term of whom it asks for a vote: with the longer log and an older term it
        would be refused for ever, and with one node down there may be nobody else to lead."""
        elections = self._elections
        if elections is not None and elections.leader_missed and not self._require_engine().leading:
            self.newer_term(peer, term)

    def newer_term(self, peer: str, term: int) -> None:
        """Somebody has a newer term: take it over, and step down (a vote request that cannot be granted)."""
        if term > self._require_engine().term:
            self._onMessageReceived(
                member_node(peer), {"type": "request_vote", "term": term, "last_log_term": -1, "last_log_index": 0}
            )

    def _require_engine(self) -> Engine:
        if self._engine is None:
            raise AssertionError("the transport was used before bind()")
        return self._engine
