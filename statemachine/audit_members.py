"""Invariants of the members table."""

from __future__ import annotations

from statemachine import members
from statemachine.keys import end_of, name
from statemachine.store import Reader

_ROLES = (members.VOTER, members.LEARNER, members.LEAVING, members.REMOVED)


def check(reader: Reader, faults: list[str]) -> None:
    """Every row is under its own id, and once there are members, somebody votes."""
    rows = [(key[1:], member) for (key, _), member in zip(_rows(reader), members.scan(reader), strict=True)]
    for key, member in rows:
        if key != name(member.node_id):
            faults.append(f"member {member.node_id} stands under key {key!r}")
        if member.role not in _ROLES:
            faults.append(f"member {member.node_id} is a {member.role!r}")
    if rows and all(member.role != members.VOTER for _, member in rows):
        faults.append("there are members, and nobody votes")


def _rows(reader: Reader) -> list[tuple[bytes, bytes]]:
    return list(reader.scan(b"m", end_of(b"m")))
