"""What must hold of locks and budgets, judged by what users asked for, what agents reported and what the feed said.

Locks are compared by the paths that they match among a few, never by the pattern language; budgets are kept as books of
their own. Only at the end of an entry are the books held against the state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from statemachine import budget_record, commands
from statemachine.changes import Change
from statemachine.commands import (
    Command,
    CompleteTasks,
    Completion,
    CreateSchedule,
    FailTasks,
    Failure,
    NewTask,
    Park,
    ParkTasks,
    PutBudget,
    SubmitTasks,
    UpdateSchedule,
)
from statemachine.entry import Batch
from statemachine.outcome import Outcome
from statemachine.store import Reader

MATCHED: dict[str, frozenset[str]] = {
    "src/a.py": frozenset({"src/a.py"}),
    "src/*.py": frozenset({"src/a.py", "src/b.py"}),
    "src/**": frozenset({"src/a.py", "src/b.py", "src/x/a.md"}),
    "src/x/?.md": frozenset({"src/x/a.md"}),
    "**/a.*": frozenset({"src/a.py", "src/x/a.md", "docs/a.md"}),
    "docs/[!b]*": frozenset({"docs/a.md"}),
    "docs/b.md": frozenset({"docs/b.md"}),
}
"""Patterns, and which of some paths they match."""

_HELD = ("assigned", "running")
_STOPPED = ("cancelled", "expired")
_ENDED = (*_STOPPED, "completed", "failed")

Usage = tuple[int, int, int]
Sum = tuple[int, int]
"""Tokens and micro-dollars."""


@dataclass(slots=True)
class Book:
    """One budget since it was made. `set_aside`: for each task that is held under it; `told`: whether watchers were
    told last that it is used up."""

    limits: PutBudget
    spent: Sum = (0, 0)
    set_aside: dict[str, Sum] = field(default_factory=dict)
    told: bool = False

    @property
    def reserved(self) -> Sum:
        """All that is set aside."""
        return sum(one[0] for one in self.set_aside.values()), sum(one[1] for one in self.set_aside.values())

    def has_room(self, reserved: Sum) -> bool:
        """Whether one more task may be granted, with so much set aside."""
        reserve = self.limits.reserve_tokens, self.limits.reserve_cost
        most = self.limits.max_tokens, self.limits.max_cost
        return all(
            limit is None or spent + kept + max(needed, 1) <= limit
            for limit, spent, kept, needed in zip(most, self.spent, reserved, reserve, strict=True)
        )


@dataclass(slots=True)
class Known:
    """A task as it was asked for. `holds`: it occupies a slot by the feed; `keeps`: it waits, or was not started since,
    so its locks are its own."""

    new: NewTask
    holds: bool = False
    keeps: bool = False


@dataclass(slots=True)
class ResourceRules:
    """Follows a log from its beginning."""

    granted: int = 0
    granted_with_locks: int = 0
    used_up: int = 0
    _tasks: dict[str, Known] = field(default_factory=dict)
    _lockers: dict[str, Known] = field(default_factory=dict)
    _books: dict[str, Book] = field(default_factory=dict)
    _runs: dict[str, NewTask] = field(default_factory=dict)

    def follow(
        self,
        batches: Sequence[Batch],
        outcomes: Sequence[Sequence[Outcome]],
        changes: Sequence[Change],
        state: Reader,
    ) -> Iterator[str]:
        """What is wrong with an entry, after which the state is this."""
        limits: dict[int, PutBudget] = {}
        reports: dict[tuple[str, int], tuple[str, Usage]] = {}
        for batch, answers in zip(batches, outcomes, strict=True):
            for frame, outcome in zip(batch.frames, answers, strict=True):
                if outcome.refusal is None and not outcome.replayed and frame.project in ("", "default"):
                    self._asked(commands.decode(frame.number, frame.payload), outcome, limits, reports)
        for change in sorted(changes, key=lambda change: change.revision):
            if change.resource == "budget":
                self._follow_budget(change, limits)
            elif change.resource == "task" and change.data is not None and "to" in change.data:
                yield from self._follow_task(change, change.data, reports)
        yield from self._compare(state)

    # --- what was asked for, and reported -----------------------------------------------------------------------------

    def _asked(
        self,
        command: Command,
        outcome: Outcome,
        limits: dict[int, PutBudget],
        reports: dict[tuple[str, int], tuple[str, Usage]],
    ) -> None:
        if isinstance(command, SubmitTasks):
            self._expect(command.items)
        elif isinstance(command, CreateSchedule | UpdateSchedule) and command.definition is not None:
            self._runs[command.schedule_id] = command.definition.task
        elif isinstance(command, PutBudget):
            # What changed nothing is answered with the revision of what did.
            limits.setdefault(outcome.items[0].revision, command)
        elif isinstance(command, CompleteTasks | FailTasks | ParkTasks):
            reported: Sequence[Completion | Failure | Park] = command.items
            for item, answer in zip(reported, outcome.items, strict=True):
                if answer.refusal is None and item.usage is not None:
                    reports.setdefault((item.task_id, answer.revision), (command.agent_id, item.usage))
        if isinstance(command, CompleteTasks):
            for completion in command.items:
                self._expect(completion.tasks)

    def _expect(self, new: Sequence[NewTask]) -> None:
        for task in new:
            self._tasks.setdefault(task.task_id, Known(task))

    def _known(self, task_id: str) -> Known | None:
        schedule_id, _, run = task_id.rpartition(":")
        if task_id not in self._tasks and run and schedule_id in self._runs:
            self._tasks[task_id] = Known(self._runs[schedule_id])
        return self._tasks.get(task_id)

    # --- budgets ------------------------------------------------------------------------------------------------------

    def _follow_budget(self, change: Change, limits: dict[int, PutBudget]) -> None:
        name = change.resource_id
        if change.type == "budget.created":
            self._books[name] = Book(limits[change.revision])
        elif change.type == "budget.updated":
            self._books[name].limits = limits[change.revision]
        elif change.type == "budget.reset":
            self._books[name].spent = (0, 0)
        elif change.type == "budget.deleted":
            del self._books[name]
        else:
            self._books[name].told = change.type == "budget.exceeded"
            self.used_up += self._books[name].told

    def _applying(self, task: Known, agent_id: str) -> list[tuple[str, Book]]:
        names = ["project/default", f"agent/{agent_id}"]
        if task.new.session_id is not None:
            names.append(f"session/{task.new.session_id}")
        return [(name, self._books[name]) for name in names if name in self._books]

    def _compare(self, state: Reader) -> Iterator[str]:
        found = {budget.name: budget for _, budget in budget_record.everything(state)}
        if found.keys() != self._books.keys():
            yield f"there are budgets {sorted(found)}, and should be {sorted(self._books)}"
            return
        for name, book in self._books.items():
            budget = found[name]
            if (budget.tokens, budget.cost) != book.spent:
                yield f"{name} has spent {(budget.tokens, budget.cost)}, and {book.spent} was reported"
            now = budget.reserved_tokens, budget.reserved_cost, budget.tasks
            if now != (*book.reserved, len(book.set_aside)):
                yield f"{name} has reserved {now}, and agents hold {book.set_aside}"
            if book.told == book.has_room((0, 0)):
                yield f"{name} is told to be {'' if book.told else 'not '}used up, by {book}"

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _follow_task(
        self, change: Change, data: dict[str, Any], reports: dict[tuple[str, int], tuple[str, Usage]]
    ) -> Iterator[str]:
        task_id, to, agent_id = change.resource_id, data["to"], data.get("agent_id", "")
        task = self._known(task_id)
        if task is None:
            return  # of which `queue_rules` tells
        if to in _HELD and not task.holds:
            yield from self._grant(f"revision {change.revision}: {task_id} is granted", task_id, task, agent_id)
        report = reports.pop((task_id, change.revision), None)
        if report is not None:
            tokens, cost = report[1][0] + report[1][1], report[1][2]
            for _, book in self._applying(task, report[0]):
                book.spent = book.spent[0] + tokens, book.spent[1] + cost
        parks = data.get("from") == "running" and str(data.get("reason") or "").startswith("event ")
        task.keeps = (task.keeps or parks) and to != "running" and to not in _ENDED
        task.holds = to in _HELD or (task.holds and to in _STOPPED)
        if not task.holds:
            for book in self._books.values():
                book.set_aside.pop(task_id, None)
        if task.new.locks and (task.holds or task.keeps):
            self._lockers[task_id] = task
        else:
            self._lockers.pop(task_id, None)

    def _grant(self, what: str, task_id: str, task: Known, agent_id: str) -> Iterator[str]:
        self.granted += 1
        for name, book in self._applying(task, agent_id):
            if not book.has_room(book.reserved):
                yield f"{what}, and {name} has no room: {book}"
            book.set_aside[task_id] = book.limits.reserve_tokens, book.limits.reserve_cost
        self.granted_with_locks += bool(task.new.locks)
        for other_id, other in self._lockers.items():
            if other is not task and _in_conflict(task.new, other.new):
                yield f"{what} with locks on {task.new.locks}, and {other_id} holds {other.new.locks}"


def _in_conflict(a: NewTask, b: NewTask) -> bool:
    return any(
        (mine.exclusive or theirs.exclusive) and MATCHED[mine.path] & MATCHED[theirs.path]
        for mine in a.locks
        for theirs in b.locks
    )
