"""An agent as a worker plays it: polls one node after the other, accepts, works, reports, and fails in many ways."""

from __future__ import annotations

import asyncio

from cluster.replica import CallFailedError, NotCommittedError
from node.duties import agent_news
from node.duties.messages import Running
from node.duties.poll import Attended, Call, StaleEpochError, UnknownAgentError
from statemachine.commands import (
    AcceptTasks,
    Capability,
    CompleteTasks,
    Completion,
    FailTasks,
    Failure,
    Held,
    RegisterAgent,
    Release,
    ReleaseTasks,
)
from tests.node.duties.troubled_cluster import TroubledCluster

POLL_MS = 4_500


class TroubledAgent:
    """One agent; `silent_until_s` is when a pause of its process ends."""

    def __init__(self, cluster: TroubledCluster, agent_id: str, capabilities: tuple[str, ...], slots: int) -> None:
        self.cluster = cluster
        self.agent_id = agent_id
        self.capabilities = capabilities
        self.slots = slots
        self.epoch = 0
        self.running: dict[str, int] = {}
        self.instance = 0
        self.silent_until_s = 0.0
        self._work: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._pause(self.silent_until_s - self.cluster.clock.monotonic_s())
                if self.cluster.strikes() or self.epoch == 0:
                    self._register()
                try:
                    await self._poll()
                except (UnknownAgentError, StaleEpochError):
                    self.epoch = 0
                except (CallFailedError, NotCommittedError):
                    await self._pause(0.1)
        finally:
            for work in self._work:
                work.cancel()

    def _register(self) -> None:
        """Sometimes as a new process, which knows nothing of what it held."""
        self.instance += 1
        for work in self._work:
            work.cancel()
        self.running.clear()
        has = tuple(Capability(name) for name in self.capabilities)
        command = RegisterAgent(
            self.agent_id, capabilities=has, max_concurrent=self.slots, instance_id=f"i{self.instance}"
        )
        self.epoch = self.cluster.do(command).items[0].numbers[0]

    async def _poll(self) -> None:
        cluster = self.cluster
        duties = cluster.dice.choice(cluster.duties)
        running = tuple(Running(task_id, attempt) for task_id, attempt in self.running.items())
        call = Call(self.agent_id, self.epoch, "default", POLL_MS, None, running)
        attending = asyncio.ensure_future(duties.polls.attend(call))
        if cluster.strikes():
            # The connection breaks at some time; the agent asks elsewhere.
            broken_s = cluster.clock.monotonic_s() + cluster.dice.random() * 6
            cluster.clock.call_at(broken_s, lambda: _cut(attending))
        try:
            await attending
        except asyncio.CancelledError:
            if attending.cancelled() and not asyncio.current_task().cancelling():  # type: ignore[union-attr]  # it runs in one
                return
            raise
        if self.silent_until_s > cluster.clock.monotonic_s() or cluster.strikes():
            return
        self._hear(duties.polls)
        await self._pause(0.05)

    def _hear(self, polls: object) -> None:
        record = self.cluster.agent(self.agent_id)
        if record is None or record.epoch != self.epoch:
            return
        with self.cluster.members[0].view() as view:
            news = agent_news.read(view, record, (), "default")
        for task in news.offers:
            if self.cluster.strikes():
                self.cluster.do(ReleaseTasks(self.agent_id, (Release(task.task_id, task.attempt),)))
            elif not self.cluster.strikes():
                self._accept(task.task_id, task.attempt)
        for task in news.stopped:
            self.cluster.do(ReleaseTasks(self.agent_id, (Release(task.task_id, task.attempt),)))

    def _accept(self, task_id: str, attempt: int) -> None:
        outcome = self.cluster.do(AcceptTasks(self.agent_id, (Held(task_id, attempt),)))
        if outcome.items and outcome.items[0].status == 200 and self.running.get(task_id) != attempt:
            self.running[task_id] = attempt
            work = asyncio.ensure_future(self._do(task_id, attempt))
            self._work.add(work)
            work.add_done_callback(self._work.discard)

    async def _do(self, task_id: str, attempt: int) -> None:
        cluster = self.cluster
        await self._pause(cluster.dice.random() * 3)
        await self._pause(self.silent_until_s - cluster.clock.monotonic_s())
        self.running.pop(task_id, None)
        if cluster.strikes():
            return  # it forgot: the lease must run out
        if cluster.strikes():
            failure = Failure(task_id, attempt, "error", "broken", retryable=True, usage=None, random=0)
            cluster.do(FailTasks(self.agent_id, (failure,)))
        else:
            cluster.do(CompleteTasks(self.agent_id, (Completion(task_id, attempt),)))

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            over = asyncio.Event()
            timer = self.cluster.clock.call_at(self.cluster.clock.monotonic_s() + seconds, over.set)
            try:
                await over.wait()
            finally:
                timer.cancel()


def _cut(attending: asyncio.Future[Attended]) -> None:
    attending.cancel()
