"""The tasks of `hive bench queue`: each carries a number, by which its whole life is followed and then checked.

COMPLETED EXACTLY ONCE is counted three ways: what the agents were answered, what the tasks say of themselves in a
linearizable read, and the transitions in their histories.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import quote

import msgspec

PAGE = 1_000
COMPLETED = "completed"


class Number(msgspec.Struct):
    """The payload of a task, and the result of whoever did it."""

    n: int


class Grant(msgspec.Struct):
    """As much of an offered or claimed task as is needed."""

    task_id: str
    attempt: int
    payload: Number


class _Transition(msgspec.Struct):
    to: str


class TaskSeen(msgspec.Struct):
    """A task as it is listed in the end."""

    status: str
    payload: Number
    result: Number | None
    history: list[_Transition]


class _Page(msgspec.Struct):
    items: list[TaskSeen]
    next_cursor: str | None


_page = msgspec.json.Decoder(_Page)


class Lot:
    """Tasks that were created together. `done` when the last of them is."""

    __slots__ = ("created_s", "done", "left")

    def __init__(self, count: int) -> None:
        self.left = count
        self.created_s = perf_counter()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class Ledger:
    """Which tasks were created and how often each was completed, as far as the generator was told.

    `latencies_ms` are from a creation's call to the answer of its completion, while `measuring`.
    """

    acknowledged: set[int] = field(default_factory=set)
    completions: dict[int, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    measuring: bool = False
    _lots: dict[int, Lot] = field(default_factory=dict)
    _created: int = 0

    def open(self, count: int) -> tuple[Lot, range]:
        """Numbers for tasks about to be created."""
        numbers = range(self._created, self._created + count)
        self._created += count
        lot = Lot(count)
        self._lots.update(dict.fromkeys(numbers, lot))
        return lot, numbers

    def give_up(self, number: int) -> None:
        """Its creation was not acknowledged: it may be there or not."""
        self._tick(number)

    def completed(self, number: int) -> None:
        """An agent was told that its completion counts."""
        self.completions[number] = self.completions.get(number, 0) + 1
        lot = self._tick(number)
        if lot is not None and self.measuring:
            self.latencies_ms.append((perf_counter() - lot.created_s) * 1_000)

    def _tick(self, number: int) -> Lot | None:
        lot = self._lots.pop(number, None)
        if lot is not None:
            lot.left -= 1
            if lot.left == 0 and not lot.done.done():
                lot.done.set_result(None)
        return lot


@dataclass(frozen=True, slots=True)
class Faults:
    """`lost` were acknowledged and are not completed; `doubled` are there, or were completed, more than once; `wrong`
    have a result that is not theirs, or one that no agent was told of."""

    lost: int = 0
    doubled: int = 0
    wrong: int = 0

    @property
    def any(self) -> bool:
        return bool(self.lost or self.doubled or self.wrong)

    def __add__(self, other: Faults) -> Faults:
        return Faults(self.lost + other.lost, self.doubled + other.doubled, self.wrong + other.wrong)


def judge(acknowledged: Iterable[int], completions: Mapping[int, int], tasks: Iterable[TaskSeen]) -> Faults:
    """Compare what the generator was told with what is there."""
    completed: set[int] = set()
    seen: set[int] = set()
    doubled: set[int] = {number for number, count in completions.items() if count > 1}
    wrong = 0
    for task in tasks:
        number = task.payload.n
        if number in seen or sum(line.to == COMPLETED for line in task.history) > 1:
            doubled.add(number)
        seen.add(number)
        if task.status == COMPLETED:
            completed.add(number)
            wrong += task.result != task.payload or number not in completions
    lost = set(acknowledged).union(completions).difference(completed)
    return Faults(len(lost), len(doubled), wrong)


Require = Callable[[str, str], Awaitable[bytes]]
"""(method, target) -> the body of the answer."""


async def tasks_of(require: Require, task_type: str) -> list[TaskSeen]:
    """All tasks of a type, by linearizable reads."""
    first = f"/api/tasks?type={task_type}&limit={PAGE}&consistency=linearizable&fields=status,payload,result,history"
    found: list[TaskSeen] = []
    target = first
    while True:
        page = _page.decode(await require("GET", target))
        found += page.items
        if page.next_cursor is None:
            return found
        target = f"{first}&cursor={quote(page.next_cursor)}"
