"""Sessions and events as the API shows them and takes them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from cluster.replica import View
from node.api.body import Anything, Body, Count, OpenObject, absent
from node.api.ids import Id
from node.api.query import Text
from node.api.reply import raw
from node.api.times import TimeMs, text, text_or_none
from node.api.usage import Artifacts, Usage, dollars, usage_outside
from statemachine import limits
from statemachine.events import Event
from statemachine.session_record import Session, find

Title = Annotated[str, msgspec.Meta(max_length=limits.TITLE_BYTES_MAX)]
Priority = Annotated[int, msgspec.Meta(ge=0, le=limits.PRIORITY_MAX)]
Status = Literal["active", "paused", "completed", "archived", "expired"]
SettableStatus = Literal["active", "paused", "completed", "archived"]


class NewSession(Body):
    """`POST /api/sessions`."""

    session_id: Id | None = None
    title: Title | None = None
    agent_id: Id | None = None
    user: Text | None = None
    priority: Priority = limits.PRIORITY_DEFAULT
    expires_at: TimeMs | None = None
    metadata: OpenObject = absent()


class SessionPatch(Body):
    """`PATCH /api/sessions/{id}`, a merge patch: null removes, what is absent stays."""

    title: Title | msgspec.UnsetType | None = msgspec.UNSET
    agent_id: Id | msgspec.UnsetType | None = msgspec.UNSET
    user: Text | msgspec.UnsetType | None = msgspec.UNSET
    priority: Priority | msgspec.UnsetType = msgspec.UNSET
    expires_at: TimeMs | msgspec.UnsetType | None = msgspec.UNSET
    status: SettableStatus | msgspec.UnsetType = msgspec.UNSET
    metadata: OpenObject = absent()
    if_revision: Count | None = None


class NewEvents(Body):
    """`POST /api/sessions/{id}/events`: one event, or `items`."""

    type: Text | None = None
    data: Anything = absent()
    actor: Text | None = None
    correlation_id: Text | None = None
    causation_id: Text | None = None
    occurred_at: TimeMs | None = None
    usage: Usage | None = None
    artifacts: Artifacts | None = None
    items: list[EventBody] | None = None
    expected_seq: Count | None = None


class EventBody(Body):
    """One event to append."""

    type: Text
    data: Anything = absent()
    actor: Text | None = None
    correlation_id: Text | None = None
    causation_id: Text | None = None
    occurred_at: TimeMs | None = None
    usage: Usage | None = None
    artifacts: Artifacts | None = None


class Appended(msgspec.Struct):
    """What an append took."""

    first_seq: int
    last_seq: int
    revision: int


class Parent(msgspec.Struct):
    """Where a session was forked from."""

    session_id: str
    at_seq: int


class StatsView(msgspec.Struct):
    """Sums over a session's events."""

    events: int
    by_type: dict[str, int]
    input_tokens: int
    output_tokens: int
    cost_usd: float
    first_event_at: str | None
    last_event_at: str | None


class SessionView(msgspec.Struct):
    """A session."""

    session_id: str
    project: str
    status: Status
    title: str | None
    agent_id: str | None
    user: str | None
    priority: int
    expires_at: str | None
    metadata: msgspec.Raw
    last_seq: int
    parent: Parent | None
    stats: StatsView
    created_at: str
    updated_at: str
    revision: int
    created_revision: int


class Deleted(msgspec.Struct):
    """What a delete answers."""

    session_id: str
    revision: int
    deleted: bool = True


class EventView(msgspec.Struct):
    """An event."""

    event_id: str
    session_id: str
    seq: int
    revision: int
    type: str
    actor: str | None
    data: msgspec.Raw
    correlation_id: str | None
    causation_id: str | None
    occurred_at: str | None
    recorded_at: str
    usage: Usage | None
    artifacts: msgspec.Raw


def session_view(project: str, session: Session, *, full: bool = True) -> SessionView:
    """A session as shown."""
    stats = session.stats
    return SessionView(
        session_id=session.session_id,
        project=project,
        status=session.status,  # type: ignore[arg-type]  # the record keeps the same words as plain text
        title=session.title,
        agent_id=session.agent_id,
        user=session.user,
        priority=session.priority,
        expires_at=text_or_none(session.expires_at),
        metadata=raw(session.metadata if full else None),
        last_seq=session.last_seq,
        parent=None if session.parent is None else Parent(*session.parent),
        stats=StatsView(
            stats.events,
            stats.by_type,
            stats.input_tokens,
            stats.output_tokens,
            dollars(stats.cost),
            text_or_none(stats.first_event_at),
            text_or_none(stats.last_event_at),
        ),
        created_at=text(session.created_at),
        updated_at=text(session.updated_at),
        revision=session.revision,
        created_revision=session.created_revision,
    )


def find_view(view: View, project_no: int, project: str, session_id: str) -> SessionView | None:
    """The session of that id as shown."""
    session = find(view, project_no, session_id)
    return None if session is None else session_view(project, session)


def event_view(session_id: str, seq: int, event: Event, *, full: bool = True) -> EventView:
    """An event as shown; without `full` its data is left out."""
    new = event.event
    return EventView(
        event_id=new.event_id,
        session_id=session_id,
        seq=seq,
        revision=event.revision,
        type=new.type,
        actor=new.actor,
        data=raw(new.data if full else None),
        correlation_id=new.correlation_id,
        causation_id=new.causation_id,
        occurred_at=text_or_none(new.occurred_at),
        recorded_at=text(event.recorded_at),
        usage=usage_outside(new.usage),
        artifacts=msgspec.Raw(b"[]") if new.artifacts is None else msgspec.Raw(new.artifacts),
    )
