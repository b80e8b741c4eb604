"""The fake's change feed: pages and server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from hive_client.testing.exchange import Asked
from hive_client.testing.problems import Problem
from hive_client.testing.world import World
from hive_client.wire import Cut

PROGRESS_S = 10.0
_PLURALS = {"agents": "agent", "tasks": "task", "sessions": "session"}


class Feed:
    """The fake's change feed."""

    def __init__(self, world: World) -> None:
        self._world = world

    def page(self, asked: Asked) -> dict[str, Any]:
        first = asked.number("from_revision", self._world.revision + 1) or 1
        self._check(first)
        limit = min(asked.number("limit") or 100, 1000)
        items: list[dict[str, Any]] = []
        following = first
        for message in self._world.messages:
            if message["revision"] < first or len(items) == limit:
                continue
            wanted = self._wanted(message, asked)
            following = message["revision"] + 1
            if wanted is not None:
                items.append(wanted)
        if len(items) < limit:
            following = max(following, self._world.revision + 1)
        return {"items": items, "next_revision": following, "oldest_revision": self._world.oldest_revision}

    def _check(self, first: int) -> None:
        if first < self._world.oldest_revision:
            raise Problem("compacted", f"revision {first} is gone", oldest_revision=self._world.oldest_revision)

    def _wanted(self, message: Mapping[str, Any], asked: Asked) -> dict[str, Any] | None:
        topics = asked.values("topics")
        changes = [
            change
            for change in message["changes"]
            if change["project"] == asked.project and (topics is None or _matches(change, topics))
        ]
        return {**message, "changes": changes} if changes else None

    def compact(self, before: int) -> None:
        """Forget everything below ``before``."""
        self._world.oldest_revision = before
        self._world.messages = [m for m in self._world.messages if m["revision"] >= before]

    def stream(self, asked: Asked) -> FeedStream:
        """An endless stream; refuses what is compacted before its first line."""
        following = asked.number("from_revision")
        if following is None:
            following = self._world.revision + 1
        self._check(following)
        return FeedStream(self, asked, following)

    def hello(self) -> dict[str, Any]:
        return {
            "cluster_id": self._world.cluster_id,
            "revision": self._world.revision,
            "oldest_revision": self._world.oldest_revision,
        }

    async def after(self, first: int, asked: Asked) -> tuple[list[dict[str, Any]], int]:
        """The messages from ``first`` on, waiting a while for the first, and the revision to go on from."""
        await self._world.wait_until(lambda: True if self._world.revision >= first else None, PROGRESS_S)
        later = [message for message in self._world.messages if message["revision"] >= first]
        wanted = [w for message in later if (w := self._wanted(message, asked)) is not None]
        return wanted, max(first, self._world.revision + 1)


class FeedStream:
    """The lines of one watch. ``cut`` ends it like a broken connection."""

    def __init__(self, feed: Feed, asked: Asked, following: int) -> None:
        self._feed = feed
        self._asked = asked
        self._following = following
        self._lines: deque[bytes] = deque(event_lines("hello", feed.hello()))
        self._cut = asyncio.Event()

    def cut(self) -> None:
        self._cut.set()

    async def line(self) -> bytes:
        while not self._lines:
            more = asyncio.create_task(self._feed.after(self._following, self._asked))
            cut = asyncio.create_task(self._cut.wait())
            try:
                await asyncio.wait({more, cut}, return_when=asyncio.FIRST_COMPLETED)
                if self._cut.is_set():
                    raise Cut("the stream was cut")
                messages, self._following = more.result()
            finally:
                more.cancel()
                cut.cancel()
            for message in messages:
                self._lines += event_lines("change", message, message["revision"])
            if not messages:
                bookmark = self._following - 1
                self._lines += event_lines("progress", {"revision": bookmark}, bookmark)
        if self._cut.is_set():
            raise Cut("the stream was cut")
        return self._lines.popleft()


def _matches(change: Mapping[str, Any], topics: set[str]) -> bool:
    kind, name = change["resource"], change["resource_id"]
    return any(topic == "*" or _PLURALS.get(topic) == kind or topic == f"{kind}.{name}" for topic in topics)


def event_lines(event: str, document: Mapping[str, Any], revision: int | None = None) -> list[bytes]:
    """One server-sent event as lines; without a revision it has no ``id:``."""
    lines = [f"event: {event}"] + ([] if revision is None else [f"id: {revision}"])
    return [line.encode() for line in (*lines, f"data: {json.dumps(document)}", "")]
