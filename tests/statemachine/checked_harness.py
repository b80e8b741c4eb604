"""A harness that looks at what each single command did to the state, and whether it may have done that."""

from __future__ import annotations

from typing import NamedTuple

from statemachine import agent_record, commands, machine, queue_limits, queues, task_queries, task_record
from statemachine.changes import Change
from statemachine.commands import Command
from statemachine.entry import Frame
from statemachine.outcome import Outcome
from statemachine.task_record import Task
from statemachine.task_states import HELD, TaskState
from tests.statemachine.harness import Harness
from tests.statemachine.ledger import Ledger
from tests.statemachine.lock_model import LockModel

REPEATABLE = (
    commands.CompleteTasks,
    commands.FailTasks,
    commands.ReleaseTasks,
    commands.ParkTasks,
    commands.CancelTask,
    commands.UpdateTask,
    commands.UpdateQueue,
    commands.CreateSchedule,
    commands.PutBudget,
)
"""Sent again at once, these are answered as before, and change nothing."""

BY_BELIEF = (
    commands.WithdrawOffers,
    commands.ExpireLeases,
    commands.ExpireRuns,
    commands.ExpireTasks,
    commands.EndWaits,
    commands.RemoveEndedTasks,
)
"""A leader's decisions about tasks as it knew them."""

SHARED_REVISIONS = (commands.DoWork,)
"""Commands whose items do not name each revision that was taken."""


class Grants(NamedTuple):
    """When tasks of a queue were granted, Unix milliseconds, since its rate was set."""

    rate_milli: int
    times: list[int]


class CheckedHarness(Harness):
    """After each command: revisions are as promised, a refusal changed nothing, no grant exceeded a limit, and no
    attempt of a task's name was there before, not even of a task that was removed."""

    def __init__(self) -> None:
        super().__init__()
        self.highest: dict[tuple[str, str], int] = {}
        self.grants: dict[tuple[int, str], Grants] = {}
        self.all_changes: list[tuple[int, Change]] = []
        self.locks = LockModel()
        self.ledger = Ledger()

    def apply(self, *frames: Frame) -> tuple[Outcome, ...]:
        """One entry of these frames."""
        before, meta = self.content(), machine.read_meta(self.store)
        known = self.tasks()
        tasks = {key: (task.attempt, task.status) for key, task in known.items()}
        epochs = {agent.agent_id: agent.epoch for agent in agent_record.scan(self.store)}
        held = {(task.project, task.task_id, task.attempt) for _, task in task_queries.held(self.store)}
        outcomes = super().apply(*frames)
        for frame, outcome in zip(frames, outcomes, strict=True):
            check_beliefs(commands.decode(frame.number, frame.payload), outcome, tasks, epochs)
            self.check_outcome(commands.COMMANDS[frame.number], outcome, before, meta.revision)
        if len(frames) == 1:
            command = commands.decode(frames[0].number, frames[0].payload)
            self.ledger.follow(frames[0].project, command, outcomes[0], known, self.tasks())
        self.ledger.compare(self.store)
        now = machine.read_meta(self.store)
        self.locks.follow(self.changes)
        self.all_changes.extend((now.revision, change) for change in self.changes)
        assert now.time_ms == max(meta.time_ms, self.time_ms)
        granted = [task for _, task in task_queries.held(self.store) if task.status in HELD]
        granted = [task for task in granted if (task.project, task.task_id, task.attempt) not in held]
        for task in granted:
            later = {other.number for other in granted if other.revision > task.revision}
            self.check_grant(task, later, now.time_ms)
        return outcomes

    def tasks(self) -> dict[tuple[str, str], Task]:
        """All tasks by project and id."""
        found = (task_record.decode(data) for _, data in self.store.scan(b"T", b"U"))
        return {(task.project, task.task_id): task for task in found}

    def check_outcome(
        self, kind: type[Command], outcome: Outcome, before: dict[bytes, bytes], revision_before: int
    ) -> None:
        revision = machine.read_meta(self.store).revision
        taken = {item.revision for item in outcome.items if item.refusal is None and item.revision > revision_before}
        if kind not in SHARED_REVISIONS:
            assert taken == set(range(revision_before + 1, revision + 1)), (kind, outcome, revision_before, revision)
        if outcome.refusal is not None or not any(item.status for item in outcome.items):
            assert revision == revision_before
            assert self.content() == before

    def check_grant(self, task: Task, later: set[int], time_ms: int) -> None:
        place = task.project, task.task_id
        assert task.attempt > self.highest.get(place, 0), "an attempt is granted once, also under a name used again"
        self.highest[place] = task.attempt
        queue = queues.get(self.store, task.project_no, task.queue)
        assert queue is not None
        assert not queue.paused
        assert queue.max_running is None or queue.held <= queue.max_running
        if task.concurrency_key is not None:
            # Each queue says for itself how many of a key it lets run: those that were granted after it do not count.
            holders = set(queue_limits.held_with_key(self.store, task.project_no, task.concurrency_key)) - later
            assert len(holders) <= queue.max_running_per_key
        self.check_rate(queue, time_ms)

    def check_rate(self, queue: queues.Queue, time_ms: int) -> None:
        """Over any time at most what the rate allows, and the burst."""
        place = queue.project_no, queue.queue
        if queue.rate_milli is None:
            self.grants.pop(place, None)
            return
        known = self.grants.get(place)
        if known is None or known.rate_milli != queue.rate_milli:
            known = self.grants[place] = Grants(queue.rate_milli, [])
        known.times.append(time_ms)
        burst = max(1, queue.rate_milli // 1000)
        for position, since_ms in enumerate(known.times):
            count = len(known.times) - position
            assert count <= burst + queue.rate_milli * (time_ms - since_ms) // 1_000_000

    def rate_was_set(self, project_no: int, queue: str) -> None:
        """A new rate begins with a full bucket."""
        self.grants.pop((project_no, queue), None)

    def again(self, project: str, command: Command, outcome: Outcome) -> None:
        """A client that got no answer asks once more."""
        if not isinstance(command, REPEATABLE):
            return
        before = self.content()
        repeated = self.do(command, project=project)
        assert self.content() == before
        assert (repeated.refusal is None) == (outcome.refusal is None)
        for first, second in zip(outcome.items, repeated.items, strict=True):
            assert (first.resource_id, first.revision) == (second.resource_id, second.revision)
            assert (first.refusal is None) == (second.refusal is None)


def check_beliefs(
    command: Command,
    outcome: Outcome,
    tasks: dict[tuple[str, str], tuple[int, TaskState]],
    epochs: dict[str, int],
) -> None:
    """What a leader decided happened only where it knew the task and the agent as they were."""
    if isinstance(command, commands.OfferTasks):
        for offer, item in zip(command.items, outcome.items, strict=True):
            if item.status:
                assert tasks[offer.project, offer.task_id] == (offer.attempt, TaskState.PENDING)
                assert epochs[offer.agent_id] == offer.epoch
    elif isinstance(command, BY_BELIEF):
        for believed, item in zip(command.items, outcome.items, strict=True):
            if item.status:
                assert tasks[believed.project, believed.task_id] == (believed.attempt, believed.status)
