"""What must hold of queues, keys, waits and schedules, judged by what users asked for and what the feed then said.

Nothing here reads the state: limits are those of the commands that were accepted, and who holds what is followed
through the changes, one after the other, in the order of revisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from statemachine import commands
from statemachine.changes import Change
from statemachine.commands import (
    Command,
    CompleteTasks,
    CreateSchedule,
    NewTask,
    ResumeTasks,
    SubmitTasks,
    UpdateQueue,
    UpdateSchedule,
    UpdateTask,
)
from statemachine.entry import Batch
from statemachine.outcome import Outcome

_HELD = ("assigned", "running")
_STOPPED = ("cancelled", "expired")

Question = tuple[str, str]
"""(task id, the name of what it waits for)."""


@dataclass(slots=True)
class Limits:
    """A queue as its users set it."""

    paused: bool = False
    max_running: int | None = None
    max_running_per_key: int = 1


@dataclass(slots=True)
class Known:
    """A task as it was asked for, and where it stands by the feed. `holds`: it occupies a slot."""

    queue: str
    key: str | None
    status: str = ""
    question: str = ""
    holds: bool = False


@dataclass(slots=True)
class QueueRules:
    """Follows a log from its beginning."""

    tasks: dict[str, Known] = field(default_factory=dict)
    queues: dict[str, Limits] = field(default_factory=dict)
    parked: dict[Question, int] = field(default_factory=dict)
    let_go: dict[Question, int] = field(default_factory=dict)
    answered: dict[Question, None] = field(default_factory=dict)
    _runs: dict[str, NewTask] = field(default_factory=dict)
    _schedules: dict[str, None] = field(default_factory=dict)

    def follow(
        self, batches: Sequence[Batch], outcomes: Sequence[Sequence[Outcome]], changes: Sequence[Change]
    ) -> Iterator[str]:
        """What is wrong with an entry."""
        settings: dict[int, UpdateQueue | UpdateTask] = {}
        for batch, answers in zip(batches, outcomes, strict=True):
            for frame, outcome in zip(batch.frames, answers, strict=True):
                if outcome.refusal is None and not outcome.replayed and frame.project in ("", "default"):
                    self._asked(commands.decode(frame.number, frame.payload), outcome, settings)
        for change in sorted(changes, key=lambda change: change.revision):
            yield from self._follow(change, settings)

    def at_the_end(self) -> Iterator[str]:
        """What is wrong with the whole: whoever was answered goes on, once; whoever was not, waits."""
        for question, times in self.parked.items():
            left = self.let_go.get(question, 0)
            if times != 1 or left > 1:
                yield f"{question} was asked {times} times, and came to an end {left} times"
            if question in self.answered and left != 1:
                yield f"{question} was answered, and came to an end {left} times"

    # --- what users asked for -----------------------------------------------------------------------------------------

    def _asked(self, command: Command, outcome: Outcome, settings: dict[int, UpdateQueue | UpdateTask]) -> None:
        if isinstance(command, SubmitTasks):
            self._expect(command.items)
        elif isinstance(command, CompleteTasks):
            for completion in command.items:
                self._expect(completion.tasks)
        elif isinstance(command, CreateSchedule | UpdateSchedule) and command.definition is not None:
            self._runs[command.schedule_id] = command.definition.task
        elif isinstance(command, UpdateQueue | UpdateTask):
            for item in outcome.items:
                # What changed nothing is answered with the revision of what did.
                settings.setdefault(item.revision, command)
        elif isinstance(command, ResumeTasks):
            for resumption, item in zip(command.items, outcome.items, strict=True):
                if item.refusal is None and resumption.name is not None:
                    self.answered[resumption.task_id, resumption.name] = None

    def _expect(self, new: Sequence[NewTask]) -> None:
        for task in new:
            self.tasks.setdefault(task.task_id, Known(task.queue, task.concurrency_key))

    # --- what came of it ----------------------------------------------------------------------------------------------

    def _follow(self, change: Change, settings: dict[int, UpdateQueue | UpdateTask]) -> Iterator[str]:
        command = settings.get(change.revision)
        if change.type == "queue.updated" and isinstance(command, UpdateQueue):
            limits = self.queues.setdefault(command.queue, Limits())
            for name in command.fields:
                if name != "rate_milli":
                    setattr(limits, name, getattr(command, name))
        elif change.type == "task.updated" and isinstance(command, UpdateTask) and "queue" in command.fields:
            self.tasks[change.resource_id].queue = str(command.queue)
        elif change.resource == "schedule":
            yield from self._follow_schedule(change)
        elif change.resource == "task" and change.data is not None and "to" in change.data:
            yield from self._follow_task(change, change.data)

    def _follow_schedule(self, change: Change) -> Iterator[str]:
        name, known = change.resource_id, change.resource_id in self._schedules
        if known == (change.type == "schedule.created"):
            yield f"revision {change.revision}: {change.type} {name}, which is {'' if known else 'not '}there"
        if change.type == "schedule.created":
            self._schedules[name] = None
        elif change.type == "schedule.deleted":
            self._schedules.pop(name, None)

    def _follow_task(self, change: Change, data: dict[str, Any]) -> Iterator[str]:
        task_id, before, to = change.resource_id, data.get("from"), data["to"]
        task = self._known(task_id)
        if task is None:
            yield f"revision {change.revision}: {task_id} {to}, and nobody asked for it"
            return
        if (before or "") != task.status:
            was = task.status or "not there"
            yield f"revision {change.revision}: {task_id} goes from {before} to {to}, and was {was}"
        if to in _HELD and not task.holds:
            yield from self._granted(change.revision, task_id, task)
        reason = str(data.get("reason") or "")
        if before == "running" and reason.startswith("event ") and to in ("waiting", "pending"):
            self._parks(task_id, task, reason.removeprefix("event "), answered=to == "pending")
        elif before == "waiting":
            question = (task_id, task.question)
            self.let_go[question] = self.let_go.get(question, 0) + 1
        task.holds = to in _HELD or (task.holds and to in _STOPPED)
        task.status = to

    def _known(self, task_id: str) -> Known | None:
        schedule_id, _, run = task_id.rpartition(":")
        if task_id not in self.tasks and run and schedule_id in self._runs:
            new = self._runs[schedule_id]
            self.tasks[task_id] = Known(new.queue, new.concurrency_key)
        return self.tasks.get(task_id)

    def _parks(self, task_id: str, task: Known, name: str, *, answered: bool) -> None:
        question = (task_id, name)
        task.question = name
        self.parked[question] = self.parked.get(question, 0) + 1
        if answered:
            self.let_go[question] = self.let_go.get(question, 0) + 1

    def _granted(self, revision: int, task_id: str, task: Known) -> Iterator[str]:
        limits = self.queues.get(task.queue, Limits())
        held = [other for other in self.tasks.values() if other.holds]
        in_queue = sum(other.queue == task.queue for other in held)
        with_key = sum(other.key == task.key for other in held)
        what = f"revision {revision}: {task_id} is granted"
        if limits.paused:
            yield f"{what}, and queue {task.queue} is paused"
        if limits.max_running is not None and in_queue >= limits.max_running:
            yield f"{what}, and {in_queue} of queue {task.queue} are held, of {limits.max_running} at most"
        if task.key is not None and with_key >= limits.max_running_per_key:
            yield f"{what}, and {with_key} under {task.key} are held, of {limits.max_running_per_key} at most"
