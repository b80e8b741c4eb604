"""Locks on paths: which pending tasks may be chosen while others hold what they need, and who comes first.

A task whose locks others hold is parked: it is in no strand, costs the passes nothing, and stands behind one other
task, its blocker. When that lets go of its locks, or needs them no more, the task is called: it is looked at again in
its turn. A parked task that comes earlier in the order is in the way of later ones that overlap it, so a lock on
everything is not starved by a stream of small ones; the nearest of those is the blocker, so a file that a thousand
tasks want is a line in which each end calls one. What nobody who asks for work can do is in nobody's way once it was
called (`pass_over`).

Only what keeps the leader from proposing in vain: `apply` decides. The tables are those of the state (`path_locks`), so
both find the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from node.duties.holdings import TaskKey
from node.duties.lanes import PendingTask
from statemachine import limits, path_locks
from statemachine.commands import PathLock
from statemachine.keys import u64
from statemachine.store import MemoryStore

PARKED_MAX = 10_000
"""Beyond that tasks with locks stay in the state behind the first of their strand that is in somebody's way."""

_RANK_OFFSET = 1 << 62
"""Ranks may be below zero, keys not."""
_ANYBODY = ""
"""Stands for the blocker of a task that too many held locks are in the way of, whichever they are."""


class _Holder(NamedTuple):
    project_no: int
    number: int
    locks: Sequence[PathLock]


