"""All runs that are known: which of them the state may have more of, and which must be read on at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from node.duties.fairness import Fairness, Flow
from node.duties.lanes import KEYED, PendingTask, Run, Scope, Signature, Strand

DONE_KEPT_MAX = 1_000
"""Runs of no session of which nothing is left."""

RunKey = tuple[str, str, str | None]
"""(project, queue, session or None)."""


class Runs:
    """`unread` runs may have more in the state; `hungry` ones lack what comes next, or may lack it."""

    def __init__(self, fairness: Fairness) -> None:
        self._fairness = fairness
        self._runs: dict[RunKey, Run] = {}
        self._of_flow: dict[Flow, dict[Run, None]] = {}
        self._done: dict[Run, None] = {}
        self._unread = RunsByQueue()
        self._hungry = RunsByQueue()

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        # A copy: the loop may forget what it is given.
        return iter(list(self._runs.values()))

    def get(self, key: RunKey) -> Run | None:
        """The run, if it is known."""
        return self._runs.get(key)

    def known(self, key: RunKey) -> Run:
        """The run; a new one is to be read from its beginning."""
        run = self._runs.get(key)
        if run is None:
            flow = self._fairness.flow(key[0], key[2])
            flow.runs += 1
            run = self._runs[key] = Run(*key, flow)
            self._of_flow.setdefault(flow, {})[run] = None
            self.must_read(run)
        return run

    def of_flow(self, flow: Flow) -> Iterable[Run]:
        """The runs of one session, one for each of its queues."""
        return self._of_flow.get(flow, ())

    def push(self, flow: Flow) -> None:
        """What decides about the flow's turn changed: queue it anew in all its lanes."""
        for run in self.of_flow(flow):
            for part in run.parts.values():
                part.lane.push_part(part)

    def keyed(self, flow: Flow) -> list[PendingTask]:
        """Queued tasks of the flow that have a concurrency key."""
        strands = [strand for run in self.of_flow(flow) for strand in run.strands.values() if strand.kind & KEYED]
        return [task for strand in strands for _, _, _, task in strand.heap if task.strand is strand]

    def forget(self, run: Run) -> None:
        """The run has nothing here and nothing in the state."""
        self._done.pop(run, None)
        self._unread.discard(run)
        self._hungry.discard(run)
        if self._runs.pop((run.project, run.queue, run.session), None) is not None:
            run.flow.runs -= 1
            runs = self._of_flow[run.flow]
            del runs[run]
            if not runs:
                del self._of_flow[run.flow]

    def forget_if_done(self, run: Run) -> None:
        """Sessions and queues come and go; their runs must not stay. What comes back is read from its beginning, and
        sessions are short. Runs of no session know how many rows of sessions they have passed, and most are used
        again: the latest stay."""
        if not _is_done(run):
            return
        if run.session is not None:
            self.forget(run)
            return
        self._done.pop(run, None)
        self._done[run] = None
        if len(self._done) > DONE_KEPT_MAX:
            oldest = next(iter(self._done))
            del self._done[oldest]
            # It may have been given a task back, without anything to read.
            if _is_done(oldest):
                self.forget(oldest)

    def close(self, run: Run) -> None:
        """The run's session has no budget left: nothing of it is read until `reopen`."""
        self._unread.discard(run)
        self._hungry.discard(run)

    def reopen(self, run: Run) -> None:
        """There may be budget again."""
        if run.unread:
            self.must_read(run)

    def must_read(self, run: Run) -> None:
        """The state may have more of the run, and nothing here is known to come before it."""
        self._done.pop(run, None)
        if not run.flow.closed:
            self._unread.add(run)
            self._hungry.add(run)

    def has_more(self, run: Run) -> None:
        """Something of the run was left in the state, behind what is here."""
        if not run.flow.closed:
            self._unread.add(run)

    def took(self, strand: Strand) -> bool:
        """The first task of a strand went; whether what follows must be read before it is known."""
        if strand.run in self._unread and not strand.served:
            self._hungry.add(strand.run)
            return True
        return False

    def loaded_ahead(self, run: Run) -> None:
        """A task was loaded that may stand behind others which were not read."""
        if run in self._unread:
            self._hungry.add(run)

    def was_read(self, run: Run) -> None:
        """The run was read as far as it was wanted."""
        if not run.dry:
            self._hungry.discard(run)
        if not run.unread:
            self._unread.discard(run)
            self.forget_if_done(run)

    def to_read(self, scope: Scope, signatures: Iterable[Signature]) -> list[Run]:
        """Runs that may have to be read on: hungry ones, and all of queues where something loaded is unwanted."""
        hungry = self._hungry.some(scope)
        if len(self._unread) == len(self._hungry):
            return hungry
        unwanted = dict.fromkeys((one.project, one.queue) for one in signatures if not scope.wanted(one))
        others = (run for queue in unwanted for run in self._unread.of(queue) if run not in self._hungry)
        return [*hungry, *others]


def _is_done(run: Run) -> bool:
    return not (run.strands or run.unread or run.parked)


class RunsByQueue:
    """A set of runs in order, by (project, queue)."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], dict[Run, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, run: Run) -> bool:
        return run in self._runs.get((run.project, run.queue), ())

    def add(self, run: Run) -> None:
        """Add a run; harmless when it is there."""
        runs = self._runs.setdefault((run.project, run.queue), {})
        self._count += run not in runs
        runs[run] = None

    def discard(self, run: Run) -> None:
        """Remove a run; harmless when it is not there."""
        runs = self._runs.get((run.project, run.queue))
        if runs is not None and run in runs:
            del runs[run]
            self._count -= 1
            if not runs:
                del self._runs[run.project, run.queue]

    def of(self, queue: tuple[str, str]) -> list[Run]:
        """All runs of one queue."""
        return list(self._runs.get(queue, ()))

    def some(self, scope: Scope) -> list[Run]:
        """Runs in scope, no more than it can read: one more tells that there are others."""
        found: list[Run] = []
        for runs in self._runs.values():
            if scope.covers(next(iter(runs))):
                found.extend(islice(runs, scope.budget + 1 - len(found)))
            if len(found) > scope.budget:
                break
        return found
