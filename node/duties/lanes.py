"""The parts of which the pending tasks are made: tasks of one need in lanes, and how far the state was read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from node.duties.fleet import Requires
from node.duties.holdings import TaskKey

PRIORITIES = range(9, -1, -1)


class PendingTask:
    """One pending task. `order` is its place among tasks of its priority; `avoid` an agent that let it lapse or
    declined it, and when (Unix milliseconds)."""

    __slots__ = ("attempt", "avoid", "key", "lane", "order", "queued", "reserved", "reserved_until_s")

    def __init__(self, key: TaskKey, lane: Lane, found: Found) -> None:
        self.key = key
        self.lane = lane
        self.order = found.order
        self.attempt = found.attempt
        self.avoid = found.avoid
        self.queued = False
        self.reserved = False
        self.reserved_until_s = 0.0

    def avoids(self, agent_id: str, now_ms: int, within_ms: int) -> bool:
        """Whether the agent let this task lapse or declined it so lately."""
        return self.avoid is not None and self.avoid[0] == agent_id and now_ms < self.avoid[1] + within_ms


@dataclass(frozen=True, slots=True)
class Signature:
    """What tasks of one lane have in common."""

    project: str
    queue: str
    priority: int
    requires: Requires


class Lane:
    """Tasks of one signature, in order. `skipped_from`: the first order that was left in the state for want of room."""

    __slots__ = ("count", "heap", "signature", "skipped_from")

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.heap: list[tuple[int, int, PendingTask]] = []
        self.count = 0
        self.skipped_from: int | None = None


class Found:
    """A pending task as the state shows it."""

    __slots__ = ("attempt", "avoid", "order", "requires", "task_id")

    def __init__(
        self, task_id: str, order: int, attempt: int, requires: Requires, avoid: tuple[str, int] | None = None
    ) -> None:
        self.task_id = task_id
        self.order = order
        self.attempt = attempt
        self.requires = requires
        self.avoid = avoid


Scan = Callable[[str, str, int, int, int], Sequence[Found]]
"""(project, queue, priority, least order, most tasks) -> pending tasks of the state in order."""


class Run:
    """How far a project's queue was read, by priority. None: read to its end."""

    __slots__ = ("positions", "project", "queue", "seen")

    def __init__(self, project: str, queue: str) -> None:
        self.project = project
        self.queue = queue
        self.seen = [0] * len(PRIORITIES)
        self.positions: list[int | None] = [0] * len(PRIORITIES)


@dataclass(slots=True)
class Scope:
    """What one pass is about. `budget`: how many tasks it may still read from the state."""

    wanted: Callable[[Signature], bool]
    project: str | None
    queues: Collection[str] | None
    budget: int

    def covers(self, project: str, queue: str) -> bool:
        return (self.project is None or self.project == project) and (self.queues is None or queue in self.queues)
