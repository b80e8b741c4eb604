"""Who holds which task, and until when: the leader's memory of offers and leases. None of it is replicated."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

import msgspec

TaskKey = tuple[str, str]
"""(project, task id)."""


class Holding(msgspec.Struct, eq=False, gc=False):
    """One task held by an agent: offered (`assigned`), `running`, or ended but not given back yet (its slot is kept).

    `term_s` is the full lease (or offer time), `deadline_s` lease time. `fraction` is in ten-thousandths. `ending`:
    whether its time is over is being decided. There may be a hundred thousand, and they refer to nothing that could
    refer to them: the garbage collector need not look at each.
    """

    key: TaskKey
    agent_id: str
    attempt: int
    status: str
    term_s: float
    deadline_s: float
    ending: bool = False
    fraction: int | None = None
    message: str | None = None
    order: int = 0


class Holdings:
    """All holdings, by task and by agent, and the order in which they run out."""

    def __init__(self) -> None:
        self._by_task: dict[TaskKey, Holding] = {}
        self._by_agent: dict[str, dict[TaskKey, Holding]] = {}
        self._due: list[tuple[float, int, Holding]] = []
        self._order = itertools.count()
        self._freed: dict[str, None] = {}
        self._hear: Callable[[Holding, int], None] = lambda _holding, _count: None

    def on_change(self, hear: Callable[[Holding, int], None]) -> None:
        """Tell somebody of every holding that comes (1) or goes (-1)."""
        self._hear = hear

    def __len__(self) -> int:
        return len(self._by_task)

    def get(self, key: TaskKey) -> Holding | None:
        """The holding of a task."""
        return self._by_task.get(key)

    def of_agent(self, agent_id: str) -> list[Holding]:
        """What an agent holds."""
        return list(self._by_agent.get(agent_id, {}).values())

    def slots_used(self, agent_id: str) -> int:
        """How many slots an agent's holdings take."""
        return len(self._by_agent.get(agent_id, ()))

    def put(self, holding: Holding) -> None:
        """Remember a holding; what was known of its task before is forgotten."""
        self.drop(holding.key)
        self._by_task[holding.key] = holding
        self._by_agent.setdefault(holding.agent_id, {})[holding.key] = holding
        self._hear(holding, 1)
        self.push(holding)

    def drop(self, key: TaskKey) -> Holding | None:
        """The task is held by nobody any more."""
        holding = self._by_task.pop(key, None)
        if holding is not None:
            held = self._by_agent[holding.agent_id]
            del held[key]
            self._freed[holding.agent_id] = None
            if not held:
                del self._by_agent[holding.agent_id]
            self._hear(holding, -1)
        return holding

    def take_freed(self) -> dict[str, None]:
        """The agents that hold less than when this was asked the last time."""
        freed, self._freed = self._freed, {}
        return freed

    def push(self, holding: Holding) -> None:
        """Queue a holding for its deadline; a later renewal costs nothing until then."""
        holding.order = next(self._order)
        heapq.heappush(self._due, (holding.deadline_s, holding.order, holding))

    def due(self, now_s: float, count_max: int) -> list[Holding]:
        """Take up to `count_max` holdings whose time is over. The caller decides on each, or pushes it again."""
        found: list[Holding] = []
        while self._due and self._due[0][0] <= now_s and len(found) < count_max:
            _, order, holding = heapq.heappop(self._due)
            if self._by_task.get(holding.key) is not holding or order != holding.order:
                continue
            if holding.deadline_s > now_s:
                self.push(holding)
            else:
                found.append(holding)
        return found

    def any_due(self, now_s: float) -> bool:
        """Whether `due` has something to look at."""
        return bool(self._due) and self._due[0][0] <= now_s

    def __iter__(self) -> Iterator[Holding]:
        return iter(list(self._by_task.values()))
