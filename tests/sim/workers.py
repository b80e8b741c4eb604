"""Agents that work: they poll any node, accept what they are offered, renew by heartbeat, and end their attempts.

A worker counts its lease from when it sent the call that began or renewed it, and stops a little earlier: its clock
need not run as the leader's does. What it believes is what `leases` judges the cluster by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from cluster.replica import CallFailedError, NotCommittedError, TooStaleError
from node.duties import agent_news
from node.duties.agent_news import AgentNews
from node.duties.messages import BeatAnswer, Running
from node.duties.poll import Call, StaleEpochError, UnknownAgentError
from statemachine import agent_record
from statemachine.commands import (
    AcceptTasks,
    Command,
    CompleteTasks,
    Completion,
    FailTasks,
    Failure,
    Held,
    NewTask,
    RegisterAgent,
    SubmitTasks,
)
from statemachine.outcome import Outcome
from tests.sim.coroutines import pass_time

if TYPE_CHECKING:
    from tests.sim.coroutines import ClientHost
    from tests.sim.member import Member
    from tests.sim.simulation import Simulation

DRIFT = 0.05
"""A worker believes in so much less of a lease: a node's clock may run 2 % fast."""

_POLL_MS = 1_000
_LEASES_MS = (1_500, 3_000)
_TRIES_MAX = 50

Said = tuple[BeatAnswer, AgentNews | None]


class NoAnswerError(Exception):
    """A node did not answer in time, or refused."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What a worker is like: how often it stops for a while, how long it works, how much of what it is offered it
    takes, how often it fails."""

    pauses: float = 0.04
    work_s: tuple[float, ...] = (0.1, 1.0, 6.0)
    accepts: float = 0.9
    fails: float = 0.2


@dataclass(slots=True)
class Job:
    """An attempt a worker holds, until a time of its own clock."""

    attempt: int
    until_s: float
    work: asyncio.Task[None] | None = None


async def _attend(member: Member, call: Call) -> Said:
    """A heartbeat as `node/api/heartbeat.py` answers it."""
    assert member.life is not None and member.life.edge is not None
    duties, replica = member.life.edge.duties, member.life.edge.replica
    attended = await duties.polls.attend(call)
    if attended.superseded:
        return attended.answer, None
    with replica.view() as view:
        agent = agent_record.find(view, call.agent_id)
        if agent is None:
            raise UnknownAgentError
        news = agent_news.read(view, agent, call.running, call.project)
    duties.polls.told(agent, news.keys())
    return attended.answer, news


