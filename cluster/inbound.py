"""What a core does with what the network delivers: connections that come and go, and each type of message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cluster import integrity
from cluster.messages import ProtocolViolationError, check_message
from cluster.ports import Network

if TYPE_CHECKING:
    from cluster.core import Core

Message = dict[str, Any]
Handler = Callable[["Core", str, Message], None]

log = logging.getLogger("hive.cluster")


def _ping(core: Core, peer_id: str, message: Message) -> None:
    if peer_id == core.engine.leader_id and message["term"] == core.engine.term:
        core.contact.on_ping(message, core.engine.applied_index)
        core.integrity.free_space.told(read_only=message.get("read_only") is True)
    core.send(
        peer_id,
        {
            "type": "pong",
            "n": message["n"],
            "term": core.engine.term,
            "wall_ms": core.contact.wall_ms(),
            "free_bytes": core.integrity.free_space.own_bytes,
        },
    )


def _pong(core: Core, peer_id: str, message: Message) -> None:
    core.contact.on_pong(peer_id, message, core.engine.term)
    core.integrity.free_space.heard(peer_id, message.get("free_bytes"))
    if core.engine.leading and message["term"] == core.engine.term and peer_id not in core.contact.uncounted:
        # Its acknowledgements wait for its disk; that it is there does not.
        core.engine.credit_contact(peer_id)


def _pre_vote(core: Core, peer_id: str, message: Message) -> None:
    core.elections.on_pre_vote(peer_id, message)


def _pre_vote_reply(core: Core, peer_id: str, message: Message) -> None:
    core.elections.on_pre_vote_reply(peer_id, message)
    core.transport.follow_term(peer_id, message["term"])


def _newer_term(core: Core, peer_id: str, message: Message) -> None:
    core.transport.newer_term(peer_id, message["term"])


def _propose(core: Core, peer_id: str, message: Message) -> None:
    core.intake.take(peer_id, message["term"], message["low"], message["batch"])


def _refused(core: Core, _peer_id: str, message: Message) -> None:
    core.proposer.refused(message["sequence"], message["term"], message["code"])


def _read_index(core: Core, peer_id: str, message: Message) -> None:
    number = message["number"]

    def answer(index: int | None) -> None:
        core.send(peer_id, {"type": "read_index_reply", "number": number, "index": index})

    core.reads.on_question(answer)


def _read_index_reply(core: Core, _peer_id: str, message: Message) -> None:
    core.reads.on_answer(message["number"], message["index"])


def _snapshot_offer(core: Core, peer_id: str, message: Message) -> None:
    if message["term"] >= core.engine.term:
        core.snapshots.on_offer(peer_id, message["manifest"], core.engine.applied_index)


def _installed(core: Core, peer_id: str, message: Message) -> None:
    core.transport.installed(peer_id, message["index"])


def _image_pull(core: Core, peer_id: str, message: Message) -> None:
    core.snapshots.on_pull(peer_id, message)


def _image_chunk(core: Core, peer_id: str, message: Message) -> None:
    core.snapshots.on_chunk(peer_id, message)


def _image_gone(core: Core, peer_id: str, message: Message) -> None:
    core.snapshots.on_gone(peer_id, message)


def _removed(core: Core, _peer_id: str, _message: Message) -> None:
    core.reconfiguring.removed()


def _image_damaged(core: Core, _peer_id: str, message: Message) -> None:
    newest = core.snapshots.newest
    if newest is None or newest.position.index != message["index"]:
        return
    log.error("the snapshot at entry %d is damaged on this disk; another one is taken", message["index"])
    if core.engine.leading:
        core.engine.append_no_op()  # of the same entry none would be taken again
    core.engine.forceLogCompaction()


def _for_owner(core: Core, peer_id: str, message: Message) -> None:
    core.owner.on_message(peer_id, message)


HANDLERS: dict[str, Handler] = {
    "ping": _ping,
    "pong": _pong,
    "pre_vote": _pre_vote,
    "pre_vote_reply": _pre_vote_reply,
    "newer_term": _newer_term,
    "propose": _propose,
    "refused": _refused,
    "read_index": _read_index,
    "read_index_reply": _read_index_reply,
    "snapshot_offer": _snapshot_offer,
    "installed": _installed,
    "image_pull": _image_pull,
    "image_chunk": _image_chunk,
    "image_gone": _image_gone,
    "image_damaged": _image_damaged,
    "removed": _removed,
    "call": _for_owner,
    "reply": _for_owner,
    **integrity.HANDLERS,
}
"""By type; every other type of `messages.FIELDS` is the engine's."""