class PathLocks:
    """What is held, or kept for a task that was chosen, and the line before it."""

    def __init__(self, parked_max: int = PARKED_MAX) -> None:
        self._parked_max = parked_max
        self._project_nos: dict[str, int] = {}
        self._meter = path_locks.Meter()
        self.clear()

    def clear(self) -> None:
        """Forget everything, to be read anew."""
        self._taken = MemoryStore()
        self._line = MemoryStore()
        self._held: dict[TaskKey, _Holder] = {}
        self._reserved: dict[TaskKey, _Holder] = {}
        self._by_number: dict[tuple[int, int], TaskKey] = {}
        self._counts: dict[int, int] = {}
        self._parked: dict[TaskKey, PendingTask] = {}
        self._by_order: dict[tuple[int, int], PendingTask] = {}
        self._behind: dict[TaskKey, TaskKey] = {}
        self._waiting: dict[TaskKey, dict[TaskKey, None]] = {}
        self._ready: dict[TaskKey, None] = {}
        self._called: dict[TaskKey, PendingTask] = {}

    @property
    def full(self) -> bool:
        """Whether no more tasks are to be parked."""
        return len(self._parked) >= self._parked_max

    @property
    def steps(self) -> int:
        """How much was compared so far (`globs.steps`)."""
        return self._meter.steps

    def __len__(self) -> int:
        return len(self._parked)

    # --- held locks -------------------------------------------------------------------------------------------------

    def holds(self, key: TaskKey) -> bool:
        """Whether the task holds locks by what the state said last."""
        return key in self._held

    def hold(self, key: TaskKey, number: int, locks: Sequence[PathLock]) -> None:
        """A task holds these locks."""
        if key not in self._held:
            holder = self._held[key] = _Holder(self._project_no(key[0]), number, locks)
            self._take(key, holder, key in self._reserved)

    def let_go(self, key: TaskKey) -> bool:
        """A task holds no locks any more; whether it held some."""
        holder = self._held.pop(key, None)
        if holder is not None and key not in self._reserved:
            self._give_back(key, holder)
        return holder is not None

    def reserve(self, task: PendingTask) -> None:
        """A task was chosen for an agent: nobody else gets its locks."""
        if task.key not in self._reserved:
            holder = _Holder(self._project_no(task.key[0]), task.order, task.locks)
            self._reserved[task.key] = holder
            self._called.pop(task.key, None)
            self._take(task.key, holder, task.key in self._held)

    def unreserve(self, key: TaskKey) -> None:
        """The task can be had again, or its grant is in the state."""
        holder = self._reserved.pop(key, None)
        if holder is not None and key not in self._held:
            self._give_back(key, holder)

    def _take(self, key: TaskKey, holder: _Holder, before: bool) -> None:
        if not before:
            self._by_number[holder.project_no, holder.number] = key
            self._counts[holder.project_no] = self._counts.get(holder.project_no, 0) + len(holder.locks)
            self._taken.apply(list(path_locks.rows(*holder).items()))

    def _give_back(self, key: TaskKey, holder: _Holder) -> None:
        del self._by_number[holder.project_no, holder.number]
        self._counts[holder.project_no] -= len(holder.locks)
        self._taken.apply([(row, None) for row in path_locks.rows(*holder)])
        self._wake(key)
        self._wake((key[0], _ANYBODY))

    def _project_no(self, project: str) -> int:
        return self._project_nos.setdefault(project, len(self._project_nos) + 1)

    # --- the line ---------------------------------------------------------------------------------------------------

    def blocker(self, task: PendingTask, may_go: Callable[[PendingTask], bool]) -> TaskKey | None:
        """Who is in the task's way; None when nobody is. Parked tasks are only while they `may_go` themselves."""
        if task.key in self._held:
            return None
        project, project_no = task.key[0], self._project_no(task.key[0])
        if self._counts.get(project_no, 0) + len(task.locks) > limits.LOCKS_HELD_MAX:
            return project, _ANYBODY
        for conflict in path_locks.conflicts(
            self._line,
            project_no,
            0,
            task.locks,
            newest_first=True,
            before=_rank(task) + u64(task.order),
            # However many of them may not go themselves, the one behind them may.
            named_max=PARKED_MAX,
            meter=self._meter,
        ):
            earlier = self._by_order.get((project_no, conflict.holder_no))
            if earlier is not None and may_go(earlier):
                return earlier.key
        for conflict in path_locks.conflicts(self._taken, project_no, task.order, task.locks, meter=self._meter):
            return self._by_number[project_no, conflict.holder_no] if conflict.holder_no else (project, _ANYBODY)
        return None

    def park(self, task: PendingTask, blocker: TaskKey) -> None:
        """The task waits behind another."""
        project_no = self._project_no(task.key[0])
        self._parked[task.key] = task
        self._by_order[project_no, task.order] = task
        self._line.apply(list(path_locks.rows(project_no, task.order, task.locks, _rank(task)).items()))
        self._behind[task.key] = blocker
        self._waiting.setdefault(blocker, {})[task.key] = None
        self._called.pop(task.key, None)

    def behind(self, key: TaskKey) -> TaskKey | None:
        """The task that this one is parked behind, if that holds no locks itself but comes first."""
        blocker = self._behind.get(key)
        return None if blocker is None or blocker[1] == _ANYBODY or self._is_taken(blocker) else blocker

    def leave(self, task: PendingTask) -> None:
        """The task is pending no more, or not as it was."""
        parked = task.key in self._parked
        if parked:
            self._unpark(task.key)
        self._called.pop(task.key, None)
        if task.key in self._reserved:
            self.unreserve(task.key)
        elif not self._is_taken(task.key):
            self._wake(task.key)

    def take_ready(self, count_max: int) -> list[PendingTask]:
        """Parked tasks whose blocker is gone; they are parked no more."""
        found = [self._parked[key] for key in list(self._ready)[:count_max]]
        for task in found:
            self._unpark(task.key)
            if task.key in self._waiting:
                self._called[task.key] = task
        return found

    def pass_over(self, project: str | None, wanted: Callable[[PendingTask], bool]) -> bool:
        """Tasks that were called and that nobody wants hold up nobody; whether anybody is ready now because of that.
        With a `project` the others are left alone: nobody has asked for work of theirs."""
        for key, task in list(self._called.items()):
            if project in (None, key[0]) and not wanted(task):
                del self._called[key]
                self._wake(key)
        return bool(self._ready)

    def stir(self, project: str, queue: str) -> None:
        """What the tasks of a queue may do has changed: whoever stands behind one of them is looked at again."""
        for key, task in list(self._parked.items()):
            if key[0] == project and task.signature.queue == queue:
                self._wake(key)

    def _is_taken(self, key: TaskKey) -> bool:
        return key in self._held or key in self._reserved

    def _wake(self, blocker: TaskKey) -> None:
        for key in self._waiting.pop(blocker, ()):
            del self._behind[key]
            self._ready[key] = None

    def _unpark(self, key: TaskKey) -> None:
        task, project_no = self._parked.pop(key), self._project_no(key[0])
        del self._by_order[project_no, task.order]
        self._line.apply([(row, None) for row in path_locks.rows(project_no, task.order, task.locks, _rank(task))])
        self._ready.pop(key, None)
        blocker = self._behind.pop(key, None)
        if blocker is not None:
            waiting = self._waiting[blocker]
            del waiting[key]
            if not waiting:
                del self._waiting[blocker]


def _rank(task: PendingTask) -> bytes:
    """The task's rank as keys have it."""
    return u64(task.rank + _RANK_OFFSET)
