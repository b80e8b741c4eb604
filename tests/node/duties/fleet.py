"""A node's duties over a replica in memory and a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.local import LocalReplica
from node.duties.clock import ManualClock, settle
from node.duties.duties import Duties
from node.duties.frames import frame
from node.duties.messages import Running
from node.duties.poll import Attended, Call
from node.duties.settings import DutySettings
from statemachine import agent_record, audit, task_record
from statemachine.agent_record import Agent
from statemachine.commands import (
    AcceptTasks,
    Capability,
    ClaimTasks,
    Command,
    CompleteTasks,
    Completion,
    FailTasks,
    Failure,
    Held,
    NewTask,
    RegisterAgent,
    Release,
    ReleaseTasks,
    SubmitTasks,
)
from statemachine.outcome import Item
from statemachine.task_record import Task


class FleetTest:
    """What the tests of this folder do to a fleet."""

    def __init__(self, settings: DutySettings | None = None) -> None:
        self.clock = ManualClock()
        self.replica = LocalReplica(self.clock.now_ms)
        self.settings = settings or DutySettings()
        self.duties = Duties(self.replica, self.clock, self.settings)

    # --- commands ---------------------------------------------------------------------------------------------------

    def do(self, command: Command, project: str = "default") -> tuple[Item, ...]:
        """Commit a command that must be accepted."""
        (outcome,) = self.replica.apply([frame(command, project)])
        assert outcome.refusal is None, outcome.refusal
        return outcome.items

    def try_do(self, command: Command) -> None:
        """Commit a command that may be refused."""
        self.replica.apply([frame(command, "default")])

    def epoch(self, agent_id: str) -> int:
        """The agent's epoch; 0 when it is not registered."""
        with self.replica.view() as view:
            agent = agent_record.find(view, agent_id)
        return 0 if agent is None else agent.epoch

    def register(self, agent_id: str, *capabilities: tuple[str, int], slots: int = 1, instance: str = "i") -> int:
        """Register an agent -> its epoch."""
        has = tuple(Capability(*capability) for capability in capabilities)
        command = RegisterAgent(agent_id, capabilities=has, max_concurrent=slots, instance_id=instance)
        return self.do(command)[0].numbers[0]

    def submit(self, *task_ids: str, **fields: object) -> None:
        """Submit tasks."""
        self.do(SubmitTasks(tuple(NewTask(task_id, **fields) for task_id in task_ids)))  # type: ignore[arg-type]  # a test's shorthand

    def claim(self, agent_id: str, task_id: str, lease_ms: int | None = None) -> int:
        """Claim by name -> the attempt."""
        return self.do(ClaimTasks(agent_id, self.agent(agent_id).epoch, (task_id,), True, lease_ms))[0].numbers[0]

    def accept(self, agent_id: str, task_id: str) -> None:
        """Accept the offer of the task."""
        self.verb(AcceptTasks(agent_id, (Held(task_id, self.task(task_id).attempt),)))

    def complete(self, agent_id: str, task_id: str) -> None:
        """Complete the task."""
        self.verb(CompleteTasks(agent_id, (Completion(task_id, self.task(task_id).attempt),)))

    def fail(self, agent_id: str, task_id: str) -> None:
        """Fail the attempt."""
        failure = Failure(task_id, self.task(task_id).attempt, "error", "broken", retryable=True, usage=None, random=0)
        self.verb(FailTasks(agent_id, (failure,)))

    def release(self, agent_id: str, task_id: str) -> None:
        """Give the task back, decline its offer, or confirm its end."""
        self.verb(ReleaseTasks(agent_id, (Release(task_id, self.task(task_id).attempt),)))

    def verb(self, command: Command) -> None:
        """A verb whose every item must be accepted."""
        assert all(item.refusal is None for item in self.do(command))

    # --- what is there ----------------------------------------------------------------------------------------------

    def task(self, task_id: str) -> Task:
        """The task's record."""
        with self.replica.view() as view:
            task = task_record.find(view, 1, task_id)
        assert task is not None
        return task

    def status(self, task_id: str) -> str:
        """The task's status."""
        return str(self.task(task_id).status)

    def agent(self, agent_id: str) -> Agent:
        """The agent's record."""
        with self.replica.view() as view:
            agent = agent_record.find(view, agent_id)
        assert agent is not None
        return agent

    def liveness(self, agent_id: str) -> str:
        """The agent's replicated liveness."""
        return self.agent(agent_id).liveness

    # --- heartbeats -------------------------------------------------------------------------------------------------

    def call(self, agent_id: str, wait_ms: int = 0, running: tuple[Running, ...] = ()) -> Call:
        """A heartbeat."""
        return Call(agent_id, self.agent(agent_id).epoch, "default", wait_ms, None, running)

    async def beat(self, agent_id: str, *running: Running) -> Attended:
        """A heartbeat that does not wait."""
        return await self.duties.polls.attend(self.call(agent_id, 0, running))

    async def poll(self, agent_id: str, *running: Running, wait_ms: int = 60_000) -> asyncio.Task[Attended]:
        """Open a long-poll."""
        task = asyncio.create_task(self.duties.polls.attend(self.call(agent_id, wait_ms, running)))
        await settle()
        return task

    def audit(self) -> None:
        """The state's invariants hold."""
        assert audit.audit(self.replica.store) == []


@asynccontextmanager
async def fleet(settings: DutySettings | None = None) -> AsyncIterator[FleetTest]:
    """A fleet for one test; the state's invariants are checked at the end."""
    test = FleetTest(settings)
    try:
        yield test
        test.audit()
    finally:
        test.duties.close()
        await settle()