class Inbound:
    """As `ports.Receiver`, for a core."""

    def __init__(self, core: Core, network: Network) -> None:
        self._core = core
        self._network = network

    def hello(self) -> dict[str, Any]:
        """What this node says of itself to a peer."""
        return self._core.peers.hello(self._core.journal.last_index, self._core.journal.last_term)

    def refuse_hello(self, peer_id: str, hello: dict[str, Any]) -> str | None:
        """Why a peer is not spoken to."""
        journal = self._core.journal
        return self._core.peers.refuse(peer_id, hello, (journal.last_term, journal.last_index))

    def on_connected(self, peer_id: str, hello: dict[str, Any]) -> None:
        """A peer is there."""
        self._core.guarded(lambda: self._connected(peer_id, hello))

    def _connected(self, peer_id: str, hello: dict[str, Any]) -> None:
        core = self._core
        if self.refuse_hello(peer_id, hello) is not None:
            # Its last connection ended only now, and with it came what it had acknowledged there. Its hello may be
            # older than that; the next one is not, and is judged by it.
            self._network.disconnect(peer_id, "its hello is older than what it acknowledged")
            return
        core.peers.met(peer_id, hello)
        core.contact.heard(peer_id)
        core.integrity.peer_connected(peer_id, hello)
        core.transport.peer_connected(peer_id)
        if peer_id == core.engine.leader_id:
            core.proposer.reconnected(core.engine.term)
            core.reads.leadership_changed()
        core.schedule_pump()

    def on_refused(self, peer_id: str, reason: str) -> None:
        """A handshake failed. Whoever is told that its journal is unknown must not go on with it."""
        self._core.owner.on_refused(peer_id, reason)

    def on_disconnected(self, peer_id: str) -> None:
        """A peer is gone."""
        self._core.guarded(lambda: self._disconnected(peer_id))

    def _disconnected(self, peer_id: str) -> None:
        core = self._core
        core.contact.lost(peer_id)
        core.integrity.peer_lost(peer_id)
        if core.engine.leading:
            core.peers.holds_at_least(peer_id, min(core.engine.match_index(peer_id), core.engine.commit_index))
        core.transport.peer_disconnected(peer_id)
        core.snapshots.lost(peer_id)
        if peer_id == core.engine.leader_id:
            core.elections.leader_lost()

    def on_drained(self, peer_id: str) -> None:
        """A slow peer reads again."""
        self._core.guarded(lambda: self._core.transport.drained(peer_id))

    def on_message(self, peer_id: str, message: Message) -> None:
        """One message of a peer. A malformed one costs the peer its connection, never this node."""
        self._core.guarded(lambda: self._message(peer_id, message))

    def _message(self, peer_id: str, message: Message) -> None:
        core = self._core
        if peer_id in core.peers.removed:
            return  # it is being told so
        core.contact.heard(peer_id)
        core.engine.enter()
        try:
            check_message(message)
            handler = HANDLERS.get(message["type"])
            if handler is None:
                core.transport.receive(peer_id, message)
            else:
                handler(core, peer_id, message)
        except ProtocolViolationError as error:
            self._network.disconnect(peer_id, f"protocol violation: {error}")
        core.schedule_pump()
