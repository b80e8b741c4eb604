"""The pending tasks in dispatch order, loaded from the state as far as agents ask for them.

Tasks that need the same form a lane; a lane that nobody can serve is passed over as a whole, so unmatchable tasks are
not looked at again and again. Lanes are filled by scanning the state's own order, one run for each project, queue and
priority: everything before a run's position was seen. A full lane skips, and remembers from where.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from node.duties.fleet import Requires
from node.duties.holdings import TaskKey

PRIORITIES = range(9, -1, -1)


class PendingTask:
    """One pending task. `order` is its place among tasks of its priority; `avoid` an agent, and the Unix milliseconds
    until when it should not go there."""

    __slots__ = ("attempt", "avoid", "key", "lane", "order", "reserved", "reserved_until_s")

    def __init__(self, key: TaskKey, lane: Lane, found: Found) -> None:
        self.key = key
        self.lane = lane
        self.order = found.order
        self.attempt = found.attempt
        self.avoid = found.avoid
        self.reserved = False
        self.reserved_until_s = 0.0

    def avoids(self, agent_id: str, now_ms: int) -> bool:
        """Whether the agent let this task lapse or declined it a moment ago."""
        return self.avoid is not None and self.avoid[0] == agent_id and now_ms < self.avoid[1]


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
        self.heap: list[tuple[int, PendingTask]] = []
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


class _Run:
    """How far a project's queue was read, by priority. None: read to its end."""

    __slots__ = ("positions", "project", "queue", "seen")

    def __init__(self, project: str, queue: str) -> None:
        self.project = project
        self.queue = queue
        self.seen = [0] * len(PRIORITIES)
        self.positions: list[int | None] = [0] * len(PRIORITIES)


