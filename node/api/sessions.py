"""Routes of sessions (API.md section 3); their events are in `events`."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster.replica import View
from node.api import ids
from node.api.body import merge_patch, open_object
from node.api.pages import Page, page, position_of
from node.api.problem import Problem, too_large
from node.api.query import ListQuery, ReadQuery, Text, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.session_views import (
    Deleted,
    NewSession,
    SessionPatch,
    SessionView,
    Status,
    find_view,
    session_view,
)
from node.api.times import TimeMs
from node.api.writes import propose, refusal_of, replay_headers, write
from statemachine import limits, projects, session_record, sessions
from statemachine.commands import CreateSession, DeleteSession, UpdateSession
from statemachine.outcome import Item, Outcome, record_of
from statemachine.sessions import SessionFilter

MERGE_TRIES_MAX = 8
NO_REVISION = 0
"""The revision of a session that is not there: no session ever has it."""

_KIND = "sessions"
_PLAIN_FIELDS = ("title", "agent_id", "user", "priority", "expires_at", "status")


class ListSessions(ListQuery, kw_only=True):
    """Filters of `GET /api/sessions`."""

    status: tuple[Status, ...] = ()
    agent_id: tuple[Text, ...] = ()
    user: tuple[Text, ...] = ()
    updated_since: TimeMs | None = None


def session_of(request: Request[Any, Any], view: View) -> tuple[int, session_record.Session]:
    """(project number, session) the path names. Raises Problem `not_found`."""
    number = request.project_number(view)
    session_id = request.parameters["session_id"]
    session = session_record.find(view, number, session_id)
    if session is None:
        raise Problem("not_found", f"session {session_id!r} is unknown here at revision {view.revision}")
    return number, session


def _shown(request: Request[Any, Any], view: View, item: Item) -> SessionView | None:
    session = record_of(item)
    if session is not None:
        return session_view(request.project, session)
    project = projects.find(view, request.project)
    return None if project is None else find_view(view, project.number, project.name, item.resource_id)


def metadata_of(raw: msgspec.Raw) -> bytes | None:
    """The `metadata` of a body within its limit."""
    return open_object(raw, "metadata", "metadata_bytes_max", limits.METADATA_BYTES_MAX)


async def create_session(request: Request[WriteQuery, NewSession]) -> Reply:
    """Begin a session."""
    body = request.body
    session_id = ids.new_id() if body.session_id is None else ids.check("session_id", body.session_id)
    command = CreateSession(
        session_id,
        title=body.title,
        agent_id=body.agent_id,
        user=body.user,
        priority=body.priority,
        expires_at=body.expires_at,
        metadata=metadata_of(body.metadata),
    )
    return await write(request, command, lambda view, item: _shown(request, view, item), "/api/sessions/")


async def list_sessions(request: Request[ListSessions, Any]) -> Reply:
    """Sessions, newest first."""
    query = request.query
    wanted = SessionFilter(query.status, query.agent_id, query.user, query.updated_since)
    after = position_of(request, _KIND)
    with request.view() as view:
        project = request.require_project(view)
        rows = sessions.scan(view, project.number, wanted, after=after, ascending=query.order == "asc")
        return page(request, _KIND, rows, lambda session: session_view(project.name, session), SessionView)


async def get_session(request: Request[ReadQuery, Any]) -> Reply:
    """One session."""
    with request.view() as view:
        _, session = session_of(request, view)
        return json_reply(session_view(request.project, session))


async def patch_session(request: Request[WriteQuery, SessionPatch]) -> Reply:
    """Change a session."""
    patch = request.body
    fields = [name for name in _PLAIN_FIELDS if getattr(patch, name) is not msgspec.UNSET]
    values = {name: getattr(patch, name) for name in fields}
    if bytes(patch.metadata):
        outcome = await _patch_metadata(request, fields, values)
    else:
        command = UpdateSession(
            request.parameters["session_id"], tuple(fields), if_revision=patch.if_revision, **values
        )
        outcome = (await propose(request, command))[0]
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    item = outcome.items[0]
    with request.view() as view:
        body = _shown(request, view, item)
    if body is None:
        return json_reply(Deleted(item.resource_id, item.revision), 200, replay_headers(outcome))
    if outcome.replayed:
        body.revision = item.revision
    return json_reply(body, 200, replay_headers(outcome))


async def _patch_metadata(
    request: Request[WriteQuery, SessionPatch], fields: list[str], values: dict[str, Any]
) -> Outcome:
    """Merge here, write on condition that nobody wrote meanwhile, and begin again if somebody did.

    Every try has a place of its own under the Idempotency-Key: a repeat walks through the same refusals to the
    same end.
    """
    patch = request.body
    session_id = request.parameters["session_id"]
    metadata = metadata_of(patch.metadata)
    for attempt in range(MERGE_TRIES_MAX):
        session = await _merge_base(request, session_id)
        merged = None if metadata is None else _merged(session, metadata)
        revision = session.revision if session is not None else NO_REVISION
        if patch.if_revision is not None:
            revision = patch.if_revision
        command = UpdateSession(session_id, (*fields, "metadata"), metadata=merged, if_revision=revision, **values)
        outcome = (await propose(request, command, first_position=attempt))[0]
        if patch.if_revision is not None or not _was_overtaken(outcome):
            return outcome
    raise Problem("conflict", f"session {session_id!r} is changed too often; try again", revision=request.revision)


async def _merge_base(request: Request[WriteQuery, SessionPatch], session_id: str) -> session_record.Session | None:
    """The session to merge into. This node's may be old: if it is not what the user saw, ask the leader first."""
    session = _session_here(request, session_id)
    wanted = request.body.if_revision
    if session is None or wanted not in (None, session.revision):
        await request.api.replica.read_barrier(request.seconds_left())
        session = _session_here(request, session_id)
    return session


