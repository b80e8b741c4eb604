"""Retention: sessions that were completed, or expired, long ago are removed with their events. Archived ones stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from statemachine import keys, limits, projects, session_record, sessions
from statemachine.commands import Command, EndedSession, RemoveEndedSessions
from statemachine.context import Context
from statemachine.outcome import Item, Outcome
from statemachine.session_record import Session, SessionStatus
from statemachine.store import Reader

ENDED = (SessionStatus.COMPLETED.value, SessionStatus.EXPIRED.value)
"""What retention removes. Who wants to keep a session archives it."""


class Ended(NamedTuple):
    """A session that was changed last then, and had ended."""

    at: int
    project_no: int
    number: int


def ended(reader: Reader, until_ms: int) -> Iterator[Ended]:
    """The ended sessions that were not changed since, longest ago first."""
    for key, _ in reader.scan(b"z", b"z" + keys.u64(max(until_ms, 0) + 1)):
        yield Ended(keys.from_u64(key[1:9]), int.from_bytes(key[9:13], "big"), keys.from_u64(key[13:]))


def remove_ended_sessions(ctx: Context, command: RemoveEndedSessions) -> Outcome:
    """RemoveEndedSessions. Events count as effects; what is too much goes to work rows."""
    left = limits.SIDE_EFFECTS_MAX
    items: list[Item] = []
    for item in command.items:
        found = _believed(ctx, item) if left > 0 else None
        if found is None:
            items.append(Item(0, item.session_id))
            continue
        project_no, session = found
        revision = ctx.take_revision()
        left -= 1 + sessions.remove(ctx, project_no, item.project, session, revision, effects_max=left - 1)
        items.append(Item(200, item.session_id, revision))
    return Outcome(ctx.meta.revision, tuple(items))


def _believed(ctx: Context, item: EndedSession) -> tuple[int, Session] | None:
    project = projects.find(ctx.state, item.project)
    session = None if project is None else session_record.find(ctx.state, project.number, item.session_id)
    if project is None or session is None or session.revision != item.revision or session.status not in ENDED:
        return None
    return project.number, session


HANDLERS: dict[type[Command], Callable[[Context, Any], Outcome]] = {RemoveEndedSessions: remove_ended_sessions}
