"""Concurrency keys: which pending tasks may be chosen while only so many of a key may be with agents.

Of a key that has room as many tasks of each queue and need are here as it has room, the first ones; the others stay in
the state. By need, because those that no agent can do, or whose locks are held, must not hide others of their key.
When a holder lets go, the next ones are read by the key's own index. So a million tasks of one key cost the leader
nothing, and no pass walks over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from node.duties.fleet import Requires
from node.duties.holdings import TaskKey
from node.duties.lanes import Found, PendingTask
from statemachine.commands import PathLock

KeyPlace = tuple[str, str]
"""(project, concurrency key)."""


Need = tuple[str, Requires, tuple[PathLock, ...]]
"""(queue, capabilities, locks): tasks of one key that have these in common can do the same."""


class ConcurrencyKeys:
    """`most` says how many tasks of one key a (project, queue) lets run."""

    def __init__(self, most: Callable[[str, str], int]) -> None:
        self._most = most
        self._held: dict[KeyPlace, set[TaskKey]] = {}
        self._place_of: dict[TaskKey, KeyPlace] = {}
        self._candidates: dict[KeyPlace, dict[Need, list[PendingTask]]] = {}
        self._changed: dict[KeyPlace, None] = {}

    def clear(self) -> None:
        """Forget everything, to be read anew."""
        self._held.clear()
        self._place_of.clear()
        self._candidates.clear()
        self._changed.clear()

    def hold(self, task: TaskKey, key: str) -> None:
        """A task occupies a slot under a key."""
        if task in self._place_of:
            return
        place = self._place_of[task] = task[0], key
        self._held.setdefault(place, set()).add(task)
        self._changed[place] = None

    def let_go(self, task: TaskKey) -> None:
        """A task occupies no slot any more."""
        place = self._place_of.pop(task, None)
        if place is not None:
            held = self._held[place]
            held.discard(task)
            if not held:
                del self._held[place]
            self._changed[place] = None

    def settings_changed(self) -> None:
        """Queues let more or fewer run than before."""
        self._changed.update(dict.fromkeys([*self._held, *self._candidates]))

    def read_again(self, place: KeyPlace) -> None:
        """Tasks of the key that were left in the state may be had now."""
        self._changed[place] = None

    def changed(self) -> list[KeyPlace]:
        """Keys whose next tasks must be read; they are then settled."""
        places, self._changed = list(self._changed), {}
        return places

    def room(self, place: KeyPlace, queue: str) -> int:
        """How many more tasks of the key a queue may give away."""
        return max(0, self._most(place[0], queue) - len(self._held.get(place, ())))

    def may_take(self, task: PendingTask) -> bool:
        """Whether the task may be given away now, with what is reserved of its key."""
        if task.concurrency_key is None:
            return True
        place = task.key[0], task.concurrency_key
        needs = self._candidates.get(place, {}).values()
        reserved = sum(other.reserved for candidates in needs for other in candidates)
        return reserved < self.room(place, task.signature.queue)

    def admits(self, project: str, queue: str, found: Found) -> tuple[bool, PendingTask | None]:
        """Whether this task belongs into a lane, and the one of its key that it pushes out of one."""
        if found.concurrency_key is None:
            return True, None
        place = project, found.concurrency_key
        candidates = self._candidates.get(place, {}).get((queue, found.requires, found.locks), [])
        if len(candidates) < self.room(place, queue):
            return True, None
        last = max((task for task in candidates if not task.reserved), key=_order, default=None)
        if last is None or _order(last) < (-found.priority, found.order):
            return False, None
        return True, last

    def enter(self, task: PendingTask) -> None:
        """The task is in a lane."""
        if task.concurrency_key is not None:
            needs = self._candidates.setdefault((task.key[0], task.concurrency_key), {})
            needs.setdefault(_need(task), []).append(task)

    def leave(self, task: PendingTask) -> None:
        """The task is in no lane any more."""
        if task.concurrency_key is None:
            return
        place, need = (task.key[0], task.concurrency_key), _need(task)
        needs = self._candidates[place]
        needs[need].remove(task)
        if not needs[need]:
            del needs[need]
            if not needs:
                del self._candidates[place]
        self._changed[place] = None

    def surplus(self, place: KeyPlace) -> list[PendingTask]:
        """Tasks in lanes beyond what their key has room for, which nobody has reserved."""
        found: list[PendingTask] = []
        for (queue, _, _), candidates in self._candidates.get(place, {}).items():
            over = len(candidates) - self.room(place, queue)
            free = sorted((task for task in candidates if not task.reserved), key=_order, reverse=True)
            found.extend(free[: max(0, over)])
        return found


def _need(task: PendingTask) -> Need:
    return task.signature.queue, task.signature.requires, task.locks


def _order(task: PendingTask) -> tuple[int, int]:
    return -task.priority, task.order


ReadKey = Callable[[str, str, Callable[[str], int]], Iterable[tuple[str, list[Found]]]]
"""(project, concurrency key, most tasks by queue) -> (queue, its first pending tasks of the key and of one need)."""
