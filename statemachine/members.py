"""The members of the cluster, as data: who votes, who learns, and every id that was ever used.

    (never used) --AddMember--> learner --PromoteMember--> voter --RemoveMember--> leaving
    learner, leaving --RemoveMember--> removed, for ever

Who is leaving does not count any more, and still answers whoever counts on it: the other voters may not know yet that
its removal is committed. By the entry of the second `RemoveMember`, which the leader makes by itself, they do.

Until `FoundMembers` the table is empty, and the list that every node was started with counts. Who may be promoted or
removed *now* (quorum, lag) depends on who answers, which is no part of the state: the leader decides that before it
puts the command into the log. These commands take no revision: watchers of the data do not see them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from statemachine import limits, names
from statemachine.commands import AddMember, FoundMembers, PinJournal, PromoteMember, RemoveMember, UpdateMember
from statemachine.context import Context
from statemachine.keys import end_of, name
from statemachine.outcome import Item, Outcome, Refused, accepted
from statemachine.store import Overlay, Reader

VOTER, LEARNER, LEAVING, REMOVED = "voter", "learner", "leaving", "removed"

_TABLE = b"m"


class Member(msgspec.Struct, array_like=True):
    """A member, or what is left of one. `journal_id` is empty until it was met, and never changes after that."""

    node_id: str
    peer_address: str
    http_address: str
    role: str
    journal_id: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Member)


def get(reader: Reader, node_id: str) -> Member | None:
    """The member of that id, also if it was removed."""
    data = reader.get(_key(node_id))
    return None if data is None else _decoder.decode(data)


def scan(reader: Reader) -> Iterator[Member]:
    """Everybody who ever was a member, in order of their ids."""
    for _, data in reader.scan(_TABLE, end_of(_TABLE)):
        yield _decoder.decode(data)


def put(state: Overlay, member: Member) -> None:
    """Write a member's record."""
    state.put(_key(member.node_id), _encoder.encode(member))


def _key(node_id: str) -> bytes:
    return _TABLE + name(node_id)


def current_of(member: Member) -> dict[str, Any]:
    """A member as a refusal shows it."""
    return {
        "node_id": member.node_id,
        "peer_address": member.peer_address,
        "http_address": member.http_address,
        "role": member.role,
    }


def _require(ctx: Context, node_id: str) -> Member:
    member = get(ctx.state, node_id)
    if member is None or member.role == REMOVED:
        raise Refused("not_found", f"there is no member {node_id!r}")
    return member


def _check_address(what: str, address: str) -> None:
    if len(address.encode()) > limits.ADDRESS_BYTES_MAX:
        raise Refused("invalid_request", f"{what} is over {limits.ADDRESS_BYTES_MAX} bytes")


def _done(ctx: Context, node_id: str, status: int = 200) -> Outcome:
    return accepted(Item(status, node_id, ctx.meta.revision))


def _found(ctx: Context, command: FoundMembers) -> Outcome:
    if next(scan(ctx.state), None) is None:
        for founder in command.founders:
            put(ctx.state, Member(founder.node_id, founder.peer_address, "", VOTER))
    return _done(ctx, "")


def _add(ctx: Context, command: AddMember) -> Outcome:
    if wrong := names.check_id(command.node_id):
        raise Refused("invalid_request", f"node_id {wrong}")
    _check_address("peer_address", command.peer_address)
    _check_address("http_address", command.http_address)
    known = get(ctx.state, command.node_id)
    if known is not None and known.role == REMOVED:
        raise Refused(
            "id_used", f"node id {command.node_id!r} belonged to a member that was removed: take one never used before"
        )
    if known is not None:
        if (known.peer_address, known.http_address) != (command.peer_address, command.http_address):
            raise Refused("exists", f"member {command.node_id!r} exists with other addresses", current_of(known))
        return _done(ctx, command.node_id)
    roles = [member.role for member in scan(ctx.state)]
    if len(roles) - roles.count(REMOVED) >= limits.MEMBERS_MAX or len(roles) >= limits.MEMBERS_REMOVED_MAX:
        raise Refused("queue_full", f"there are {limits.MEMBERS_MAX} members, or too many were there already")
    put(ctx.state, Member(command.node_id, command.peer_address, command.http_address, LEARNER))
    return _done(ctx, command.node_id, 201)


def _promote(ctx: Context, command: PromoteMember) -> Outcome:
    member = _require(ctx, command.node_id)
    if member.role == LEAVING:
        raise Refused("not_found", f"member {command.node_id!r} is being removed")
    if member.role == LEARNER and not member.journal_id:
        # An emptied learner would not be recognised, and its votes would count.
        raise Refused("not_caught_up", f"member {command.node_id!r} was never met; start it first")
    member.role = VOTER
    put(ctx.state, member)
    return _done(ctx, command.node_id)


def after_removal(role: str) -> str:
    """What becomes of a member that is removed."""
    return LEAVING if role == VOTER else REMOVED


def _remove(ctx: Context, command: RemoveMember) -> Outcome:
    member = get(ctx.state, command.node_id)
    if member is None:
        raise Refused("not_found", f"there never was a member {command.node_id!r}")
    voters = [other.node_id for other in scan(ctx.state) if other.role == VOTER]
    if voters == [command.node_id]:
        raise Refused("quorum_at_risk", f"{command.node_id!r} is the only voter; without it there is no cluster")
    member.role = after_removal(member.role)
    put(ctx.state, member)
    return _done(ctx, command.node_id)


def _update(ctx: Context, command: UpdateMember) -> Outcome:
    member = _require(ctx, command.node_id)
    if command.peer_address is not None:
        _check_address("peer_address", command.peer_address)
        member.peer_address = command.peer_address
    if command.http_address is not None:
        _check_address("http_address", command.http_address)
        member.http_address = command.http_address
    put(ctx.state, member)
    return _done(ctx, command.node_id)


def _pin(ctx: Context, command: PinJournal) -> Outcome:
    member = _require(ctx, command.node_id)
    if member.journal_id and member.journal_id != command.journal_id:
        raise Refused("conflict", f"member {command.node_id!r} is known with another journal")
    member.journal_id = command.journal_id
    if not member.http_address:
        member.http_address = command.http_address
    put(ctx.state, member)
    return _done(ctx, command.node_id)


HANDLERS: dict[type[Any], Callable[[Context, Any], Outcome]] = {
    FoundMembers: _found,
    AddMember: _add,
    PromoteMember: _promote,
    RemoveMember: _remove,
    UpdateMember: _update,
    PinJournal: _pin,
}