class PendingTasks:
    """What is pending, as far as it was needed."""

    def __init__(self, scan: Scan, *, lane_tasks_max: int, scan_tasks_max: int) -> None:
        self._scan = scan
        self._lane_max = lane_tasks_max
        self._scan_max = scan_tasks_max
        self._runs: dict[tuple[str, str], _Run] = {}
        self._lanes: dict[Signature, Lane] = {}
        self._by_key: dict[TaskKey, PendingTask] = {}
        self._reserved: list[tuple[float, int, PendingTask]] = []
        self._reservations = 0
        self.unfinished = False

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def lanes(self) -> int:
        """How many lanes hold tasks."""
        return len(self._lanes)

    def news(self, project: str, queue: str) -> None:
        """Tasks were added at the end of this queue, or may have been."""
        run = self._runs.get((project, queue))
        if run is None:
            run = self._runs[project, queue] = _Run(project, queue)
        run.positions = [*run.seen]

    def clear(self) -> None:
        """Forget everything, to be read anew."""
        self._runs.clear()
        self._lanes.clear()
        self._by_key.clear()
        self._reserved.clear()

    def get(self, key: TaskKey) -> PendingTask | None:
        """A task that was loaded."""
        return self._by_key.get(key)

    def put(self, project: str, queue: str, priority: int, found: Found) -> None:
        """A task became pending that need not stand at the end of its queue (requeued, released, patched)."""
        self.drop((project, found.task_id))
        run = self._runs.get((project, queue))
        if run is None or found.order >= run.seen[priority]:
            self.news(project, queue)
            return
        self._add(Signature(project, queue, priority, found.requires), found)

    def drop(self, key: TaskKey) -> PendingTask | None:
        """The task is pending no more."""
        task = self._by_key.pop(key, None)
        if task is not None:
            lane = task.lane
            lane.count -= 1
            if lane.count == 0 and lane.skipped_from is None:
                self._lanes.pop(lane.signature, None)
            elif len(lane.heap) > 2 * lane.count + 64:
                lane.heap = [entry for entry in lane.heap if self._by_key.get(entry[1].key) is entry[1]]
                heapq.heapify(lane.heap)
        return task

    def reserve(self, task: PendingTask, until_s: float) -> None:
        """Keep a task for whoever was chosen, until it is assigned (and dropped) or the time is over."""
        task.reserved = True
        task.reserved_until_s = until_s
        self._reservations += 1
        heapq.heappush(self._reserved, (until_s, self._reservations, task))

    def unreserve(self, task: PendingTask) -> None:
        """The task can be had again."""
        if task.reserved and self._by_key.get(task.key) is task:
            task.reserved = False
            heapq.heappush(task.lane.heap, (task.order, task))

    def lapse(self, now_s: float) -> int:
        """End the reservations whose time is over; returns how many tasks can be had again."""
        count = 0
        while self._reserved and self._reserved[0][0] <= now_s:
            _, _, task = heapq.heappop(self._reserved)
            if task.reserved and task.reserved_until_s <= now_s and self._by_key.get(task.key) is task:
                self.unreserve(task)
                count += 1
        return count

    def in_order(
        self, wanted: Callable[[Signature], bool], project: str | None = None, queues: Collection[str] | None = None
    ) -> Iterator[PendingTask]:
        """Tasks of wanted lanes that nobody has reserved, highest priority first, then oldest.

        `wanted` is asked again before every task, so a lane may stop being wanted on the way. The caller reserves what
        it takes before it goes on; what it leaves is skipped in this pass only. At most `scan_tasks_max` tasks are read
        from the state in one pass: `unfinished` says that there was more to read.
        """
        self.unfinished = False
        budget = self._scan_max
        aside: list[PendingTask] = []
        try:
            for priority in PRIORITIES:
                while True:
                    for task in self._merged(priority, wanted, project, queues):
                        aside.append(task)
                        yield task
                    read = self._load(priority, wanted, project, queues, budget)
                    if read is None:
                        break
                    budget -= read
                    if budget <= 0:
                        self.unfinished = True
                        return
        finally:
            for task in aside:
                if self._by_key.get(task.key) is task and not task.reserved:
                    heapq.heappush(task.lane.heap, (task.order, task))

    def _merged(
        self,
        priority: int,
        wanted: Callable[[Signature], bool],
        project: str | None,
        queues: Collection[str] | None,
    ) -> Iterator[PendingTask]:
        heads: list[tuple[int, int, Lane]] = []
        for number, lane in enumerate(self._lanes.values()):
            signature = lane.signature
            if signature.priority == priority and _within(signature.project, signature.queue, project, queues):
                head = self._head(lane)
                if head is not None:
                    heads.append((head.order, number, lane))
        heapq.heapify(heads)
        while heads:
            _, number, lane = heads[0]
            task = self._head(lane) if wanted(lane.signature) else None
            if task is None:
                heapq.heappop(heads)
                continue
            heapq.heappop(lane.heap)
            yield task
            following = self._head(lane)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following.order, number, lane))

    def _head(self, lane: Lane) -> PendingTask | None:
        while lane.heap:
            task = lane.heap[0][1]
            if self._by_key.get(task.key) is task and not task.reserved:
                return task
            heapq.heappop(lane.heap)
        return None

    def _load(
        self,
        priority: int,
        wanted: Callable[[Signature], bool],
        project: str | None,
        queues: Collection[str] | None,
        budget: int,
    ) -> int | None:
        """Read on where something wanted may be. How many tasks were read; None when there is nothing more."""
        for lane in list(self._lanes.values()):
            signature = lane.signature
            if (
                lane.skipped_from is not None
                and lane.count < self._lane_max
                and signature.priority == priority
                and _within(signature.project, signature.queue, project, queues)
                and wanted(signature)
            ):
                return self._refill(lane, budget)
        for run in self._runs.values():
            position = run.positions[priority]
            if position is not None and _within(run.project, run.queue, project, queues):
                return self._read_on(run, priority, position, budget)
        return None

    def _read_on(self, run: _Run, priority: int, position: int, budget: int) -> int:
        found = self._scan(run.project, run.queue, priority, position, budget)
        for task in found:
            self._add(Signature(run.project, run.queue, priority, task.requires), task)
        if found:
            run.seen[priority] = found[-1].order + 1
        run.positions[priority] = run.seen[priority] if len(found) == budget else None
        return len(found)

    def _refill(self, lane: Lane, budget: int) -> int:
        signature, position = lane.signature, lane.skipped_from
        if position is None:
            raise AssertionError("only a lane that skipped is refilled")
        found = self._scan(signature.project, signature.queue, signature.priority, position, budget)
        lane.skipped_from = None
        end = self._runs[signature.project, signature.queue].seen[signature.priority]
        for task in found:
            if task.order >= end:
                break
            if task.requires == signature.requires:
                self._add(signature, task)
        if lane.skipped_from is None and len(found) == budget and found[-1].order + 1 < end:
            lane.skipped_from = found[-1].order + 1
        if lane.count == 0 and lane.skipped_from is None:
            self._lanes.pop(signature, None)
        return len(found)

    def _add(self, signature: Signature, found: Found) -> None:
        key = (signature.project, found.task_id)
        if key in self._by_key:
            return
        lane = self._lanes.get(signature)
        if lane is None:
            lane = self._lanes[signature] = Lane(signature)
        if lane.count >= self._lane_max:
            if lane.skipped_from is None or found.order < lane.skipped_from:
                lane.skipped_from = found.order
            return
        task = PendingTask(key, lane, found)
        self._by_key[key] = task
        lane.count += 1
        heapq.heappush(lane.heap, (task.order, task))


def _within(has_project: str, has_queue: str, project: str | None, queues: Collection[str] | None) -> bool:
    return (project is None or has_project == project) and (queues is None or has_queue in queues)
