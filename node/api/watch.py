"""`GET /api/watch`: the change feed as server-sent events.

A stream is pulled: its place is one revision, and it reads the feed from there whenever the client has taken what was
sent. So a slow reader costs one buffer, and is cut off when it takes nothing for `slow_s`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from node.api import problem
from node.api.body import Count
from node.api.changes import wait_for_more
from node.api.feed import ChangeView, Data, Filter, Look, Message, look
from node.api.problem import Problem, invalid
from node.api.query import ReadQuery, Text
from node.api.reply import Answer, Heads, Reply, encode
from node.api.request import Request
from node.api.route import Route
from node.api.times import text
from node.api.wakeups import DisconnectedError
from node.http.stream import HttpStream

log = logging.getLogger("hive.api")

EVENT_BYTES_MAX = 1 << 20
"""A message over this is split; `id:` stands on its last part only."""

MESSAGES_PER_LOOK = 256

_HEAD = "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n"


@dataclass(frozen=True, slots=True)
class WatchTimings:
    """`progress_s`: how often an idle stream says where it is. `slow_s`: how long a client may take nothing."""

    progress_s: float = 15.0
    slow_s: float = 20.0


class WatchChanges(ReadQuery, kw_only=True):
    """Which changes, from where. The header `Last-Event-ID` goes before `from_revision`."""

    from_revision: Count | None = None
    topics: tuple[Text, ...] = ()
    data: Data = "summary"
    ephemeral: bool = False


class SlowReaderError(Exception):
    """The client takes nothing."""


async def watch_changes(request: Request[WatchChanges, Any]) -> Answer:
    """Stream changes until the client goes, falls behind, or the node stops."""
    query = request.query
    wanted = Filter(request.project, query.topics, query.data)
    with request.view() as view:
        request.require_project(view)
        start = _start(request, view.revision)
        first = look(view, wanted, start, 1, EVENT_BYTES_MAX)
    if request.http.method == "HEAD":
        return Reply(b"", content_type="text/event-stream")
    stream = _Stream(request, wanted, start)
    await stream.open(first)
    request.api.traffic.streams_open += 1
    try:
        await stream.run()
    finally:
        request.api.traffic.streams_open -= 1
    return None


def _start(request: Request[WatchChanges, Any], revision: int) -> int:
    last_id = request.header("Last-Event-ID")
    if last_id is not None:
        if not (last_id.isascii() and last_id.isdecimal() and len(last_id) <= 16):
            raise invalid("Last-Event-ID", "must be a revision")
        return int(last_id) + 1
    if request.query.from_revision is None:
        return revision + 1
    return max(request.query.from_revision, 1)


class _Stream:
    """One open stream. `next_revision` is the first one that was not written to it yet."""

    def __init__(self, request: Request[WatchChanges, Any], wanted: Filter, next_revision: int) -> None:
        self.request = request
        self.wanted = wanted
        self.next_revision = next_revision
        self._stream = HttpStream(request.connection, request.http)
        self._cluster_id = request.api.replica.cluster_id
        self._timings: WatchTimings = request.api.parts.get(WatchTimings) or WatchTimings()
        self._seen_ms: dict[str, int] = {}

    async def open(self, first: Look) -> None:
        """Send the head and the hello."""
        request = self.request
        lines = Heads(request.api.replica).lines(request.request_id, first.revision, request.consistency)
        self._stream.begin(f"{_HEAD}{lines}")
        hello = {"cluster_id": self._cluster_id, "revision": first.revision, "oldest_revision": first.oldest_revision}
        await self._send(_event("hello", hello, self.next_revision - 1))

    async def run(self) -> None:
        """Send messages until the stream ends; its last event says why."""
        try:
            await self._follow()
        except Problem as error:
            await self._end(error)
        except SlowReaderError:
            self._cut_off()
        except (DisconnectedError, ConnectionError):
            return
        except Exception:  # the outermost edge: the head is sent, so only an event can say that the stream ends
            log.exception("watch failed", extra={"request_id": self.request.request_id})
            await self._end(Problem("internal", "the node met a defect; resume from the last revision you saw"))

    async def _follow(self) -> None:
        loop, replica, period_s = asyncio.get_running_loop(), self.request.api.replica, self._timings.progress_s
        beat_s = loop.time() + period_s
        while True:
            behind = await self._send_new()
            if replica.cluster_id != self._cluster_id:
                raise Problem("cluster_restored", "the cluster was restored; list again, then watch")
            if loop.time() >= beat_s:
                beat_s = loop.time() + period_s
                await self._progress()
            # AFTER THE LAST AWAIT: what was applied while something was being sent has woken nobody here.
            if behind or replica.revision >= self.next_revision:
                await asyncio.sleep(0)  # the filter may have dropped all of it: let others run before looking at more
                continue
            woken = await wait_for_more(self.request, self.wanted, beat_s - loop.time())
            # Only a wake says that nothing before it is wanted. As the time was over, something may just have come.
            if woken is not None:
                self.next_revision = max(self.next_revision, woken)

    async def _send_new(self) -> bool:
        """Send what is new up to a bound; True when there is more."""
        with self.request.view() as view:
            found = look(view, self.wanted, self.next_revision, MESSAGES_PER_LOOK, EVENT_BYTES_MAX)
        for message, whole in found.messages:
            *parts, last = _parts(message, whole)
            for part in parts:
                await self._send(part)
            # Written is written, also when the client then takes nothing: what is in the buffer is not sent again.
            self.next_revision = message.revision + 1
            await self._send(last)
        self.next_revision = found.next_revision
        return found.next_revision <= found.revision

    async def _send(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._timings.slow_s):
                await self._stream.write(data)
        except TimeoutError:
            raise SlowReaderError from None

    async def _progress(self) -> None:
        await self._send(_event("progress", {"revision": self.next_revision - 1}, self.next_revision - 1))
        if self.request.query.ephemeral:
            await self._performance()

    async def _performance(self) -> None:
        """Tell the figures of agents that were heard since the last time; unnumbered, and nobody's promise."""
        live = await self.request.api.live.live_agents(None, 1.0)
        if live is None:
            return
        shown = []
        for agent in live.agents:
            if (
                not agent.metrics
                or agent.last_seen_ms is None
                or self._seen_ms.get(agent.agent_id) == agent.last_seen_ms
            ):
                continue
            self._seen_ms[agent.agent_id] = agent.last_seen_ms
            shown.append(_update(agent.agent_id, agent.last_seen_ms, agent.metrics))
        if shown:
            await self._send(_data({"revision": None, "timestamp": text(live.as_of_ms), "changes": shown}))

    async def _end(self, error: Problem) -> None:
        document = problem.encode(error, self.request.path)
        try:
            await self._send(f"event: {error.code}\ndata: ".encode() + document + b"\n\n")
            await self._stream.end()
        except (SlowReaderError, ConnectionError):
            return

    def _cut_off(self) -> None:
        """Say where to go on behind all that the client has not taken yet, and close: it may still read that."""
        facts = {"code": "slow_reader", "resume_from": self.next_revision}
        self._stream.cut_off(_event("slow_reader", facts, None), self._timings.slow_s)


