"""The event log of a session: appended, never changed, read by `seq` from 1 without gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from statemachine import event_types, keys, limits, session_record
from statemachine.commands import AppendEvents, Command, NewEvent
from statemachine.context import Context
from statemachine.outcome import Item, Outcome, Refused, accepted
from statemachine.session_record import Session, SessionStatus, Stats
from statemachine.store import Overlay, Reader

OTHER = "other"
"""Where types beyond the counted ones are put together. No type has this name: types have a dot."""

_WRITABLE = (SessionStatus.ACTIVE.value, SessionStatus.PAUSED.value)


class Event(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An event as it is kept; its session and seq are its key. `recorded_at` never goes back with growing
    seq."""

    revision: int
    recorded_at: int
    event: NewEvent


class EventFilter(msgspec.Struct, frozen=True):
    """Which events are wanted: all that are given must hold. `since` and `until` are about `recorded_at`
    [since, until)."""

    types: tuple[str, ...] = ()
    actor: str | None = None
    correlation_id: str | None = None
    since: int | None = None
    until: int | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)


def _append_events(ctx: Context, command: AppendEvents) -> Outcome:
    session = check_append(ctx, command.session_id, command.events, command.expected_seq)
    revision = ctx.take_revision()
    first_seq, last_seq = _write(ctx, session, command.events, revision)
    return accepted(Item(201, command.session_id, revision, (first_seq, last_seq)))


HANDLERS: dict[type[Command], Callable[[Context, Any], Outcome]] = {AppendEvents: _append_events}


def check_append(
    ctx: Context, session_id: str, events: tuple[NewEvent, ...], expected_seq: int | None = None
) -> Session:
    """The session, if these events may be appended to it now; raises Refused and has written nothing.

    `not_found`; `conflict` unless it is active or paused and not past its `expires_at`; `sequence_mismatch`.
    """
    project = ctx.require_project()
    if not 0 < len(events) <= limits.BATCH_ITEMS_MAX:
        raise Refused("invalid_request", f"an append takes 1 to {limits.BATCH_ITEMS_MAX} events, not {len(events)}")
    for position, event in enumerate(events):
        if wrong := _check_event(event):
            raise Refused("invalid_request", f"items[{position}].{wrong}")
    session = session_record.find(ctx.state, project.number, session_id)
    if session is None:
        raise Refused("not_found", f"session {session_id!r} does not exist")
    status = session.status
    if status in _WRITABLE and session.expires_at is not None and session.expires_at <= ctx.time_ms:
        status = SessionStatus.EXPIRED.value
    if status not in _WRITABLE:
        raise Refused(
            "conflict",
            f"session {session_id!r} is {status} and takes no more events",
            {"status": status, "last_seq": session.last_seq, "revision": session.revision},
        )
    if expected_seq is not None and expected_seq != session.last_seq:
        raise Refused(
            "sequence_mismatch",
            f"expected last seq {expected_seq}, but it is {session.last_seq}",
            {"last_seq": session.last_seq},
        )
    return session


def append(
    ctx: Context,
    session_id: str,
    events: tuple[NewEvent, ...],
    revision: int,
    expected_seq: int | None = None,
) -> tuple[int, int]:
    """Append events under a revision that was taken already -> (first seq, last seq). Refusals:
    `check_append`."""
    session = check_append(ctx, session_id, events, expected_seq)
    return _write(ctx, session, events, revision)


def _check_event(event: NewEvent) -> str | None:
    if wrong := event_types.check_shape(event.type):
        return f"type {wrong}"
    if event.usage is not None and not all(0 <= number <= limits.USAGE_MAX for number in event.usage):
        return f"usage must be between 0 and {limits.USAGE_MAX}"
    return None


def _write(ctx: Context, session: Session, events: tuple[NewEvent, ...], revision: int) -> tuple[int, int]:
    """One put per event, one for the session, ONE change for the append.

    One change and not one per event: the feed refers and does not copy. Watchers that want only some types
    look at `types`, and read the seqs they are told.
    """
    project_no, time_ms = ctx.project_no, ctx.time_ms
    first_seq = session.last_seq + 1
    prefix = _prefix(project_no, session.number)
    for seq, event in enumerate(events, first_seq):
        ctx.state.put(prefix + keys.u64(seq), _encoder.encode(Event(revision, time_ms, event)))
        _count(session.stats, event, time_ms)
    session.last_seq += len(events)
    session.updated_at = time_ms
    session.revision = revision
    session_record.put(ctx.state, project_no, session)
    ctx.change(
        revision,
        "event.appended",
        "session",
        session.session_id,
        topics=topics_of(session),
        correlation_id=_correlation_of(events),
        data={"first_seq": first_seq, "last_seq": session.last_seq, "types": _types_of(events)},
    )
    return first_seq, session.last_seq


