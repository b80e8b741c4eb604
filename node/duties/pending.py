"""The pending tasks in dispatch order, loaded from the state as far as agents ask for them.

Tasks that need the same form a lane; a lane that nobody can serve is passed over as a whole, so unmatchable tasks are
not looked at again and again. Lanes are filled by scanning the state's own order, one run for each project, queue and
priority: everything before a run's position was seen. A full lane skips, and remembers from where.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator

from node.duties.holdings import TaskKey
from node.duties.lanes import PRIORITIES, Found, Lane, PendingTask, Run, Scan, Scope, Signature

READ_TASKS_MAX = 256
"""Tasks read from the state at once: decoding them holds up the loop for some milliseconds."""


class PendingTasks:
    """What is pending, as far as it was needed."""

    def __init__(self, scan: Scan, *, lane_tasks_max: int, scan_tasks_max: int) -> None:
        self._scan = scan
        self._lane_max = lane_tasks_max
        self._scan_max = scan_tasks_max
        self._runs: dict[tuple[str, str], Run] = {}
        self._lanes: list[dict[Signature, Lane]] = [{} for _ in PRIORITIES]
        self._by_key: dict[TaskKey, PendingTask] = {}
        self._reserved: list[tuple[float, int, PendingTask]] = []
        self._reservations = 0
        self._queued = 0
        self.unfinished = False

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def lanes(self) -> int:
        """How many lanes hold tasks."""
        return sum(len(lanes) for lanes in self._lanes)

    def news(self, project: str, queue: str) -> None:
        """Tasks were added at the end of this queue, or may have been."""
        run = self._runs.get((project, queue))
        if run is None:
            run = self._runs[project, queue] = Run(project, queue)
        run.positions = [*run.seen]

    def clear(self) -> None:
        """Forget everything, to be read anew."""
        self._runs.clear()
        for lanes in self._lanes:
            lanes.clear()
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
                self._lanes[lane.signature.priority].pop(lane.signature, None)
            elif len(lane.heap) > 2 * lane.count + 64:
                lane.heap = [entry for entry in lane.heap if self._by_key.get(entry[2].key) is entry[2]]
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
            self._queue(task)

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
        self,
        wanted: Callable[[Signature], bool],
        project: str | None = None,
        queues: Collection[str] | None = None,
    ) -> Iterator[PendingTask]:
        """Tasks of wanted lanes that nobody has reserved, highest priority first, then oldest.

        `wanted` is asked again before every task, so a lane may stop being wanted on the way. The caller reserves what
        it takes before it goes on; what it leaves is skipped in this pass only. At most `scan_tasks_max` tasks are read
        from the state in one pass: `unfinished` says that there was more to read.
        """
        self.unfinished = False
        scope = Scope(wanted, project, queues, self._scan_max)
        aside: list[PendingTask] = []
        try:
            for priority in PRIORITIES:
                for task in self._level(priority, scope):
                    aside.append(task)
                    yield task
                if self.unfinished:
                    return
        finally:
            for task in aside:
                if self._by_key.get(task.key) is task and not task.reserved:
                    self._queue(task)

    def _level(self, priority: int, scope: Scope) -> Iterator[PendingTask]:
        """The tasks of one priority: what is loaded, merged, reading on wherever an older task may still be."""
        lanes = self._lanes[priority]
        heads: list[tuple[int, int, Lane]] = []
        source = self._next_source(priority, scope)
        stale = True
        while True:
            if stale:
                heads = self._heads(lanes, scope)
                stale = False
            if source is not None and (not heads or heads[0][0] >= source[0]):
                if scope.budget <= 0:
                    self.unfinished = True
                    return
                self._read(priority, source[1], scope)
                source = self._next_source(priority, scope)
                stale = True
                continue
            if not heads:
                # What was taken may have made room in a lane that had to leave tasks in the state.
                source = self._next_source(priority, scope)
                if source is None:
                    return
                continue
            order, number, lane = heads[0]
            task = self._head(lane) if scope.wanted(lane.signature) else None
            if task is None:
                heapq.heappop(heads)
            elif task.order != order:
                heapq.heapreplace(heads, (task.order, number, lane))
            else:
                self._unqueue(lane)
                yield task

    def _heads(self, lanes: dict[Signature, Lane], scope: Scope) -> list[tuple[int, int, Lane]]:
        heads: list[tuple[int, int, Lane]] = []
        for number, lane in enumerate(list(lanes.values())):
            if scope.covers(lane.signature.project, lane.signature.queue):
                head = self._head(lane)
                if head is not None:
                    heads.append((head.order, number, lane))
        heapq.heapify(heads)
        return heads

    def _head(self, lane: Lane) -> PendingTask | None:
        while lane.heap:
            task = lane.heap[0][2]
            if self._by_key.get(task.key) is task and not task.reserved:
                return task
            self._unqueue(lane)
        return None

    def _queue(self, task: PendingTask) -> None:
        if not task.queued:
            task.queued = True
            self._queued += 1
            heapq.heappush(task.lane.heap, (task.order, self._queued, task))

    def _unqueue(self, lane: Lane) -> None:
        _, _, task = heapq.heappop(lane.heap)
        task.queued = False

    def _next_source(self, priority: int, scope: Scope) -> tuple[int, Run | Lane] | None:
        """Where the oldest task may be that is not loaded: (its least order, what to read on)."""
        first: tuple[int, Run | Lane] | None = None
        for run in self._runs.values():
            position = run.positions[priority]
            if position is not None and scope.covers(run.project, run.queue) and (first is None or position < first[0]):
                first = (position, run)
        for lane in self._lanes[priority].values():
            position = lane.skipped_from
            if position is None or lane.count >= self._lane_max or (first is not None and position >= first[0]):
                continue
            if scope.covers(lane.signature.project, lane.signature.queue) and scope.wanted(lane.signature):
                first = (position, lane)
        return first

    def _read(self, priority: int, source: Run | Lane, scope: Scope) -> None:
        count_max = min(scope.budget, READ_TASKS_MAX)
        if isinstance(source, Lane):
            read = self._refill(source, count_max)
        else:
            read = self._read_on(source, priority, count_max)
        # A look that finds nothing costs something too: many empty queues must not make a pass endless.
        scope.budget -= max(read, 1)

    def _read_on(self, run: Run, priority: int, budget: int) -> int:
        found = self._scan(run.project, run.queue, priority, run.positions[priority] or 0, budget)
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
            self._lanes[signature.priority].pop(signature, None)
        return len(found)

    def _add(self, signature: Signature, found: Found) -> None:
        key = (signature.project, found.task_id)
        if key in self._by_key:
            return
        lanes = self._lanes[signature.priority]
        lane = lanes.get(signature)
        if lane is None:
            lane = lanes[signature] = Lane(signature)
        if lane.count >= self._lane_max:
            if lane.skipped_from is None or found.order < lane.skipped_from:
                lane.skipped_from = found.order
            return
        task = PendingTask(key, lane, found)
        self._by_key[key] = task
        lane.count += 1
        self._queue(task)
