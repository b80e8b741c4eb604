"""Sessions: the life of a session, and how sessions are found. Their events: `events`.

Moves between statuses (`MOVES`): who is not in the table is refused with `conflict`, and nothing changes.

    active     pausing, completing, archiving it; expires by itself at `expires_at`
    paused     takes events too, so that what interrupted it can be told; otherwise as active
    completed  read-only; may be opened again, or archived
    expired    read-only; may be opened again when `expires_at` is moved or removed, or archived
    archived   read-only; may only be opened again: what was put away by mistake comes back, nothing else
    happens to it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from statemachine import events, former_sessions, keys, limits, names, session_record, work
from statemachine.commands import Command, CreateSession, DeleteSession, ExpireSessions, UpdateSession
from statemachine.context import Context
from statemachine.outcome import Item, Made, Outcome, Refused, accepted
from statemachine.session_record import Session, SessionStatus
from statemachine.store import Overlay, Reader

ACTIVE, PAUSED, COMPLETED = (
    SessionStatus.ACTIVE.value,
    SessionStatus.PAUSED.value,
    SessionStatus.COMPLETED.value,
)
ARCHIVED, EXPIRED = SessionStatus.ARCHIVED.value, SessionStatus.EXPIRED.value

MOVES: dict[str, tuple[str, ...]] = {
    ACTIVE: (PAUSED, COMPLETED, ARCHIVED),
    PAUSED: (ACTIVE, COMPLETED, ARCHIVED),
    COMPLETED: (ACTIVE, ARCHIVED),
    EXPIRED: (ACTIVE, ARCHIVED),
    ARCHIVED: (ACTIVE,),
}
"""What a user may make of a session. To `expired` only time leads, from `EXPIRING`."""

EXPIRING = (ACTIVE, PAUSED)
"""The statuses in which `expires_at` counts."""

CHANGEABLE = ("title", "agent_id", "user", "priority", "expires_at", "metadata")
"""What a PATCH may set beside `status`."""

DELETE_EVENTS = "delete_events"
"""The kind of work row that removes the events of deleted sessions."""


class SessionFilter(msgspec.Struct, frozen=True):
    """Which sessions are wanted: all that are given must hold. `updated_since` is Unix milliseconds,
    inclusive."""

    statuses: tuple[str, ...] = ()
    agent_ids: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    updated_since: int | None = None


# --- commands -----------------------------------------------------------------------------------------------


def _create(ctx: Context, command: CreateSession) -> Outcome:
    project = ctx.require_project()
    if wrong := names.check_id(command.session_id):
        raise Refused("invalid_request", f"session_id {wrong}")
    content = session_record.content_of(command)
    existing = session_record.find(ctx.state, project.number, command.session_id)
    if existing is not None:
        if existing.content != content:
            raise Refused("exists", f"session {command.session_id!r} exists with other content", current_of(existing))
        return Outcome(ctx.meta.revision, (Item(200, existing.session_id, existing.revision),))
    revision = ctx.take_revision()
    seen_seq = former_sessions.take_over(ctx, project.number, command.session_id)
    session = Session(
        command.session_id,
        keys.order_number(revision, 0),
        content,
        created_at=ctx.time_ms,
        created_revision=revision,
        updated_at=ctx.time_ms,
        revision=revision,
        title=command.title,
        agent_id=command.agent_id,
        user=command.user,
        priority=command.priority,
        expires_at=command.expires_at,
        metadata=command.metadata,
        last_seq=seen_seq,
        first_seq=seen_seq + 1,
    )
    session_record.put_new(ctx.state, project.number, session)
    _watch_expiry(ctx.state, project.number, None, session)
    ctx.count(f"sessions.{session.status}", 1)
    ctx.change(revision, "session.created", "session", session.session_id, topics=events.topics_of(session))
    return accepted(Made(201, session.session_id, revision, record=session))


def _update(ctx: Context, command: UpdateSession) -> Outcome:
    project = ctx.require_project()
    old = _require(ctx, command.session_id)
    if command.if_revision is not None and command.if_revision != old.revision:
        current = {**current_of(old), "expected_revision": command.if_revision}
        raise Refused("conflict", f"session {old.session_id!r} was changed meanwhile", current)
    values = {}
    for field in command.fields:
        if field not in CHANGEABLE and field != "status":
            raise Refused("invalid_request", f"{field} cannot be changed")
        values[field] = getattr(command, field)
    session = msgspec.structs.replace(old, **values)
    _check_move(ctx, old, session)
    changed = tuple(field for field in CHANGEABLE if getattr(session, field) != getattr(old, field))
    if not changed and session.status == old.status:
        return Outcome(ctx.meta.revision, (Made(200, old.session_id, old.revision, record=old),))
    revision = ctx.take_revision()
    _rewrite(ctx, project.number, old, session, revision)
    topics = tuple(dict.fromkeys(events.topics_of(old) + events.topics_of(session)))
    if changed:
        data = {"fields": list(changed)}
        ctx.change(revision, "session.updated", "session", session.session_id, topics=topics, data=data)
    if session.status != old.status:
        data_moved = {"from": old.status, "to": session.status}
        ctx.change(revision, "session.status_changed", "session", session.session_id, topics=topics, data=data_moved)
    return accepted(Made(200, session.session_id, revision, record=session))


def _check_move(ctx: Context, old: Session, new: Session) -> None:
    if new.status == old.status:
        return
    if new.status not in MOVES:
        raise Refused("invalid_request", f"status must be one of {', '.join(MOVES)}")
    if new.status not in MOVES[old.status]:
        allowed = ", ".join(MOVES[old.status])
        raise Refused(
            "conflict",
            f"a session that is {old.status} may become {allowed}, not {new.status}",
            current_of(old),
        )
    if new.status in EXPIRING and new.expires_at is not None and new.expires_at <= ctx.time_ms:
        raise Refused(
            "conflict",
            "its expires_at has passed; set a later one, or null, in the same request",
            current_of(old),
        )


def _delete(ctx: Context, command: DeleteSession) -> Outcome:
    project = ctx.require_project()
    session = _require(ctx, command.session_id)
    revision = ctx.take_revision()
    remove(ctx, project.number, project.name, session, revision, effects_max=limits.SIDE_EFFECTS_MAX)
    return accepted(Item(200, session.session_id, revision))


def remove(ctx: Context, project_no: int, project: str, session: Session, revision: int, *, effects_max: int) -> int:
    """Take a session out of the state with its events, as far as `effects_max` of them now; returns how many."""
    session_record.remove(ctx.state, project_no, session)
    former_sessions.keep(ctx, project_no, session)
    _watch_expiry(ctx.state, project_no, session, None)
    ctx.count(f"sessions.{session.status}", -1, project_no=project_no)
    first_seq = session.first_seq
    removed = min(session.last_seq - first_seq + 1, effects_max)
    events.remove(ctx.state, project_no, session.number, first_seq, removed)
    if first_seq + removed <= session.last_seq:
        left: dict[str, int | str] = {
            "project_no": project_no,
            "number": session.number,
            "next_seq": first_seq + removed,
            "last_seq": session.last_seq,
        }
        work.add(ctx, DELETE_EVENTS, left)
    topics = events.topics_of(session)
    ctx.change(revision, "session.deleted", "session", session.session_id, topics=topics, project=project)
    return removed


def _drain_events(
    ctx: Context, payload: dict[str, int | str], effects_max: int
) -> tuple[int, dict[str, int | str] | None]:
    """Go on removing the events of a deleted session -> (how many now, what is left)."""
    next_seq, last_seq = int(payload["next_seq"]), int(payload["last_seq"])
    count = min(effects_max, last_seq - next_seq + 1)
    events.remove(ctx.state, int(payload["project_no"]), int(payload["number"]), next_seq, count)
    next_seq += count
    return count, None if next_seq > last_seq else {**payload, "next_seq": next_seq}


def _expire(ctx: Context, command: ExpireSessions) -> Outcome:
    """One item per session: status 200, or 0 where its time has not come, or it is gone or no longer open."""
    project = ctx.require_project()
    items = []
    for session_id in command.session_ids[: limits.SIDE_EFFECTS_MAX]:
        old = session_record.find(ctx.state, project.number, session_id)
        if old is None or not _is_due(old, ctx.time_ms):
            items.append(Item(0, session_id))
            continue
        revision = ctx.take_revision()
        session = msgspec.structs.replace(old, status=EXPIRED)
        _rewrite(ctx, project.number, old, session, revision)
        data = {"from": old.status, "to": EXPIRED}
        topics = events.topics_of(session)
        ctx.change(revision, "session.status_changed", "session", session_id, topics=topics, data=data)
        items.append(Item(200, session_id, revision))
    return Outcome(ctx.meta.revision, tuple(items))


HANDLERS: dict[type[Command], Callable[[Context, Any], Outcome]] = {
    CreateSession: _create,
    UpdateSession: _update,
    DeleteSession: _delete,
    ExpireSessions: _expire,
}

work.KINDS[DELETE_EVENTS] = _drain_events


def _require(ctx: Context, session_id: str) -> Session:
    session = session_record.find(ctx.state, ctx.project_no, session_id)
    if session is None:
        raise Refused("not_found", f"session {session_id!r} does not exist")
    return session


def current_of(session: Session) -> dict[str, Any]:
    """What a refusal shows of the session that stands in the way."""
    return {
        "session_id": session.session_id,
        "status": session.status,
        "expires_at": session.expires_at,
        "last_seq": session.last_seq,
        "revision": session.revision,
    }


def _rewrite(ctx: Context, project_no: int, old: Session, session: Session, revision: int) -> None:
    session.revision = revision
    session.updated_at = ctx.time_ms
    session_record.put(ctx.state, project_no, session)
    _watch_expiry(ctx.state, project_no, old, session)
    if session.status != old.status:
        ctx.count(f"sessions.{old.status}", -1)
        ctx.count(f"sessions.{session.status}", 1)


# --- expiry -------------------------------------------------------------------------------------------------


def _is_due(session: Session, time_ms: int) -> bool:
    return session.status in EXPIRING and session.expires_at is not None and session.expires_at <= time_ms


def expiry_key(project_no: int, session: Session | None) -> bytes | None:
    """Where the index of expiries holds this session, if it does: open ones with a time only."""
    if session is None or session.expires_at is None or session.status not in EXPIRING:
        return None
    return b"e" + keys.u64(session.expires_at) + keys.u32(project_no) + keys.u64(session.number)


def ended_key(project_no: int, session: Session | None) -> bytes | None:
    """Where the index of ended sessions holds this one, if it does: archived ones are kept for good."""
    if session is None or session.status not in (COMPLETED, EXPIRED):
        return None
    return b"z" + keys.u64(session.updated_at) + keys.u32(project_no) + keys.u64(session.number)


def _watch_expiry(state: Overlay, project_no: int, old: Session | None, new: Session | None) -> None:
    """Keep both indexes by time: a session is in one at most."""
    before = expiry_key(project_no, old) or ended_key(project_no, old)
    after = expiry_key(project_no, new) or ended_key(project_no, new)
    if before == after:
        return
    if before is not None:
        state.delete(before)
    if after is not None:
        state.put(after, b"")


def due(reader: Reader, time_ms: int) -> Iterator[tuple[int, Session]]:
    """(project number, session) of all open sessions whose `expires_at` has come, earliest first: for
    `ExpireSessions`."""
    for key, _ in reader.scan(b"e", b"e" + keys.u64(time_ms + 1)):
        project_no = int.from_bytes(key[9:13], "big")
        session = session_record.get(reader, project_no, keys.from_u64(key[13:]))
        if session is None:
            raise AssertionError("the index of expiries holds a session that does not exist")
        yield project_no, session


def next_expiry_ms(reader: Reader) -> int | None:
    """When the next open session expires: how long the leader may sleep."""
    for key, _ in reader.scan(b"e", keys.end_of(b"e")):
        return keys.from_u64(key[1:9])
    return None


# --- queries ------------------------------------------------------------------------------------------------


def scan(
    reader: Reader,
    project_no: int,
    wanted: SessionFilter,
    *,
    after: int | None = None,
    ascending: bool = False,
) -> Iterator[tuple[int, Session | None]]:
    """(position, session) in order of creation, newest first; None stands for one that is not wanted.

    `after` is the position to go on behind. The caller counts what it is shown and stops where its page or
    its patience ends: every position it saw is a cursor.
    """
    start, end = keys.behind(b"J" + keys.u32(project_no), after, ascending=ascending)
    for _, data in reader.scan(start, end, reverse=not ascending):
        session = session_record.decode(data)
        yield session.number, session if _is_wanted(session, wanted) else None


def _is_wanted(session: Session, wanted: SessionFilter) -> bool:
    return (
        (not wanted.statuses or session.status in wanted.statuses)
        and (not wanted.agent_ids or session.agent_id in wanted.agent_ids)
        and (not wanted.users or session.user in wanted.users)
        and (wanted.updated_since is None or session.updated_at >= wanted.updated_since)
    )