def _session_here(request: Request[Any, Any], session_id: str) -> session_record.Session | None:
    with request.view() as view:
        project = projects.find(view, request.project)
        return None if project is None else session_record.find(view, project.number, session_id)


def _merged(session: session_record.Session | None, metadata: bytes) -> bytes | None:
    merged = merge_patch(None if session is None else session.metadata, metadata)
    if merged is not None and len(merged) > limits.METADATA_BYTES_MAX:
        raise too_large("metadata_bytes_max", limits.METADATA_BYTES_MAX, "metadata")
    return merged


def _was_overtaken(outcome: Outcome) -> bool:
    """Whether somebody else wrote first; the same for the first run and for its repeats."""
    refusal = outcome.refusal
    if refusal is None or refusal.code != "conflict":
        return False
    return refusal.current is not None and "expected_revision" in refusal.current


async def delete_session(request: Request[WriteQuery, Any]) -> Reply:
    """Remove a session and its events."""
    outcome = (await propose(request, DeleteSession(request.parameters["session_id"])))[0]
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    item = outcome.items[0]
    return json_reply(Deleted(item.resource_id, item.revision), 200, replay_headers(outcome))


_ONE = "/api/sessions/{session_id}"

ROUTES = (
    Route(
        "POST", "/api/sessions", create_session, "Begin a session", "sessions:write",
        query=WriteQuery, body=NewSession, reply=SessionView, statuses=(201, 200),
    ),
    Route(
        "GET", "/api/sessions", list_sessions, "List sessions", "sessions:read",
        query=ListSessions, reply=Page[SessionView],
    ),
    Route("GET", _ONE, get_session, "One session", "sessions:read", query=ReadQuery, reply=SessionView),
    Route(
        "PATCH", _ONE, patch_session, "Change a session (merge patch)", "sessions:write",
        query=WriteQuery, body=SessionPatch, reply=SessionView,
    ),
    Route(
        "DELETE", _ONE, delete_session, "Remove a session and its events", "sessions:write",
        query=WriteQuery, reply=Deleted,
    ),
)  # fmt: skip
