"""Reading pending tasks from the state into strands, as far as somebody asks for them and no further."""

from __future__ import annotations

from collections.abc import Callable

from node.duties.lanes import Found, Run, Scan, Scope, Strand
from node.duties.runs import Runs

READ_TASKS_MAX = 256
"""Tasks read from the state at once: decoding them holds up the loop for some milliseconds."""
READ_TASKS_LEAST = 32
"""Of them, of each priority."""
READ_TASKS_OF_SESSION_MAX = 16
"""There may be any number of sessions, and each has its turn."""


class Reading:
    """`add` takes a task that was read, `emptied` a strand of which nothing is left, here or in the state."""

    def __init__(
        self,
        scan: Scan,
        runs: Runs,
        add: Callable[[Run, Found], None],
        emptied: Callable[[Strand], None],
        strand_max: int,
    ) -> None:
        self._scan = scan
        self._runs = runs
        self._add = add
        self._emptied = emptied
        self._strand_max = strand_max

    def read_on(self, runs: list[Run], scope: Scope) -> bool:
        """Read on wherever a task may be that comes before all that is loaded of its run and priority; whether there
        was more to read than the scope allows."""
        for run in runs:
            if scope.budget <= 0:
                return True
            if run.unread and not scope.covers(run):
                continue
            while run.unread and scope.budget > 0 and (read := self._read_once(run, scope)):
                scope.budget -= read
            if run.unread and scope.budget <= 0:
                return True
            self._runs.was_read(run)
        return False

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
            and not strand.closed
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
            # Who reads a run for the first time asks for all priorities at once, and needs few of the low ones.
            each_max = max(READ_TASKS_LEAST, count_max // len(least))
            for priority, (tasks, position) in self._scan(
                run.project, run.queue, run.session, least, min(each_max, count_max)
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
        requires, kind = strand.lane.signature.requires, strand.kind
        for found in tasks:
            if found.order >= end:
                position = None
                break
            if found.requires == requires and found.kind == kind:
                self._add(run, found)
        if strand.skipped_from is None and position is not None and position < end:
            strand.skipped_from = position
        if strand.count == 0 and strand.skipped_from is None:
            self._emptied(strand)
        return max(len(tasks), 1)