def topics_of(session: Session) -> tuple[str, ...]:
    """What the changes of a session are found under beside the session itself."""
    topics = []
    if session.agent_id is not None:
        topics.append(f"agent.{session.agent_id}")
    if session.user is not None:
        topics.append(f"user.{session.user}")
    return tuple(topics)


def _correlation_of(events: tuple[NewEvent, ...]) -> str | None:
    """The correlation id that all events share, or None."""
    first = events[0].correlation_id
    return first if all(event.correlation_id == first for event in events) else None


def _types_of(events: tuple[NewEvent, ...]) -> list[str]:
    """The types in order of occurrence, bounded like the statistics."""
    found = list(dict.fromkeys(event.type for event in events))
    counted = limits.EVENT_TYPES_COUNTED_MAX
    return found if len(found) <= counted else [*found[:counted], OTHER]


def _count(stats: Stats, event: NewEvent, time_ms: int) -> None:
    stats.events += 1
    known = event.type in stats.by_type or len(stats.by_type) < limits.EVENT_TYPES_COUNTED_MAX
    kind = event.type if known else OTHER
    stats.by_type[kind] = stats.by_type.get(kind, 0) + 1
    if event.usage is not None:
        input_tokens, output_tokens, cost = event.usage
        stats.input_tokens = min(stats.input_tokens + input_tokens, limits.SUM_MAX)
        stats.output_tokens = min(stats.output_tokens + output_tokens, limits.SUM_MAX)
        stats.cost = min(stats.cost + cost, limits.SUM_MAX)
    if stats.first_event_at is None:
        stats.first_event_at = time_ms
    stats.last_event_at = time_ms


def _prefix(project_no: int, session_number: int) -> bytes:
    return b"E" + keys.u32(project_no) + keys.u64(session_number)


def remove(state: Overlay, project_no: int, session_number: int, first_seq: int, count: int) -> None:
    """Delete `count` events from `first_seq` on: of a session that is gone."""
    prefix = _prefix(project_no, session_number)
    for seq in range(first_seq, first_seq + count):
        state.delete(prefix + keys.u64(seq))


def get(reader: Reader, project_no: int, session: Session, seq: int) -> Event | None:
    """One event by its seq."""
    data = reader.get(_prefix(project_no, session.number) + keys.u64(seq))
    return None if data is None else _decoder.decode(data)


def scan(
    reader: Reader,
    project_no: int,
    session: Session,
    wanted: EventFilter,
    *,
    after_seq: int = 0,
    before_seq: int | None = None,
    descending: bool = False,
) -> Iterator[tuple[int, Event | None]]:
    """(seq, event) with `after_seq` < seq < `before_seq`, by seq; None stands for one that is not wanted.

    The caller counts what it is shown and stops where its time or its page ends: the last seq it saw is where
    to go on. `since` and `until` are found by bisection, so that what lies outside is never read.
    """
    first = after_seq + 1
    end = session.last_seq + 1 if before_seq is None else min(before_seq, session.last_seq + 1)
    if wanted.since is not None:
        first = max(first, seq_at(reader, project_no, session, wanted.since))
    if wanted.until is not None:
        end = min(end, seq_at(reader, project_no, session, wanted.until))
    prefix = _prefix(project_no, session.number)
    for key, data in reader.scan(prefix + keys.u64(first), prefix + keys.u64(end), reverse=descending):
        event = _decoder.decode(data)
        yield keys.from_u64(key[-8:]), event if _is_wanted(event.event, wanted) else None


def seq_at(reader: Reader, project_no: int, session: Session, time_ms: int) -> int:
    """The first seq recorded at `time_ms` or later; `last_seq` + 1 when there is none."""
    low, high = session.first_seq, session.last_seq + 1
    while low < high:
        middle = (low + high) >> 1
        event = get(reader, project_no, session, middle)
        if event is None:
            raise AssertionError(f"event {middle} of session {session.session_id!r} is missing")
        if event.recorded_at < time_ms:
            low = middle + 1
        else:
            high = middle
    return low


def _is_wanted(event: NewEvent, wanted: EventFilter) -> bool:
    return (
        (not wanted.types or event.type in wanted.types)
        and (wanted.actor is None or event.actor == wanted.actor)
        and (wanted.correlation_id is None or event.correlation_id == wanted.correlation_id)
    )
