"""What every part of the fake shares: revision, time, change feed, and waking those who wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hive_client.clock import Clock
from hive_client.idempotency import uuid7

T = TypeVar("T")

_START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """The single thread of history: one revision per write that changed something."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._zero = clock.monotonic()
        self.revision = 0
        self.oldest_revision = 1
        self.cluster_id = uuid7()
        self.projects: dict[str, int] = {"default": 0}
        self.messages: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] | None = None
        self._changed = asyncio.Event()
        self.timers: list[Callable[[], float | None]] = []

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def text_time(self, at: float | None = None) -> str:
        moment = _START + timedelta(seconds=(self.now if at is None else at) - self._zero)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def seconds_at(self, text: str) -> float:
        """A point of this world's time from RFC 3339; raises ValueError."""
        return self._zero + (datetime.fromisoformat(text) - _START).total_seconds()

    @property
    def next_revision(self) -> int:
        """The revision that the write in progress will have."""
        return self.revision + 1

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """One revision for all changes inside; inner writes join the outer one. Refuse before the first change."""
        if self._open is not None:
            yield
            return
        self._open = []
        try:
            yield
            if self._open:
                self.revision += 1
                message = {"revision": self.revision, "timestamp": self.text_time(), "changes": self._open}
                self.messages.append(message)
        finally:
            self._open = None
        self.wake()

    def change(self, kind: str, project: str, resource_id: str, data: Mapping[str, Any]) -> None:
        assert self._open is not None, "changes happen inside write()"
        self._open.append(
            {
                "id": uuid7(),
                "type": kind,
                "project": project,
                "resource": kind.partition(".")[0],
                "resource_id": resource_id,
                "source": "fake",
                "correlation_id": None,
                "data": dict(data),
            }
        )

    def wake(self) -> None:
        """Let all who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def tick(self) -> float | None:
        """Run what is due; returns when the next thing is."""
        return min((due for timer in self.timers if (due := timer()) is not None), default=None)

    async def wait_until(self, answer: Callable[[], T | None], wait_s: float) -> T | None:
        """The first answer that is not None, looked for after every change and at every due time; None
        when time is over.
        """
        deadline = self.now + wait_s
        while True:
            due = self.tick()
            found = answer()
            if found is not None or self.now >= deadline:
                return found
            until = deadline if due is None else min(deadline, due)
            await self._next_change(max(until - self.now, 0.001))

    async def _next_change(self, seconds: float) -> None:
        changed = asyncio.ensure_future(self._changed.wait())
        timer = asyncio.ensure_future(self.clock.sleep(seconds))
        try:
            await asyncio.wait({changed, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            timer.cancel()
            await asyncio.gather(changed, timer, return_exceptions=True)
