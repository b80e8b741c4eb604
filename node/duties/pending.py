"""The pending tasks in dispatch order, loaded from the state as far as agents ask for them.

Tasks that need the same form a lane; a lane that nobody can serve is passed over as a whole, so unmatchable tasks are
not looked at again and again. Lanes are filled by scanning the state's own order, one run for each project, queue and
session, by priority: everything before a run's position was seen. A full strand skips, and remembers from where.

The order: the project that has had least, in it the session that has had least, of that the task of highest priority,
where `ageing_ms` of waiting are worth one priority. So a task is passed over by a more urgent one for a time, never for
ever, and its rank never changes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator

from node.duties.concurrency import ConcurrencyKeys, ReadKey
from node.duties.fairness import Fairness
from node.duties.holdings import TaskKey
from node.duties.lanes import Found, Lane, PendingTask, Run, Scan, Scope, Signature, Strand
from node.duties.passes import Pass
from node.duties.queue_gate import QueueGate
from node.duties.runs import Runs

READ_TASKS_MAX = 256
"""Tasks read from the state at once: decoding them holds up the loop for some milliseconds."""
READ_TASKS_OF_SESSION_MAX = 16
"""There may be any number of sessions, and each has its turn."""


class PendingTasks:
    """What is pending, as far as it was needed."""

    def __init__(
        self,
        scan: Scan,
        read_key: ReadKey,
        gate: QueueGate,
        *,
        lane_tasks_max: int,
        scan_tasks_max: int,
        ageing_ms: int,
    ) -> None:
        self._scan = scan
        self._read_key = read_key
        self._strand_max = lane_tasks_max
        self._scan_max = scan_tasks_max
        self._ageing_ms = ageing_ms
        self._lanes: dict[str, dict[Signature, Lane]] = {}
        self._by_key: dict[TaskKey, PendingTask] = {}
        self._reserved: list[tuple[float, int, PendingTask]] = []
        self._reservations = 0
        self._pass: Pass | None = None
        self.gate = gate
        self.keys = ConcurrencyKeys(gate.most_per_key)
        self.fairness = Fairness()
        self._runs = Runs(self.fairness)
        self.unfinished = False

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def lanes(self) -> int:
        """How many lanes hold tasks."""
        return sum(len(lanes) for lanes in self._lanes.values())

    @property
    def runs(self) -> int:
        """How many runs are known."""
        return len(self._runs)

    # --- what is pending --------------------------------------------------------------------------------------------

    def news(self, project: str, queue: str, session: str | None = None) -> None:
        """Tasks were added at the end of this queue, or may have been."""
        run = self._runs.known((project, queue, session))
        run.positions = [*run.seen]
        self._runs.must_read(run)

    def clear(self) -> None:
        """Forget everything, to be read anew; what each has had stays."""
        for task in list(self._by_key.values()):
            self.drop(task.key)
        for run in self._runs:
            self._runs.forget(run)
        self._lanes.clear()
        self._reserved.clear()
        self.keys.clear()
        self.gate.clear()
        self.fairness.forget_charges()

    def get(self, key: TaskKey) -> PendingTask | None:
        """A task that was loaded."""
        return self._by_key.get(key)

    def put(self, project: str, queue: str, found: Found) -> None:
        """A task became pending that need not stand at the end of its queue (requeued, released, patched)."""
        self.drop((project, found.task_id))
        run = self._runs.get((project, queue, found.session))
        if run is None or found.order >= run.seen[found.priority]:
            self.news(project, queue, found.session)
        else:
            self._add(run, found, requeued=True)

    def drop(self, key: TaskKey) -> PendingTask | None:
        """The task is pending no more."""
        task = self._by_key.pop(key, None)
        if task is None:
            return None
        if task.reserved:
            self.gate.reserve((key[0], task.signature.queue), -1)
        self.keys.leave(task)
        strand, task.strand = task.strand, None
        if strand is None:
            raise AssertionError("a pending task is in a strand")
        self.fairness.leave(strand.run.flow)
        strand.count -= 1
        strand.sweep()
        self._runs.took(strand)
        if strand.count == 0 and strand.skipped_from is None:
            self._drop_strand(strand)
        return task

    def _drop_strand(self, strand: Strand) -> None:
        run, lane = strand.run, strand.lane
        run.strands.pop((strand.priority, lane.signature.requires, strand.keyed), None)
        lane.strands.pop(strand, None)
        if not lane.strands:
            lanes = self._lanes.get(lane.signature.project, {})
            lanes.pop(lane.signature, None)
            if not lanes:
                self._lanes.pop(lane.signature.project, None)
        self._runs.forget_if_done(run)

    # --- reservations -----------------------------------------------------------------------------------------------

    def reserve(self, task: PendingTask, until_s: float) -> None:
        """Keep a task for whoever was chosen, until it is assigned (and dropped) or the time is over."""
        if task.strand is None:
            raise AssertionError("only a pending task is reserved")
        if not task.reserved:
            self.gate.reserve((task.key[0], task.signature.queue), 1)
        task.reserved = True
        task.reserved_until_s = until_s
        self.fairness.give(task.key, task.strand.run.flow)
        self._reservations += 1
        heapq.heappush(self._reserved, (until_s, self._reservations, task))

    def unreserve(self, task: PendingTask) -> None:
        """The task can be had again."""
        if task.reserved and self._by_key.get(task.key) is task:
            task.reserved = False
            self.gate.reserve((task.key[0], task.signature.queue), -1)
            self.settle(task.key, 0.0)
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

    def settle(self, key: TaskKey, now_s: float) -> None:
        """The task is with nobody: its session is charged what it took."""
        flow = self.fairness.settle(key, now_s)
        if flow is None:
            return
        # It comes earlier than its strands were queued for.
        for run in self._runs.of_flow(flow):
            for strand in run.strands.values():
                strand.lane.push(strand)

    # --- the order --------------------------------------------------------------------------------------------------

    def in_order(
        self,
        wanted: Callable[[Signature], bool],
        project: str | None = None,
        queues: Collection[str] | None = None,
    ) -> Iterator[PendingTask]:
        """Tasks of wanted lanes that nobody has reserved, in order.

        `wanted` is asked again before every task, so a lane may stop being wanted on the way. The caller reserves what
        it takes before it goes on; what it leaves is skipped in this pass only. At most `scan_tasks_max` tasks are read
        from the state in one pass: `unfinished` says that there was more to read.
        """
        self.unfinished = False

        def open_and_wanted(signature: Signature) -> bool:
            return wanted(signature) and self.gate.open(signature.project, signature.queue)

        scope = Scope(open_and_wanted, project, queues, self._scan_max)
        self._read_keys()
        self._read_on(self._runs.to_read(scope, self._signatures(scope)), scope)
        aside: list[PendingTask] = []
        self._pass = turn = Pass(self._lanes, self.fairness, scope)
        try:
            while (strand := turn.first()) is not None:
                task = strand.head()
                if task is None:
                    raise AssertionError("a strand that comes first has a task")
                strand.pop()
                aside.append(task)
                if self.keys.may_take(task):
                    yield task
                if self._runs.took(strand):
                    self._read_on([strand.run], scope)
                strand.lane.push(strand)
        finally:
            self._pass = None
            for task in aside:
                if self._by_key.get(task.key) is task and not task.reserved:
                    self._queue(task)

    def _queue(self, task: PendingTask) -> None:
        strand = task.strand
        if strand is not None:
            strand.push(task)
            strand.lane.push(strand)

    # --- reading the state ------------------------------------------------------------------------------------------

    def _signatures(self, scope: Scope) -> Iterator[Signature]:
        """Of all lanes in scope."""
        if scope.project is not None:
            return iter(self._lanes.get(scope.project, {}))
        return (signature for lanes in self._lanes.values() for signature in lanes)

    def _read_keys(self) -> None:
        """Load the next tasks of concurrency keys that may have room now, and take back those that have none."""
        for place in self.keys.changed():
            for task in self.keys.surplus(place):
                self.drop(task.key)
            project, key = place

            def room(queue: str, place: tuple[str, str] = place) -> int:
                return self.keys.room(place, queue)

            for queue, tasks in self._read_key(project, key, room):
                for found in tasks:
                    run = self._runs.known((project, queue, found.session))
                    self._add(run, found, ahead=True)
                    self._runs.loaded_ahead(run)
        # Those that were pushed out just now were settled by what pushed them.
        self.keys.changed()

    def _read_on(self, runs: list[Run], scope: Scope) -> None:
        """Read on wherever a task may be that comes before all that is loaded of its run and priority."""
        for run in runs:
            if scope.budget <= 0:
                self.unfinished = True
                return
            if run.unread and not scope.covers(run):
                continue
            while run.unread and scope.budget > 0 and (read := self._read_once(run, scope)):
                scope.budget -= read
            if run.unread and scope.budget <= 0:
                self.unfinished = True
                return
            self._runs.was_read(run)

    def _read_once(self, run: Run, scope: Scope) -> int:
        """Read one chunk of each priority that lacks one; returns what it cost, 0 when nothing was lacking."""
        served = {
            priority
            for (priority, _, _), strand in run.strands.items()
            if strand.served and scope.wanted(strand.lane.signature)
        }
        count_max = min(scope.budget, READ_TASKS_MAX if run.session is None else READ_TASKS_OF_SESSION_MAX)
        skipped = [
            strand
            for strand in run.strands.values()
            if strand.skipped_from is not None
            and strand.count < self._strand_max
            and strand.head() is None
            and scope.wanted(strand.lane.signature)
        ]
        # What was skipped comes before what was not read yet.
        served.update(strand.priority for strand in skipped)
        least = {
            priority: position
            for priority, position in enumerate(run.positions)
            if position is not None and priority not in served
        }
        cost = 0
        if least:
            for priority, (tasks, position) in self._scan(
                run.project, run.queue, run.session, least, count_max
            ).items():
                for found in tasks:
                    self._add(run, found)
                    run.seen[priority] = found.order + 1
                if position is not None:
                    run.seen[priority] = position
                run.positions[priority] = position
                cost += len(tasks)
            cost = max(cost, 1)
        for strand in skipped:
            cost += self._refill(strand, count_max)
        return cost

    def _refill(self, strand: Strand, count_max: int) -> int:
        run, priority, start = strand.run, strand.priority, strand.skipped_from
        if start is None:
            raise AssertionError("only a strand that skipped is refilled")
        tasks, position = self._scan(run.project, run.queue, run.session, {priority: start}, count_max)[priority]
        strand.skipped_from = None
        end = run.seen[priority]
        requires, keyed = strand.lane.signature.requires, strand.keyed
        for found in tasks:
            if found.order >= end:
                position = None
                break
            if found.requires == requires and (found.concurrency_key is not None) == keyed:
                self._add(run, found)
        if strand.skipped_from is None and position is not None and position < end:
            strand.skipped_from = position
        if strand.count == 0 and strand.skipped_from is None:
            self._drop_strand(strand)
        return max(len(tasks), 1)

    def _add(self, run: Run, found: Found, *, requeued: bool = False, ahead: bool = False) -> None:
        key = (run.project, found.task_id)
        if key in self._by_key:
            return
        admitted, pushed_out = self.keys.admits(run.project, run.queue, found)
        if not admitted:
            return
        strand = self._strand(run, found)
        behind = strand.skipped_from is not None and found.order >= strand.skipped_from
        # There are never more requeued tasks than were held; leaving one in the state would let later ones pass.
        if not ahead and (behind or (strand.count >= self._strand_max and not requeued)):
            if not behind:
                strand.skipped_from = found.order
                self._runs.has_more(run)
            return
        if pushed_out is not None:
            self.drop(pushed_out.key)
        rank = found.since_ms - found.priority * self._ageing_ms
        task = PendingTask(key, strand.lane.signature, found, rank)
        task.strand = strand
        self._by_key[key] = task
        self.keys.enter(task)
        self.fairness.enter(run.flow)
        strand.count += 1
        self._queue(task)
        if self._pass is not None:
            self._pass.see(strand.lane)

    def _strand(self, run: Run, found: Found) -> Strand:
        place = found.priority, found.requires, found.concurrency_key is not None
        strand = run.strands.get(place)
        if strand is None:
            signature = Signature(run.project, run.queue, found.requires)
            lanes = self._lanes.setdefault(run.project, {})
            lane = lanes.get(signature)
            if lane is None:
                lane = lanes[signature] = Lane(signature)
            strand = run.strands[place] = Strand(run, lane, found.priority, keyed=place[2])
            lane.strands[strand] = None
        return strand
