"""Which queues let tasks through just now: paused, `max_running` and the rate, as the state has them.

Only what keeps the leader from proposing in vain: `apply` decides. Queues without settings are not even looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from statemachine.queues import Queue

QueueKey = tuple[str, str]
"""(project, queue)."""


class _Room(NamedTuple):
    """What one pass may give away of a queue, and when there may be more (Unix milliseconds; None: not by time)."""

    tasks: int
    more_ms: int | None


class QueueGate:
    """`read` shows a queue's record as it is now."""

    def __init__(self, read: Callable[[str, str], Queue | None]) -> None:
        self._read = read
        self._limited: set[QueueKey] = set()
        self._per_key: dict[QueueKey, int] = {}
        self._reserved: dict[QueueKey, int] = {}
        self._rooms: dict[QueueKey, _Room] = {}
        self._now_ms = 0
        self._more_ms: int | None = None

    def see(self, project: str, queue: Queue) -> None:
        """A queue's settings, as they are now."""
        key = project, queue.queue
        if queue.limited:
            self._limited.add(key)
        else:
            self._limited.discard(key)
        if queue.max_running_per_key == 1:
            self._per_key.pop(key, None)
        else:
            self._per_key[key] = queue.max_running_per_key
        self._rooms.pop(key, None)

    def clear(self) -> None:
        """Forget everything, to be read anew."""
        self._limited.clear()
        self._per_key.clear()
        self._reserved.clear()
        self._rooms.clear()

    def most_per_key(self, project: str, queue: str) -> int:
        """How many tasks of one concurrency key may be with agents."""
        return self._per_key.get((project, queue), 1)

    def begin(self, now_ms: int) -> None:
        """A pass begins: rooms are counted anew."""
        self._now_ms = now_ms
        self._more_ms = None
        self._rooms.clear()

    def open(self, project: str, queue: str) -> bool:
        """Whether a task of the queue may be given away in this pass."""
        key = project, queue
        if key not in self._limited:
            return True
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = self._room(self._read(project, queue))
        if room.tasks > self._reserved.get(key, 0):
            return True
        if room.more_ms is not None:
            self._more_ms = room.more_ms if self._more_ms is None else min(self._more_ms, room.more_ms)
        return False

    def wait_s(self) -> float | None:
        """In how many seconds a queue that this pass found closed opens by itself; None: not by time."""
        return None if self._more_ms is None else max(self._more_ms - self._now_ms, 1) / 1000

    def reserve(self, key: QueueKey, count: int) -> None:
        """So many more tasks (or less, below zero) are kept for agents and may not be counted in the state yet."""
        left = self._reserved.get(key, 0) + count
        if left:
            self._reserved[key] = left
        else:
            self._reserved.pop(key, None)

    def _room(self, queue: Queue | None) -> _Room:
        if queue is None:
            return _Room(1 << 30, None)
        if queue.paused:
            return _Room(0, None)
        tasks = 1 << 30 if queue.max_running is None else max(0, queue.max_running - queue.held)
        tokens = queue.tokens(self._now_ms)
        if tokens is None or tokens >= tasks:
            return _Room(tasks, None)
        return _Room(tokens, max(queue.next_token_ms(), self._now_ms + 1))
