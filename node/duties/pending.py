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

from node.duties.budget_gate import BudgetGate
from node.duties.closed_sessions import ClosedSessions
from node.duties.concurrency import ConcurrencyKeys, ReadKey
from node.duties.fairness import Fairness
from node.duties.fleet import Requires
from node.duties.holdings import TaskKey
from node.duties.lanes import Found, Lane, PendingTask, Run, Scan, Scope, Signature, Strand
from node.duties.passes import Pass
from node.duties.path_locks import PathLocks
from node.duties.queue_gate import QueueGate
from node.duties.reading import Reading
from node.duties.runs import Runs

CALLED_AT_ONCE_MAX = 1_000
"""Parked tasks that are in the order again with one pass: thousands may have waited for the same one."""
LOOKED_AT_PARKED_MAX = 256
LOCK_STEPS_MAX = 20_000
"""Tasks whose locks were found to be held in one pass, and how much was compared (`globs.steps`) before the last one
that was parked or taken; the next pass, which comes at once, goes on. When no more can be parked there is nothing to go
on with: the pass leaves all further tasks with locks alone."""


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
        budgets: BudgetGate | None = None,
    ) -> None:
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
        self.budgets = BudgetGate(lambda _: None) if budgets is None else budgets
        self.keys = ConcurrencyKeys(gate.most_per_key)
        self.fairness = Fairness()
        self.locks = PathLocks()
        self._runs = Runs(self.fairness)
        self.sessions = ClosedSessions(self.budgets, self.fairness, self._runs, self.keys, self._keep_in_state)
        self._reading = Reading(scan, self._runs, self._add, self._drop_strand, lane_tasks_max)
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
        self.locks.clear()
        self.gate.clear()
        self.sessions.clear()
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
        if task.locks:
            self.locks.leave(task)
        if task.strand is not None:
            if task.reserved:
                self.sessions.decided(task.strand.run.flow)
            self._leave_strand(task, task.strand)
        elif task.run is not None:
            task.run.parked -= 1
            self._runs.forget_if_done(task.run)
        return task

    def _leave_strand(self, task: PendingTask, strand: Strand) -> None:
        task.strand = None
        self.fairness.leave(strand.run.flow)
        strand.count -= 1
        strand.sweep()
        self._runs.took(strand)
        if strand.count == 0 and strand.skipped_from is None:
            self._drop_strand(strand)

    def _drop_strand(self, strand: Strand) -> None:
        run, lane = strand.run, strand.lane
        run.strands.pop((strand.priority, lane.signature.requires, strand.kind), None)
        lane.drop(strand)
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
            self.budgets.reserve(task.strand.run.flow, 1)
        task.reserved = True
        task.reserved_until_s = until_s
        if task.locks:
            self.locks.reserve(task)
        self.fairness.give(task.key, task.strand.run.flow)
        self._reservations += 1
        heapq.heappush(self._reserved, (until_s, self._reservations, task))

    def unreserve(self, task: PendingTask) -> None:
        """The task can be had again."""
        if task.reserved and self._by_key.get(task.key) is task:
            task.reserved = False
            self.gate.reserve((task.key[0], task.signature.queue), -1)
            self.settle(task.key, 0.0)
            if task.locks:
                self.locks.unreserve(task.key)
            self._queue(task)
            if task.strand is not None:
                self.sessions.decided(task.strand.run.flow)

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
        if flow is not None:
            # It comes earlier than its strands were queued for.
            self._runs.push(flow)

    def _keep_in_state(self, task: PendingTask) -> None:
        self.drop(task.key)
        self.unfinished = True

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
            return (
                wanted(signature)
                and self.gate.open(signature.project, signature.queue)
                and self.budgets.open(signature.project)
            )

        scope = Scope(open_and_wanted, project, queues, self._scan_max)
        self._read_keys()
        self._call_parked()
        self._read_on(self._runs.to_read(scope, self._signatures(scope)), scope)
        aside: list[PendingTask] = []
        closed: list[Strand] = []
        self._pass = Pass(self._lanes, self.fairness, scope)
        try:
            yield from self._turns(self._pass, scope, aside, closed)
        finally:
            self._pass = None
            for strand in closed:
                strand.closed = False
                strand.lane.push(strand)
            for task in aside:
                if task.strand is not None and task.strand.run.flow.closed and task.concurrency_key is not None:
                    self.sessions.keep_back(task)
                elif self._by_key.get(task.key) is task and not task.reserved:
                    self._queue(task)

    def _turns(self, turn: Pass, scope: Scope, aside: list[PendingTask], closed: list[Strand]) -> Iterator[PendingTask]:
        def wanted(task: PendingTask) -> bool:
            return scope.wanted(task.signature) and not (task.run is not None and task.run.flow.closed)

        found_held = steps = 0
        while True:
            strand = turn.first()
            if strand is None:
                if not self.locks.pass_over(scope.project, wanted):
                    return
                self._call_parked()
                found_held += 1
                continue
            if not self.sessions.admits(strand.run.flow):
                continue
            task = strand.head()
            if task is None:
                raise AssertionError("a strand that comes first has a task")
            if task.locks and (found_held >= LOOKED_AT_PARKED_MAX or steps >= LOCK_STEPS_MAX):
                if not self.locks.full:
                    self.unfinished = True
                    return
                # The next pass would look at the same ones: what needs no locks must not wait for that.
                self._close(strand, closed)
                continue
            # What was loaded ahead of others comes when those are read: the next pass goes on with that.
            too_early = self.unfinished and not strand.served
            strand.pop()
            aside.append(task)
            compared = self.locks.steps
            if task.locks and (blocker := self.locks.blocker(task, self._may_go)) is not None:
                found_held += 1
                self._park(task, strand, blocker, closed)
            elif not too_early and self.keys.may_take(task):
                yield task
            if task.reserved or task.strand is None:
                # What stays as it was must not end the pass: the next one would end with it as well.
                steps += self.locks.steps - compared
            if self._runs.took(strand):
                self._read_on([strand.run], scope)
            strand.lane.push(strand)

    def _queue(self, task: PendingTask) -> None:
        strand = task.strand
        if strand is not None:
            strand.push(task)
            strand.lane.push(strand)

    # --- tasks whose locks are held ---------------------------------------------------------------------------------

    def _may_go(self, task: PendingTask) -> bool:
        """Whether a parked task could be given away but for its locks: only then is it in the way of later ones."""
        project, closed = task.key[0], task.run is not None and task.run.flow.closed
        return self.gate.open(project, task.signature.queue) and self.budgets.open(project) and not closed

    def _park(self, task: PendingTask, strand: Strand, blocker: TaskKey, closed: list[Strand]) -> None:
        if self.locks.full:
            self._close(strand, closed)
            return
        strand.run.parked += 1
        self._leave_strand(task, strand)
        self.locks.park(task, blocker)

    def _close(self, strand: Strand, closed: list[Strand]) -> None:
        strand.closed = True
        closed.append(strand)

    def _call_parked(self) -> None:
        """Parked tasks that nobody may be in the way of any more are in the order again."""
        for task in self.locks.take_ready(CALLED_AT_ONCE_MAX):
            if (run := task.run) is not None:
                run.parked -= 1
                self._enter(task, run, self._strand(run, task.priority, task.signature.requires, task.kind))

    # --- reading the state ------------------------------------------------------------------------------------------

    def _signatures(self, scope: Scope) -> Iterator[Signature]:
        """Of all lanes in scope."""
        if scope.project is not None:
            return iter(self._lanes.get(scope.project, {}))
        return (signature for lanes in self._lanes.values() for signature in lanes)

    def _read_on(self, runs: list[Run], scope: Scope) -> None:
        if self._reading.read_on(runs, scope):
            self.unfinished = True

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

    def _add(self, run: Run, found: Found, *, requeued: bool = False, ahead: bool = False) -> None:
        key = (run.project, found.task_id)
        if key in self._by_key:
            return
        if run.flow.closed and found.concurrency_key is not None:
            run.flow.kept_keys[found.concurrency_key] = None
            return
        admitted, pushed_out = self.keys.admits(run.project, run.queue, found)
        if not admitted:
            return
        strand = self._strand(run, found.priority, found.requires, found.kind)
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
        task = self._by_key[key] = PendingTask(key, strand.lane.signature, found, rank)
        self.keys.enter(task)
        self._enter(task, run, strand)

    def _enter(self, task: PendingTask, run: Run, strand: Strand) -> None:
        task.strand, task.run = strand, run
        self.fairness.enter(run.flow)
        strand.count += 1
        self._queue(task)
        if self._pass is not None:
            self._pass.see(strand.lane)

    def _strand(self, run: Run, priority: int, requires: Requires, kind: int) -> Strand:
        place = priority, requires, kind
        strand = run.strands.get(place)
        if strand is None:
            signature = Signature(run.project, run.queue, requires)
            lanes = self._lanes.setdefault(run.project, {})
            lane = lanes.get(signature)
            if lane is None:
                lane = lanes[signature] = Lane(signature)
            strand = run.strands[place] = Strand(run, lane, priority, kind)
            lane.add(strand)
        return strand
