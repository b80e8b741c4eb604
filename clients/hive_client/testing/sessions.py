"""The fake's sessions and their events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hive_client.idempotency import uuid7
from hive_client.models.sessions import EventFields, SessionStatus
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.world import World

_FIELDS = frozenset({"session_id", "title", "agent_id", "user", "priority", "expires_at", "metadata"})

_NO_EVENT: dict[str, Any] = {
    "actor": None,
    "data": None,
    "correlation_id": None,
    "causation_id": None,
    "usage": None,
    "artifacts": [],
}


@dataclass
class SessionState:
    """A session of the fake. `former_seq`: where an earlier session of this id stopped counting."""

    session_id: str
    project: str
    content: dict[str, Any]
    shown: dict[str, Any]
    former_seq: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last_seq(self) -> int:
        return self.former_seq + len(self.events)


class SessionLog:
    """All sessions of all projects."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sessions: dict[tuple[str, str], SessionState] = {}
        self._former_seqs: dict[tuple[str, str], int] = {}

    def get(self, project: str, session_id: str) -> SessionState:
        session = self._sessions.get((project, session_id))
        if session is None:
            raise Problem("not_found", f"session {session_id} is unknown here at revision {self._world.revision}")
        return session

    def in_project(self, project: str) -> list[SessionState]:
        return [session for (owner, _), session in self._sessions.items() if owner == project]

    def create(self, project: str, body: Mapping[str, Any]) -> tuple[SessionState, bool]:
        for name in body:
            if name not in _FIELDS:
                raise invalid(name, "unknown field")
        session_id = str(body.get("session_id") or uuid7())
        known = self._sessions.get((project, session_id))
        if known is not None:
            if known.content != dict(body):
                raise Problem("exists", f"session {session_id} has other content", current=self.document(known))
            return known, False
        with self._world.write():
            now, revision = self._world.text_time(), self._world.next_revision
            shown = {
                "title": None, "agent_id": None, "user": None, "priority": 5, "expires_at": None, "metadata": {},
                **body,
                "session_id": session_id, "project": project, "status": "active", "parent": None,
                "created_at": now, "updated_at": now, "revision": revision, "created_revision": revision,
            }  # fmt: skip
            former_seq = self._former_seqs.pop((project, session_id), 0)
            session = SessionState(session_id, project, dict(body), shown, former_seq)
            self._sessions[project, session_id] = session
            self._world.change("session.created", project, session_id, {"title": shown["title"]})
        return session, True

    def update(self, project: str, session_id: str, changes: Mapping[str, Any]) -> SessionState:
        session = self.get(project, session_id)
        for name in changes:
            if name not in _FIELDS - {"session_id"} | {"status", "if_revision"}:
                raise invalid(name, "unknown field")
        if changes.get("status", "active") not in set(SessionStatus):
            raise invalid("status", "unknown status")
        with self._world.write():
            session.shown |= changes
            self._touched(session)
            self._world.change("session.updated", project, session_id, dict(changes))
        return session

    def delete(self, project: str, session_id: str) -> None:
        session = self.get(project, session_id)
        with self._world.write():
            del self._sessions[project, session_id]
            self._former_seqs[project, session_id] = session.last_seq
            self._world.change("session.deleted", project, session_id, {})

    def append(self, project: str, session_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One event or ``{"items": [...]}``: all under one revision, or none."""
        session = self.get(project, session_id)
        items: Sequence[Mapping[str, Any]] = body.get("items", [body])
        self._check(items)
        expected = body.get("expected_seq")
        if expected is not None and expected != session.last_seq:
            raise Problem("sequence_mismatch", "the log has moved on", last_seq=session.last_seq)
        with self._world.write():
            first = session.last_seq + 1
            for item in items:
                self._add(session, item)
            self._touched(session)
            last = session.last_seq
            self._world.change("event.appended", project, session_id, {"first_seq": first, "last_seq": last})
        return {"first_seq": first, "last_seq": last, "revision": self._world.revision}

    def _check(self, items: Sequence[Mapping[str, Any]]) -> None:
        if not items:
            raise invalid("items", "must not be empty")
        for index, item in enumerate(items):
            for name in item:
                if name not in EventFields.__annotations__ and name != "expected_seq":
                    raise invalid(f"items[{index}].{name}", "unknown field")
            if not isinstance(item.get("type"), str) or "." not in item["type"]:
                raise invalid(f"items[{index}].type", "must be a dotted name; custom.* is free")

    def _add(self, session: SessionState, item: Mapping[str, Any]) -> None:
        now = self._world.text_time()
        fields = {name: value for name, value in item.items() if name != "expected_seq"}
        sequence = {"seq": session.last_seq + 1, "revision": self._world.next_revision}
        session.events.append({**_NO_EVENT, "occurred_at": now, **fields, **sequence, **self._stamp(session, now)})

    def _stamp(self, session: SessionState, now: str) -> dict[str, Any]:
        return {"event_id": uuid7(), "session_id": session.session_id, "recorded_at": now}

    def _touched(self, session: SessionState) -> None:
        session.shown["revision"] = self._world.next_revision
        session.shown["updated_at"] = self._world.text_time()

    def document(self, session: SessionState) -> dict[str, Any]:
        return {**session.shown, "last_seq": session.last_seq, "stats": _stats(session.events)}


def _stats(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    by_type: dict[str, int] = {}
    for event in events:
        by_type[event["type"]] = by_type.get(event["type"], 0) + 1
    usage = [event["usage"] or {} for event in events]
    return {
        "events": len(events),
        "by_type": by_type,
        "input_tokens": sum(u.get("input_tokens", 0) for u in usage),
        "output_tokens": sum(u.get("output_tokens", 0) for u in usage),
        "cost_usd": sum(u.get("cost_usd", 0) for u in usage),
        "first_event_at": events[0]["recorded_at"] if events else None,
        "last_event_at": events[-1]["recorded_at"] if events else None,
    }
