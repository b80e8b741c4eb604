"""A state machine in memory with a clock that tests set: commands go through `machine.apply`, one entry each."""

from __future__ import annotations

import msgspec

from statemachine import agent_record, commands, machine, projects, task_record
from statemachine.agent_record import Agent
from statemachine.audit import audit
from statemachine.changes import Change
from statemachine.commands import Believed, Command, Completion, Failure, Held, NewTask, Release
from statemachine.entry import FLAG_CREATE_PROJECT, Batch, Fence, Frame, Header, Idempotency
from statemachine.machine import Applied
from statemachine.outcome import Item, Outcome, Refusal
from statemachine.store import MemoryStore
from statemachine.task_record import Task

START_MS = 1_700_000_000_000


class Harness:
    """`do` applies commands; short forms for the everyday ones stand below it. `changes` are those of the
    last entry.
    """

    def __init__(self, project: str = "default") -> None:
        self.store = MemoryStore()
        self.time_ms = START_MS
        self.project = project
        self.entries = 0
        self.changes: tuple[Change, ...] = ()
        self.applied: Applied | None = None

    def frame(
        self,
        command: Command,
        *,
        project: str | None = None,
        key: Idempotency | None = None,
        fence: Fence | None = None,
    ) -> Frame:
        """A command as the edge would send it."""
        number = commands.NUMBERS[type(command)]
        scope = self.project if project is None else project
        if project is None and type(command) in commands.CLUSTER_SCOPED:
            scope = ""
        payload = msgspec.Raw(commands.encode(command))
        return Frame(number, 1, scope, "user:test", "req", key, fence, 0, FLAG_CREATE_PROJECT, payload)

    def apply(self, *frames: Frame) -> tuple[Outcome, ...]:
        """One entry of these frames."""
        self.entries += 1
        applied = machine.apply(self.store, Header(self.time_ms, 1), [Batch(1, self.entries, frames)])
        assert applied.internal_errors == (), applied.internal_errors
        self.store.apply(applied.writes)
        self.changes = applied.changes
        self.applied = applied
        return applied.outcomes[0]

    def do(self, command: Command, *, project: str | None = None, fence: Fence | None = None) -> Outcome:
        """One entry with one command."""
        return self.apply(self.frame(command, project=project, fence=fence))[0]

    def item(self, command: Command, *, project: str | None = None) -> Item:
        """The only item of a command that was accepted."""
        outcome = self.do(command, project=project)
        assert outcome.refusal is None, outcome.refusal
        assert len(outcome.items) == 1
        item = outcome.items[0]
        assert item.refusal is None, item.refusal
        return item

    def refusal(self, command: Command, *, project: str | None = None, fence: Fence | None = None) -> Refusal:
        """The refusal of a command (or of its only item), after checking that nothing changed."""
        before = self.content()
        outcome = self.do(command, project=project, fence=fence)
        refusal = outcome.refusal or outcome.items[0].refusal
        assert refusal is not None, outcome
        assert self.content() == before
        return refusal

    def content(self) -> dict[bytes, bytes]:
        """The whole state but the meta record and the empty default project."""
        return {key: value for key, value in self.store.scan(b"\x00", b"\xff") if key[:1] not in b"MPp"}

    def advance(self, by_ms: int) -> None:
        """Move the clock."""
        self.time_ms += by_ms

    def check(self) -> None:
        """The state has no fault."""
        assert audit(self.store) == []

    def project_no(self, project: str | None = None) -> int:
        """The number of a project that exists."""
        found = projects.find(self.store, project or self.project)
        assert found is not None
        return found.number

    def task(self, task_id: str, project: str | None = None) -> Task:
        """A task that exists, with its bodies."""
        task = task_record.find(self.store, self.project_no(project), task_id)
        assert task is not None
        return task_record.with_bodies(self.store, task)

    def agent(self, agent_id: str) -> Agent:
        """An agent that exists."""
        agent = agent_record.find(self.store, agent_id)
        assert agent is not None
        return agent

    def register(self, agent_id: str = "a1", slots: int = 1, instance: str | None = None, **fields: object) -> int:
        """Register an agent -> its epoch."""
        command = commands.RegisterAgent(
            agent_id,
            max_concurrent=slots,
            instance_id=instance,
            projects=("*",),
        )
        return self.item(msgspec.structs.replace(command, **fields)).numbers[0]

    def submit(self, task_id: str = "t1", **fields: object) -> Item:
        """Submit one task."""
        new = msgspec.structs.replace(NewTask(task_id), **fields)
        return self.item(commands.SubmitTasks((new,)))

    def claim(self, task_id: str = "t1", agent_id: str = "a1", *, named: bool = True) -> int:
        """Claim a task -> the attempt."""
        epoch = self.agent(agent_id).epoch
        return self.item(commands.ClaimTasks(agent_id, epoch, (task_id,), named=named)).numbers[0]

    def offer(self, task_id: str = "t1", agent_id: str = "a1") -> int:
        """Offer a task as the leader would -> the attempt, 0 when it was passed over."""
        task, agent = self.task(task_id), self.agent(agent_id)
        offer = commands.Offer(task_id, task.project, task.attempt, agent_id, agent.epoch)
        numbers = self.item(commands.OfferTasks((offer,))).numbers
        return numbers[0] if numbers else 0

    def accept(self, task_id: str, agent_id: str, attempt: int) -> Outcome:
        """Accept an offer."""
        return self.do(commands.AcceptTasks(agent_id, (Held(task_id, attempt),)))

    def complete(self, task_id: str, agent_id: str, attempt: int, result: bytes | None = None) -> Outcome:
        """Complete an attempt."""
        return self.do(commands.CompleteTasks(agent_id, (Completion(task_id, attempt, result),)))

    def fail(self, task_id: str, agent_id: str, attempt: int, *, retryable: bool = True) -> Outcome:
        """Fail an attempt."""
        failure = Failure(task_id, attempt, "error", "broke", retryable, None, 1 << 31)
        return self.do(commands.FailTasks(agent_id, (failure,)))

    def release(self, task_id: str, agent_id: str, attempt: int) -> Outcome:
        """Give an attempt back."""
        return self.do(commands.ReleaseTasks(agent_id, (Release(task_id, attempt),)))

    def believed(self, task_id: str = "t1") -> Believed:
        """A task as a leader that just looked believes it to be."""
        task = self.task(task_id)
        return Believed(task_id, task.project, task.attempt, task.status)

    def run(self, task_id: str = "t1", agent_id: str = "a1") -> None:
        """Claim and complete a task."""
        attempt = self.claim(task_id, agent_id)
        (item,) = self.complete(task_id, agent_id, attempt).items
        assert item.refusal is None, item.refusal
