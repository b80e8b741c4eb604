"""Routes of a session's event log: append, read, and wait for more."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec

from node.api import ids
from node.api.batches import check_count
from node.api.body import Count, anything
from node.api.pages import Page, PageBuilder, encode_cursor, fill, position_of
from node.api.problem import invalid
from node.api.query import ListQuery, Text, WaitMs, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.session_views import Appended, EventBody, EventView, NewEvents, event_view
from node.api.sessions import session_of
from node.api.times import TimeMs
from node.api.usage import artifacts_inside, usage_inside
from node.api.writes import decide, replay_headers
from statemachine import event_types, events, limits
from statemachine.commands import AppendEvents, NewEvent
from statemachine.events import EventFilter

_KIND = "events"
_SINGLE_ONLY = ("data", "actor", "correlation_id", "causation_id", "occurred_at", "usage", "artifacts")


class ListEvents(ListQuery, kw_only=True):
    """Filters of `GET /api/sessions/{id}/events`. `since` and `until` are about `recorded_at`: [since, until)."""

    order: Literal["asc", "desc"] = "asc"
    after_seq: Count = 0
    before_seq: Count | None = None
    types: tuple[Text, ...] = ()
    actor: tuple[Text, ...] = ()
    correlation_id: tuple[Text, ...] = ()
    since: TimeMs | None = None
    until: TimeMs | None = None
    wait_ms: Annotated[WaitMs, msgspec.Meta(description="wait for an event when there is none yet")] = 0


class EventPage(Page[EventView]):
    """A page of events; `last_seq` is the session's last one."""

    last_seq: int = 0


def new_event(body: EventBody | NewEvents, path: str) -> NewEvent:
    """One event of a request as command; `path` ends in a dot unless it is empty."""
    kind = body.type or ""
    if wrong := event_types.check_type(kind):
        raise invalid(f"{path}type", wrong)
    return NewEvent(
        ids.new_id(),
        kind,
        anything(body.data, f"{path}data", "event_data_bytes_max", limits.PAYLOAD_BYTES_MAX),
        body.actor,
        body.correlation_id,
        body.causation_id,
        body.occurred_at,
        usage_inside(body.usage),
        artifacts_inside(body.artifacts),
    )


def _events_of(body: NewEvents) -> tuple[NewEvent, ...]:
    if body.items is None:
        if body.type is None:
            raise invalid("type", "required field is missing")
        return (new_event(body, ""),)
    if body.type is not None:
        raise invalid("items", "a request has either `type` or `items`")
    for name in _SINGLE_ONLY:
        value = getattr(body, name)
        if value is not None and not (isinstance(value, msgspec.Raw) and not bytes(value)):
            raise invalid(name, "belongs inside each of `items`")
    check_count(len(body.items))
    return tuple([new_event(item, f"items[{position}].") for position, item in enumerate(body.items)])


async def append_events(request: Request[WriteQuery, NewEvents]) -> Reply:
    """Append events, all or none."""
    session_id = request.parameters["session_id"]
    command = AppendEvents(session_id, _events_of(request.body), request.body.expected_seq)
    outcome = await decide(request, command)
    item = outcome.items[0]
    first_seq, last_seq = item.numbers
    location = f"/api/sessions/{session_id}/events?after_seq={first_seq - 1}"
    headers = (("Location", location), *replay_headers(outcome))
    return json_reply(Appended(first_seq, last_seq, item.revision), item.status, headers)


async def list_events(request: Request[ListEvents, Any]) -> Reply:
    """Events by seq; with `wait_ms` sleeps until there is one that is wanted."""
    query = request.query
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + query.wait_ms / 1_000
    after_seq = query.after_seq
    position = position_of(request, _KIND)
    topic = f"session.{request.parameters['session_id']}"
    while True:
        builder, ended, last_seq = _events_page(request, after_seq, position)
        if builder.count or not ended or query.order == "desc":
            break
        if query.before_seq is not None and last_seq >= query.before_seq - 1:
            break
        after_seq = max(after_seq, last_seq)
        position = None
        wait_s = give_up_s - loop.time()
        if await request.api.wakeups.wait(request.project, (topic,), wait_s, request.connection) is None:
            break
    cursor = None
    if not ended and builder.position is not None:
        cursor = encode_cursor(request, _KIND, builder.position)
    return builder.reply(cursor, last_seq=last_seq)


def _events_page(
    request: Request[ListEvents, Any], after_seq: int, position: int | None
) -> tuple[PageBuilder, bool, int]:
    """(the page, whether nothing is left behind it, the session's last seq)."""
    query = request.query
    descending = query.order == "desc"
    before_seq = query.before_seq
    if position is not None and descending:
        before_seq = position
    elif position is not None:
        after_seq = max(after_seq, position)
    wanted = EventFilter(query.types, since=query.since, until=query.until)
    builder = PageBuilder(request, EventView)
    with request.view() as view:
        project_no, session = session_of(request, view)
        rows = events.scan(
            view, project_no, session, wanted, after_seq=after_seq, before_seq=before_seq, descending=descending
        )
        numbered = (
            (seq, (seq, event) if event is not None and _is_wanted(query, event) else None) for seq, event in rows
        )
        ended = fill(builder, numbered, lambda row: event_view(session.session_id, row[0], row[1]))
        return builder, ended, session.last_seq


def _is_wanted(query: ListEvents, event: events.Event) -> bool:
    new = event.event
    return (not query.actor or new.actor in query.actor) and (
        not query.correlation_id or new.correlation_id in query.correlation_id
    )


_PATH = "/api/sessions/{session_id}/events"

ROUTES = (
    Route(
        "POST", _PATH, append_events, "Append one event, or `items` atomically", "sessions:write",
        query=WriteQuery, body=NewEvents, reply=Appended, statuses=(201,), batch=True,
    ),
    Route(
        "GET", _PATH, list_events, "Read events, or wait for them", "sessions:read",
        query=ListEvents, reply=EventPage, waits=True,
    ),
)  # fmt: skip
