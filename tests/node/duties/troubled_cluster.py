"""Three nodes' duties over one log, a clock that only the test moves, and everything that can go wrong between them.

What is replicated is shared, so nodes never disagree; what is told to listeners, called, and proposed may be late, lost
or unknown while `trouble` is above zero.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from cluster.local import LocalReplica
from cluster.replica import CallFailedError, NotCommittedError, OutcomeUnknownError
from node.duties.clock import ManualClock
from node.duties.duties import Duties
from node.duties.frames import frame
from node.duties.settings import DutySettings
from statemachine import agent_record, task_record
from statemachine.agent_record import Agent
from statemachine.commands import Command
from statemachine.outcome import Outcome
from statemachine.store import MemoryStore
from statemachine.task_record import Task

PROJECT = 1


class Member(LocalReplica):
    """One node's replica: what it applies, all members hear."""

    def __init__(self, cluster: TroubledCluster, node_id: str) -> None:
        super().__init__(cluster.clock.now_ms, node_id)
        self.cluster = cluster
        self.store = cluster.store
        self.is_leader = False
        self.sure = True

    def leadership_confirmed_s(self) -> float | None:
        return (0.0 if self.sure else 60.0) if self.is_leader else None

    async def propose(self, frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
        cluster = self.cluster
        if cluster.leader is None or cluster.strikes():
            raise NotCommittedError("no_leader", "trouble")
        if cluster.strikes():
            raise OutcomeUnknownError("trouble, not applied")
        outcomes = cluster.commit(frames)
        if cluster.strikes():
            raise OutcomeUnknownError("trouble, applied")
        return outcomes

    async def read_barrier(self, timeout_s: float) -> None:
        if self.cluster.leader is None:
            raise NotCommittedError("no_leader", "trouble")

    async def call_leader(self, service: str, request: bytes, timeout_s: float) -> bytes:
        cluster = self.cluster
        leader = cluster.leader
        if leader is None or cluster.strikes():
            raise CallFailedError("trouble, not asked")
        reply = await leader._services[service](self.node_id, request)
        if leader is not cluster.leader or cluster.strikes():
            raise CallFailedError("trouble, asked")
        return reply


class TroubledCluster:
    """The cluster. `trouble` is how likely each step of communication fails."""

    def __init__(self, seed: int, settings: DutySettings) -> None:
        self.dice = random.Random(seed)
        self.clock = ManualClock()
        self.settings = settings
        self.store = MemoryStore()
        self.trouble = 0.0
        self.term = 1
        self.leader: Member | None = None
        self._log = LocalReplica(self.clock.now_ms)
        self._log.store = self.store
        self.members = [Member(self, f"n{number}") for number in range(3)]
        self.duties = [Duties(member, self.clock, settings) for member in self.members]
        self._log.subscribe(self._tell)

    def strikes(self) -> bool:
        """Whether this step fails."""
        return self.trouble > 0 and self.dice.random() < self.trouble

    def commit(self, frames: Sequence[bytes]) -> list[Outcome]:
        """Apply one entry."""
        return self._log.apply(frames)

    def _tell(self, notice: object) -> None:
        for member in self.members:
            for listener in tuple(member._listeners):
                listener(notice)  # type: ignore[arg-type]  # a notice of the log

    def do(self, command: Command) -> Outcome:
        """Commit a command of a user or an agent."""
        (outcome,) = self.commit([frame(command, "default")])
        return outcome

    def elect(self, number: int | None) -> None:
        """Another leader, or none (None)."""
        self.term += 1
        self.leader = None if number is None else self.members[number]
        for member in self.members:
            member.term, member.is_leader, member.sure = self.term, member is self.leader, True
            member._tell_role()

    def restart(self, number: int) -> None:
        """A node stops and starts anew: nothing it remembered is left."""
        self.duties[number].close()
        leads = self.leader is self.members[number]
        self.members[number] = member = Member(self, f"n{number}")
        member.term = self.term
        self.duties[number] = Duties(member, self.clock, self.settings)
        if leads:
            self.elect(None)

    def task(self, task_id: str) -> Task:
        """The task's record."""
        with self._log.view() as view:
            task = task_record.find(view, PROJECT, task_id)
        assert task is not None
        return task

    def agent(self, agent_id: str) -> Agent | None:
        """The agent's record."""
        with self._log.view() as view:
            return agent_record.find(view, agent_id)

    def close(self) -> None:
        """End all duties."""
        for duties in self.duties:
            duties.close()
