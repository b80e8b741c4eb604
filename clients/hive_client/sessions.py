"""``client.sessions``: sessions and the log of their events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack, cast

from hive_client.calls import Calls, segment, without_none
from hive_client.models.cluster import Document
from hive_client.models.record import Page
from hive_client.models.sessions import Appended, Event, EventFields, Session
from hive_client.options import ReadOptions, WriteOptions
from hive_client.paging import every_item
from hive_client.tasks import WAIT_MS, split_filters

_OPTION_NAMES = frozenset(WriteOptions.__annotations__)


class SessionFilters(ReadOptions, total=False):
    """What `list` and `iterate` narrow sessions by."""

    status: str | Iterable[str]
    agent_id: str | Iterable[str]
    user: str | Iterable[str]
    updated_since: str
    order: Literal["asc", "desc"]
    fields: Iterable[str]


class EventFilters(ReadOptions, total=False):
    """``types``: a list or ``"a,b"``; ``since`` and ``until`` are RFC 3339 times of recording."""

    before_seq: int
    types: str | Iterable[str]
    actor: str | Iterable[str]
    correlation_id: str | Iterable[str]
    since: str
    until: str


class AppendOptions(EventFields, WriteOptions, total=False):
    """An event's fields and the options of the write, together as keywords."""

    expected_seq: int


class Sessions:
    """Sessions and their events: `client.sessions`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(
        self,
        *,
        session_id: str | None = None,
        title: str | None = None,
        agent_id: str | None = None,
        user: str | None = None,
        priority: int | None = None,
        expires_at: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **options: Unpack[WriteOptions],
    ) -> Session:
        """Open a session. The same ``session_id`` and content again returns it; other content raises ``Exists``."""
        body = without_none(
            session_id=session_id, title=title, agent_id=agent_id, user=user,
            priority=priority, expires_at=expires_at, metadata=metadata,
        )  # fmt: skip
        return Session.from_reply(await self._calls.write("POST", "/api/sessions", body, options))

    async def get(self, session_id: str, **options: Unpack[ReadOptions]) -> Session:
        return Session.from_reply(await self._calls.read(_path(session_id), None, options))

    async def list(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[SessionFilters]
    ) -> Page[Session]:
        """One page, newest first."""
        query, options = split_filters(filters)
        query |= {"limit": limit, "cursor": cursor}
        return Page.from_reply(await self._calls.read("/api/sessions", query, options), Session)

    def iterate(self, *, page_size: int = 500, **filters: Unpack[SessionFilters]) -> AsyncIterator[Session]:
        """Every session, page by page."""
        return every_item(lambda cursor: self.list(limit=page_size, cursor=cursor, **filters))

    async def update(self, session_id: str, changes: Mapping[str, Any], **options: Unpack[WriteOptions]) -> Session:
        """Change fields (merge patch: None removes), also ``status`` by the allowed moves."""
        return Session.from_reply(await self._calls.write("PATCH", _path(session_id), dict(changes), options))

    async def delete(self, session_id: str, **options: Unpack[WriteOptions]) -> Document:
        return Document.from_reply(await self._calls.write("DELETE", _path(session_id), None, options))

    async def append(self, session_id: str, **event: Unpack[AppendOptions]) -> Appended:
        """Append one event; ``expected_seq`` is the last seq you saw, else ``SequenceMismatch``."""
        body = {name: value for name, value in event.items() if name not in _OPTION_NAMES}
        options = cast(WriteOptions, {name: value for name, value in event.items() if name in _OPTION_NAMES})
        return Appended.from_reply(await self._calls.write("POST", f"{_path(session_id)}/events", body, options))

    async def append_batch(
        self,
        session_id: str,
        items: Sequence[EventFields],
        *,
        expected_seq: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Appended:
        """Append several events: all of them, one after the other, under one revision, or none."""
        body = {"items": list(items), **without_none(expected_seq=expected_seq)}
        return Appended.from_reply(await self._calls.write("POST", f"{_path(session_id)}/events", body, options))

    async def events(
        self,
        session_id: str,
        *,
        after_seq: int | None = None,
        order: Literal["asc", "desc"] = "asc",
        limit: int | None = None,
        cursor: str | None = None,
        wait_ms: int | None = None,
        **filters: Unpack[EventFilters],
    ) -> Page[Event]:
        """One page by ``seq``; with ``wait_ms`` an empty answer waits for the next event."""
        query, options = split_filters(filters)
        query |= {"after_seq": after_seq, "order": order, "limit": limit, "cursor": cursor, "wait_ms": wait_ms}
        return Page.from_reply(await self._calls.read(f"{_path(session_id)}/events", query, options), Event)

    def iterate_events(
        self,
        session_id: str,
        *,
        after_seq: int | None = None,
        order: Literal["asc", "desc"] = "asc",
        page_size: int = 500,
        **filters: Unpack[EventFilters],
    ) -> AsyncIterator[Event]:
        """Every event there is now, page by page."""
        return every_item(
            lambda cursor: self.events(
                session_id, after_seq=after_seq, order=order, limit=page_size, cursor=cursor, **filters
            )
        )

    async def tail(
        self, session_id: str, *, after_seq: int = 0, **filters: Unpack[EventFilters]
    ) -> AsyncIterator[Event]:
        """Every event after ``after_seq`` and then each new one, for ever, through failovers; none twice."""
        while True:
            page = await self.events(session_id, after_seq=after_seq, wait_ms=WAIT_MS, **filters)
            for event in page.items:
                after_seq = event.seq
                yield event


def _path(session_id: str) -> str:
    return f"/api/sessions/{segment(session_id)}"
