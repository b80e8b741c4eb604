"""What a core does with each message that is not between engines. Shapes are checked (`messages`) before it comes
here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.core import Core

Message = dict[str, Any]
Handler = Callable[["Core", str, Message], None]


def _ping(core: Core, peer_id: str, message: Message) -> None:
    if peer_id == core.engine.leader_id and message["term"] == core.engine.term:
        core.contact.on_ping(message, core.engine.applied_index)
    core.send(
        peer_id, {"type": "pong", "n": message["n"], "term": core.engine.term, "wall_ms": core.contact.wall_ms()}
    )


def _pong(core: Core, peer_id: str, message: Message) -> None:
    core.contact.on_pong(peer_id, message, core.engine.term)
    if core.engine.leading and message["term"] == core.engine.term:
        # Its acknowledgements wait for its disk; that it is there does not.
        core.engine.credit_contact(peer_id)


def _pre_vote(core: Core, peer_id: str, message: Message) -> None:
    core.elections.on_pre_vote(peer_id, message)


def _pre_vote_reply(core: Core, peer_id: str, message: Message) -> None:
    core.elections.on_pre_vote_reply(peer_id, message)


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
    "call": _for_owner,
    "reply": _for_owner,
}
"""By type; every other type of `messages.FIELDS` is the engine's."""