class Worker:
    """One agent. `held`: what it believes to hold, by task. `nodes`: where it calls; None: everywhere."""

    def __init__(self, sim: Simulation, clients: ClientHost, agent_id: str, rng: Random) -> None:
        self._sim = sim
        self._clients = clients
        self._rng = rng
        self._epoch = 0
        self._number = 0
        self.habits = Habits()
        self.stopped = False
        self.nodes: list[Member] | None = None
        self.agent_id = agent_id
        self.held: dict[str, Job] = {}
        self._taken: set[tuple[str, int]] = set()

    def now_s(self) -> float:
        """True time: drift is in what it believes of a lease."""
        return self._sim.scheduler.now_s

    def believes(self, task_id: str, attempt: int) -> float:
        """Until when it believes to hold this attempt; 0 when it does not."""
        job = self.held.get(task_id)
        return job.until_s if job is not None and job.attempt == attempt else 0.0

    async def run(self, stop_s: float) -> None:
        """Poll, one node after the other, now and then with a pause that costs leases."""
        while self._epoch == 0:
            await self._register()
        while self.now_s() < stop_s and not self.stopped:
            try:
                await self._poll()
            except (NoAnswerError, UnknownAgentError, StaleEpochError):
                await pass_time(0.1 * self._rng.random())
            if self._rng.random() < self.habits.pauses:
                await pass_time(5 * self._rng.random())

    async def _register(self) -> None:
        outcomes = await self._write(RegisterAgent(self.agent_id, max_concurrent=3, instance_id="i"))
        if outcomes and outcomes[0].refusal is None:
            self._epoch = outcomes[0].items[0].numbers[0]

    # --- polls --------------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        self._drop_what_is_over()
        running = tuple(Running(task_id, job.attempt) for task_id, job in self.held.items())
        # With work at hand it asks again soon; a long poll renews at its begin and its end only.
        wait_ms = 300 if running else _POLL_MS
        call, sent_s = Call(self.agent_id, self._epoch, "default", wait_ms, None, running), self.now_s()
        answer, news = await self._ask(lambda member: _attend(member, call), wait_ms / 1000 + 0.5)
        for lease in answer.leases:
            job = self.held.get(lease.task_id)
            if lease.status == "running" and job is not None and job.attempt == lease.attempt:
                job.until_s = max(job.until_s, _until_s(sent_s, lease.remaining_ms))
                self._sim.leases.renewed(lease.task_id, lease.attempt, sent_s)
        if news is None:
            return
        for lost, _ in news.lost:
            self._drop(lost.task_id, lost.attempt)
        for offer in news.offers:
            if self._rng.random() < self.habits.accepts:
                await self._accept(offer.task_id, offer.attempt, offer.lease_ms)

    async def _accept(self, task_id: str, attempt: int, lease_ms: int) -> None:
        sent_s = self.now_s()
        outcomes = await self._write(AcceptTasks(self.agent_id, (Held(task_id, attempt),)))
        if (task_id, attempt) in self._taken:
            return  # an offer that was repeated meanwhile: it may even be over
        if outcomes and outcomes[0].refusal is None and outcomes[0].items[0].refusal is None:
            self._taken.add((task_id, attempt))
            job = self.held[task_id] = Job(attempt, _until_s(sent_s, lease_ms))
            job.work = asyncio.get_running_loop().create_task(self._work(task_id, job))

    async def _work(self, task_id: str, job: Job) -> None:
        """Work for a while, then say so, unless the lease is over."""
        await pass_time(self._rng.choice(self.habits.work_s) * self._rng.random())
        failure = Failure(task_id, job.attempt, "error", "as planned", retryable=True, usage=None, random=0)
        ends: Command = CompleteTasks(self.agent_id, (Completion(task_id, job.attempt, b"1"),))
        if self._rng.random() < self.habits.fails:
            ends = FailTasks(self.agent_id, (failure,))
        while job.until_s > self.now_s() and self.held.get(task_id) is job:
            # From here on it may be over at any time, so nothing is believed any more.
            self._drop(task_id, job.attempt)
            if await self._write(ends) is not None:
                return

    def _drop(self, task_id: str, attempt: int) -> None:
        job = self.held.get(task_id)
        if job is not None and job.attempt == attempt:
            del self.held[task_id]

    def _drop_what_is_over(self) -> None:
        for task_id, job in list(self.held.items()):
            if job.until_s <= self.now_s():
                self._drop(task_id, job.attempt)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _write(self, command: Command) -> list[Outcome] | None:
        self._number += 1
        future = asyncio.get_running_loop().create_future()

        def then(result: list[Outcome] | Exception) -> None:
            self._later(lambda: None if future.done() else future.set_result(result))

        member = self._somebody()
        if member is not None:
            self._sim.load.write(member, [(f"{self.agent_id}-{self._number}", command, None)], 1.0, then)
        try:
            async with asyncio.timeout(1.5):
                result = await future
        except TimeoutError:
            return None
        return None if isinstance(result, Exception) else result

    async def _ask(self, make: Callable[[Member], Coroutine[Any, Any, Said]], timeout_s: float) -> Said:
        """Have a node do something, over a network; cancel it there when its answer takes too long."""
        member = self._somebody()
        life = None if member is None else member.life
        if member is None or life is None or life.edge is None:
            raise NoAnswerError
        future, tasks, loop = asyncio.get_running_loop().create_future(), list[asyncio.Task[Said]](), life.edge.loop

        def begin() -> None:
            task = loop.create_task(make(member))
            tasks.append(task)
            task.add_done_callback(lambda done: self._later(lambda: _pass_on(done, future)))

        def cut() -> None:
            for task in tasks:
                task.cancel()

        self._sim.scheduler.after(self._delay_s(), lambda: life.run(begin))
        try:
            async with asyncio.timeout(timeout_s):
                return await future  # type: ignore[no-any-return]  # a future of what `make` gives
        except TimeoutError:
            life.run(cut)
            raise NoAnswerError from None
        except (CallFailedError, NotCommittedError, TooStaleError) as error:
            raise NoAnswerError from error

    def _later(self, action: Callable[[], None]) -> None:
        self._sim.scheduler.after(self._delay_s(), lambda: self._clients.run(action))

    def _delay_s(self) -> float:
        return self._sim.plan.delay_s * (0.5 + self._rng.random())

    def _somebody(self) -> Member | None:
        up = [member for member in self.nodes or self._sim.members if member.up]
        return self._rng.choice(up) if up else None


def _until_s(sent_s: float, left_ms: int) -> float:
    return sent_s + left_ms / 1000 * (1 - DRIFT)


def _pass_on(task: asyncio.Task[Said], future: asyncio.Future[Said]) -> None:
    if task.cancelled() or future.done():
        return
    error = task.exception()
    if error is None:
        future.set_result(task.result())
    else:
        future.set_exception(error)


class Fleet:
    """Some workers, and whoever gives them tasks with short leases."""

    def __init__(self, sim: Simulation, clients: ClientHost, rng: Random, stop_s: float) -> None:
        self._sim = sim
        self._clients = clients
        self._rng = rng
        self._stop_s = stop_s
        self._number = 0
        self.leases_s: dict[str, float] = {}
        self.workers = [
            Worker(sim, clients, f"worker{number}", Random(f"worker {number} {rng.random()}")) for number in range(3)
        ]

    def begin(self) -> None:
        """Everybody begins."""
        self._clients.run(self._begin)

    def _begin(self) -> None:
        loop = self._clients.loop
        for worker in self.workers:
            loop.create_task(worker.run(self._stop_s))
        loop.create_task(self._submit())

    async def _submit(self) -> None:
        while self._sim.scheduler.now_s < self._stop_s:
            await pass_time(self._rng.expovariate(1 / 0.3))
            up = [member for member in self._sim.members if member.up]
            if up:
                self._number += 1
                name, lease_ms = f"job{self._number}", self._rng.choice(_LEASES_MS)
                self.leases_s[name] = lease_ms / 1000
                task = NewTask(name, lease_ms=lease_ms, max_attempts=_TRIES_MAX)
                self._sim.load.write(self._rng.choice(up), [(name, SubmitTasks((task,)), None)], 2.0, lambda _: None)