def _event(name: str, document: Any, revision: int | None) -> bytes:
    number = b"" if revision is None else f"id: {revision}\n".encode()
    return b"event: " + name.encode() + b"\n" + number + b"data: " + encode(document) + b"\n\n"


def _data(document: Any) -> bytes:
    return b"data: " + encode(document) + b"\n\n"


def _update(agent_id: str, last_seen_ms: int, metrics: bytes) -> dict[str, Any]:
    return {
        "id": f"{agent_id}@{last_seen_ms}",
        "type": "agent.performance_update",
        "project": "",
        "resource": "agent",
        "resource_id": agent_id,
        "source": agent_id,
        "correlation_id": None,
        "data": msgspec.Raw(metrics),
    }


def _parts(message: Message, whole: bytes) -> Iterator[bytes]:
    """A message as events: one, or several of at most about 1 MiB whose last has the `id:`."""
    revision = message.revision
    number = f"id: {revision}\n".encode()
    if len(whole) <= EVENT_BYTES_MAX:
        yield number + b"data: " + whole + b"\n\n"
        return
    chosen: list[ChangeView] = []
    size = 0
    for change in message.changes:
        length = len(encode(change))
        if chosen and size + length > EVENT_BYTES_MAX:
            yield _data(Message(revision, message.timestamp, chosen))
            chosen, size = [], 0
        chosen.append(change)
        size += length
    yield number + _data(Message(revision, message.timestamp, chosen))


ROUTES = (
    Route(
        "GET", "/api/watch", watch_changes, "Follow all changes as server-sent events", "changes:read",
        query=WatchChanges, content_type="text/event-stream", waits=True,
    ),
)  # fmt: skip
