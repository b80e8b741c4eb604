"""A watch that goes on: one iterator over as many connections as it takes.

It keeps the promises of the feed across them: ordered, each revision once, none left out. The bookmark is ``revision``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from hive_client.calls import Calls
from hive_client.errors import (
    ClusterRestored,
    Compacted,
    HiveError,
    OutcomeUnknown,
    Unavailable,
    UnexpectedReply,
)
from hive_client.models.cluster import Change, ChangeMessage
from hive_client.problem import error_from_reply
from hive_client.sse import EventParser, EventTooLarge, ServerSentEvent
from hive_client.wire import Cut, Stream

# A few of the server's progress intervals.
SILENCE_S = 45.0
# Parts of one message that a server may send before its last; beyond this it is not a Hive node.
PARTS_BYTES_MAX = 64 * 1024 * 1024


class _Ended(Exception):  # noqa: N818 - says what happened
    """The connection is over and the watch goes on with the next."""


class Watch:
    """An async iterator of ``ChangeMessage``. Close it (``async with``, ``aclose``) to free its connection early.

    ``revision`` is the last one that is done with: to continue later, watch from ``revision + 1``.
    ``reconnects`` counts how often the stream was taken up again.
    """

    def __init__(self, calls: Calls, query: Mapping[str, Any], from_revision: int | None, silence_s: float) -> None:
        self._calls = calls
        self._query = dict(query)
        self._silence_s = silence_s
        self._next = from_revision
        self._cluster_id = ""
        self._parts: list[Mapping[str, Any]] = []
        self._parts_bytes = 0
        self._parser = EventParser()
        self._stream: Stream | None = None
        self._closed = False
        self._failures = 0
        self.reconnects = 0
        self.oldest_revision = 0

    @property
    def revision(self) -> int:
        """0 as long as nothing is known."""
        return max(0, (self._next or 1) - 1)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChangeMessage:
        while not self._closed:
            try:
                message = await self._read()
                if message is not None:
                    return message
            except (_Ended, Unavailable, OutcomeUnknown) as error:
                self._disconnect()
                await self._pause(error)
                self.reconnects += 1
            except BaseException:
                self._disconnect()
                raise
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._closed = True
        self._disconnect()

    async def _read(self) -> ChangeMessage | None:
        """One line further; a message if it completes one."""
        if self._stream is None:
            request = self._calls.stream_request("/api/watch", {**self._query, "from_revision": self._next})
            self._stream = await self._calls.transport.open_stream(request, self._silence_s)
            self._check_cluster(self._stream.headers.get("Hive-Cluster", ""))
        try:
            line = await self._stream.line()
        except Cut as error:
            self._calls.transport.pool.failed(self._stream.endpoint)
            raise _Ended from error
        if line is None:
            raise _Ended
        try:
            event = self._parser.feed(line)
        except EventTooLarge as error:
            raise UnexpectedReply(str(error)) from error
        return None if event is None else self._take(event)

    def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        # What was cut in the middle of a split message comes again from its start.
        self._parser = EventParser()
        self._parts.clear()
        self._parts_bytes = 0

    async def _pause(self, error: Exception) -> None:
        transport = self._calls.transport
        delay_s = transport.round_delay_s(self._failures)
        if isinstance(error, HiveError) and error.retry_after_ms is not None:
            delay_s = max(delay_s, error.retry_after_ms / 1000)
        self._failures += 1
        await transport.clock.sleep(delay_s)

    def _take(self, event: ServerSentEvent) -> ChangeMessage | None:
        document = _document(event)
        kind = event.event if event.event != "message" else str(document.get("type", "message"))
        self._failures = 0
        if kind == "hello":
            self._hello(document)
        elif kind == "progress":
            self._advance(_revision(document, event))
        elif "code" in document or kind in {"slow_reader", "compacted", "cluster_restored"}:
            self._end(kind, document)
        elif isinstance(document.get("changes"), list):
            return self._message(document, event)
        return None  # a kind of a newer server

    def _hello(self, document: Mapping[str, Any]) -> None:
        self._check_cluster(str(document.get("cluster_id") or ""))
        self.oldest_revision = _integer(document.get("oldest_revision"))
        if self._next is None:
            self._next = _integer(document.get("revision")) + 1

    def _check_cluster(self, cluster_id: str) -> None:
        if self._cluster_id and cluster_id and cluster_id != self._cluster_id:
            raise ClusterRestored("the stream goes on in another cluster or after a restore; list again, then watch")
        self._cluster_id = cluster_id or self._cluster_id

    def _advance(self, revision: int) -> None:
        if not self._parts and revision >= (self._next or 0):
            self._next = revision + 1

    def _end(self, kind: str, document: Mapping[str, Any]) -> None:
        code = str(document.get("code") or kind)
        if code == "slow_reader":
            # Nothing is lost: what was not yet read here comes again from the bookmark.
            raise _Ended
        if code == "compacted":
            raise Compacted(str(document.get("detail") or "revisions are gone; list again, then watch"), extra=document)
        if code == "cluster_restored":
            raise ClusterRestored(str(document.get("detail") or "list again, then watch"), extra=document)
        raise error_from_reply(_integer(document.get("status")) or 500, {}, document)

    def _message(self, document: Mapping[str, Any], event: ServerSentEvent) -> ChangeMessage | None:
        revision = _integer(document.get("revision"))
        if revision == 0:
            return ChangeMessage.from_json(document)  # ephemeral: no number, no promise
        if self._next is not None and revision < self._next:
            return None
        if event.id is None:
            self._parts_bytes += len(event.data)
            if self._parts_bytes > PARTS_BYTES_MAX:
                raise UnexpectedReply(f"one message over {PARTS_BYTES_MAX} bytes")
            self._parts.append(document)
            return None
        parts = [part for part in self._parts if part.get("revision") == revision]
        self._parts.clear()
        self._parts_bytes = 0
        self._next = revision + 1
        changes = [change for part in (*parts, document) for change in part["changes"]]
        if not parts:
            return ChangeMessage.from_json(document)
        whole = ChangeMessage.from_json({**document, "changes": changes})
        assert all(isinstance(change, Change) for change in whole.changes)
        return whole


def _document(event: ServerSentEvent) -> Mapping[str, Any]:
    try:
        document = json.loads(event.data)
    except ValueError as error:
        raise UnexpectedReply(f"the stream carries something that is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UnexpectedReply("the stream carries something that is not a JSON object")
    return document


def _revision(document: Mapping[str, Any], event: ServerSentEvent) -> int:
    return _integer(document.get("revision")) or (int(event.id) if event.id and event.id.isdecimal() else 0)


def _integer(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
