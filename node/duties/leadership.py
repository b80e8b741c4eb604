"""One term of leadership at work: memory, and the duties that propose what it, the state and time call for."""

from __future__ import annotations

import asyncio
import logging

from cluster.replica import NotCommittedError, Notice, OutcomeUnknownError, Replica
from node.duties import expiry, timers
from node.duties.bidders import Bidders, Demand
from node.duties.clock import Clock
from node.duties.dispatch import Dispatcher
from node.duties.fleet import AgentMemory
from node.duties.frames import frame
from node.duties.lanes import PendingTask
from node.duties.leader_memory import LeaderMemory
from node.duties.lease_clock import LeaseClock
from node.duties.poll_ends import PollEnds
from node.duties.promises import Promises
from node.duties.pump import Pump, Step
from node.duties.retention import Retention
from node.duties.schedules import ScheduleRuns
from node.duties.settings import DutySettings
from statemachine import agent_record
from statemachine.commands import Offer, OfferTasks
from statemachine.outcome import Outcome

_log = logging.getLogger("hive.duties")

PROPOSE_TIMEOUT_S = 5.0
BUILT_AT_ONCE = 4
"""Steps of reading the state before others get their turn: all of it, unless the fleet is large."""
_READ = object()


class Leadership:
    """Starts to work when made, stops at once when closed. Nothing in here outlives its term."""

    def __init__(self, replica: Replica, clock: Clock, settings: DutySettings) -> None:
        self._replica = replica
        self._term = replica.term
        self._clock = clock
        self._settings = settings
        self._lease_clock = LeaseClock(clock, replica, settings, self._on_tick)
        self.poll_ends = PollEnds(clock)
        self.memory = LeaderMemory(replica.view, self._lease_clock, settings, at_once=False)
        self._built = asyncio.Event()
        self._building = self.memory.build()
        self._dispatcher = Dispatcher(self.memory.pending, self.memory.fleet, self.memory.affinity, settings)
        self._wanted: dict[str, str] = {}
        self._claims: dict[Demand, None] = {}
        self._promises = Promises(self.memory.holdings)
        self._bidders = Bidders(self.memory.fleet, self._promises, self.memory.budgets)
        self._offers_rest_until_s = 0.0
        self._closed = False
        self._dispatch = self._pump("dispatch", self._dispatch_step, settings.offers_under_way_max)
        self._expire = self._pump("expire", self._expire_step)
        self._timers = self._pump("timers", self._timers_step)
        self._liveness = self._pump("liveness", self._liveness_step)
        self._retention = Retention(settings)
        self._build = self._pump("build", self._build_step)
        if not self._build_some(BUILT_AT_ONCE):
            self._build.wake()
        self._take_settings()
        self._remove = self._pump("retention", self._remove_step)
        self._schedules = self._pump("schedules", ScheduleRuns(replica, self._propose, settings.retry_ms).step)
        self._lease_clock.start()
        self._timers.wake()
        self._schedules.wake()
        self._remove.wake_at(clock.monotonic_s() + settings.retention_interval_ms / 1000)

    def _pump(self, name: str, step: Step, runs_max: int = 1) -> Pump:
        return Pump(name, self._clock, step, retry_ms=self._settings.retry_ms, runs_max=runs_max)

    @property
    def believable(self) -> bool:
        """Whether this memory may be answered from."""
        return self._built.is_set() and self._lease_clock.believable

    async def built(self) -> None:
        """Wait until the memory is whole, or the term over."""
        if not self._built.is_set():
            await self._built.wait()

    def _build_some(self, steps: int) -> bool:
        """Go on reading the state. Whether all of it was read."""
        for _ in range(steps):
            if next(self._building, _READ) is _READ:
                self._built.set()
                extra = {"term": self._term, "agents": len(self.memory.fleet), "held_tasks": len(self.memory.holdings)}
                _log.info("memory of the leader is whole", extra=extra)
                return True
        return False

    async def _build_step(self) -> float | None:
        try:
            if not self._build_some(1):
                return 0
        except BaseException:
            self._building = self.memory.build()
            raise
        self.work_changed()
        return None

    def close(self) -> None:
        """The term is over."""
        self._closed = True
        self._lease_clock.stop()
        self._built.set()
        pumps = self._build, self._dispatch, self._expire, self._timers, self._liveness, self._schedules, self._remove
        for pump in pumps:
            pump.close()
        for demand in list(self._claims):
            self._answer(demand)
        self.poll_ends.close()

    # --- what wakes the duties --------------------------------------------------------------------------------------

    def on_notice(self, notice: Notice) -> None:
        """An entry was applied here."""
        memory = self.memory
        memory.follow(notice)
        while memory.revived:
            _, agent = memory.revived.popitem()
            self.want(agent, agent_record.ONLINE)
        if notice.changes or notice.gap:
            self.work_changed()
            self._timers.wake()
        if memory.settings_changed:
            self._take_settings()
        if memory.schedules_changed or notice.gap:
            memory.schedules_changed = False
            self._schedules.wake()

    def _take_settings(self) -> None:
        self.memory.settings_changed = False
        self._dispatcher.settings = self._retention.settings = self.memory.settings
        self._bidders.weigh_anew()

    def _on_tick(self) -> None:
        # While no majority confirms this leader the lease clock stands still, so nothing new is due; the duties that
        # would propose look at that again.
        memory = self.memory
        if not self._built.is_set():
            return
        for agent in expiry.silent(memory):
            self.want(agent, agent_record.OFFLINE)
        for agent in (*expiry.on_probation(memory, self._settings), *expiry.returned(memory)):
            self.want(agent, agent_record.ONLINE)
        if memory.holdings.any_due(self._lease_clock.now_s()):
            self._expire.wake()
        memory.pending.lapse(self._lease_clock.now_s())
        memory.pending.fairness.forget_idle()
        if memory.fleet.warm_up(self._lease_clock.now_s()):
            self.work_changed()
        # Beside what was reserved in vain, agents that were avoided for a while may be offered a task again. Also when
        # nobody asks for any: what was heard of agents is taken in by a pass, or would be remembered for ever.
        self._dispatch.wake()

    def work_changed(self) -> None:
        """Tasks, slots or listeners changed: somebody may get something."""
        if self._claims or self.memory.fleet.anyone_listening:
            self._dispatch.wake()

    def want(self, agent: AgentMemory, liveness: str) -> None:
        """An agent became something else."""
        if agent.liveness == liveness:
            self._wanted.pop(agent.agent_id, None)
        else:
            self._wanted[agent.agent_id] = liveness
            self._liveness.wake()

    # --- the duties -------------------------------------------------------------------------------------------------

    async def _dispatch_step(self) -> float | None:
        memory, settings, now_s = self.memory, self._settings, self._clock.monotonic_s()
        if not self.believable:
            return settings.retry_ms / 1000
        if now_s < self._offers_rest_until_s:
            return self._offers_rest_until_s - now_s
        memory.learn()
        for gone in self._bidders.begin(self._lease_clock.now_s()):
            self._answer(gone)
        matched = self._match(self._bidders)
        # Claims look for tasks too while offers are under way, so this must be asked before.
        more = memory.pending.unfinished or len(matched) >= settings.offers_per_batch or self._bidders.behind
        opens_s = memory.gate.wait_s()
        for demand in dict.fromkeys(demand for _, demand in matched if demand.claims):
            self._answer(demand)
        offers = [(task, demand.agent) for task, demand in matched if not demand.claims]
        if not offers:
            return 0 if more else opens_s
        if more:
            # Not only when these have been decided: what is under way is reserved and promised.
            self._dispatch.wake()
        elif opens_s is not None:
            self._dispatch.wake_at(now_s + opens_s)
        return await self._offer(offers)

    def _match(self, bidders: Bidders) -> list[tuple[PendingTask, Demand]]:
        claimed_until_s = self._lease_clock.now_s() + self._settings.reservation_ms / 1000
        return self._dispatcher.match(
            bidders,
            now_ms=self._replica.now_ms(),
            now_s=self._lease_clock.now_s(),
            claimed_until_s=claimed_until_s,
            # Longer than its proposal is waited for: until then it is promised to somebody.
            offered_until_s=claimed_until_s + PROPOSE_TIMEOUT_S,
            tasks_max=self._settings.offers_per_batch,
        )

    async def _offer(self, offers: list[tuple[PendingTask, AgentMemory]]) -> float | None:
        """Propose offers. What is passed over shows that memory erred: it is read anew, and soon looked at again."""
        items = tuple(
            Offer(task.key[1], task.key[0], task.attempt, agent.agent_id, agent.epoch) for task, agent in offers
        )
        try:
            outcomes = await self._propose([frame(OfferTasks(items, self.memory.settings.offer_timeout_ms))])
        except (NotCommittedError, OutcomeUnknownError):
            # Whoever is woken meanwhile would only be refused as well.
            self._offers_rest_until_s = self._clock.monotonic_s() + self._settings.retry_ms / 1000
            raise
        finally:
            # What was accepted is pending no more, and held; the rest can be had again.
            for task, _ in offers:
                self.memory.pending.unreserve(task)
            self._bidders.decided(offers)
        results = outcomes[0].items
        if len(results) != len(offers):
            return self._settings.retry_ms / 1000
        passed = [offer for offer, item in zip(offers, results, strict=True) if item.status == 0]
        self.memory.refresh([task.key for task, _ in passed], [agent.agent_id for _, agent in passed])
        if len(passed) == len(offers):
            return self._settings.retry_ms / 1000
        return 0 if passed else None

    async def _expire_step(self) -> float | None:
        if not self.believable:
            return self._settings.retry_ms / 1000
        expired = expiry.take_expired(self.memory, self._settings.expired_per_batch)
        frames = expired.frames()
        if not frames:
            return None
        decided = False
        try:
            outcomes = await self._propose(frames)
            decided = True
        except NotCommittedError:
            decided = True
            raise
        finally:
            expiry.put_back(self.memory, expired, decided=decided)
        withdrawn, passed = expired.split(outcomes)
        self.memory.refresh([holding.key for holding in passed], ())
        for agent in expiry.count_misses(self.memory, withdrawn, self._settings):
            self.want(agent, agent_record.UNRESPONSIVE)
        return None

    async def _timers_step(self) -> float | None:
        now_ms = self._replica.now_ms()
        with self._replica.view() as view:
            frames = timers.due_frames(view, now_ms, self._settings.expired_per_batch)
            due_ms = timers.next_due_ms(view)
        if not frames:
            return None if due_ms is None else max(due_ms - now_ms, 1) / 1000
        await self._propose(frames)
        with self._replica.view() as view:
            due_ms = timers.next_due_ms(view)
        if due_ms is None:
            return None
        wait_ms = due_ms - now_ms
        if due_ms and wait_ms <= 0:
            # The entry's time may be a little behind this clock: what it left is due again in a moment, not at once.
            return self._settings.retry_ms / 1000
        return max(wait_ms, 0) / 1000

    async def _remove_step(self) -> float | None:
        with self._replica.view() as view:
            batch = self._retention.next(view, self._replica.now_ms())
        if batch.frames:
            await self._propose(batch.frames)
        return (self._settings.retention_pause_ms if batch.again_ms is None else batch.again_ms) / 1000

    async def _liveness_step(self) -> float | None:
        if not self.believable:
            return self._settings.retry_ms / 1000
        wanted, self._wanted = self._wanted, {}
        frames = expiry.liveness_frames(self.memory, wanted)
        if frames:
            try:
                await self._propose(frames)
            except (NotCommittedError, OutcomeUnknownError):
                self._wanted = {**wanted, **self._wanted}
                raise
        return None

    async def _propose(self, frames: list[bytes]) -> list[Outcome]:
        # BY MEMORY, so in this term only: a proposal that found no majority must not reach the next leader, under whom
        # what it expires was renewed.
        return await self._replica.propose(frames, PROPOSE_TIMEOUT_S, self._term)

    # --- claims -----------------------------------------------------------------------------------------------------

    async def claim(self, demand: Demand, wait_s: float) -> tuple[str, ...]:
        """Ids of tasks that are kept for this demand for a moment; waits for them up to `wait_s`."""
        alone = Bidders(self.memory.fleet, self._promises, self.memory.budgets)
        alone.add(demand)
        while not self._closed:
            self._match(alone)
            if demand.taken or not self.memory.pending.unfinished:
                break
            await asyncio.sleep(0)
        if not demand.taken and wait_s > 0 and not self._closed:
            return await self._wait_for_work(demand, wait_s)
        return tuple(task.key[1] for task in demand.taken)

    async def _wait_for_work(self, demand: Demand, wait_s: float) -> tuple[str, ...]:
        answer: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        demand.answer = answer
        self._claims[demand] = None
        self._bidders.add(demand)
        timer = self._clock.call_at(self._clock.monotonic_s() + wait_s, lambda: self._answer(demand))
        opens_s = self.memory.gate.wait_s()
        if opens_s is not None:
            self._dispatch.wake_at(self._clock.monotonic_s() + opens_s)
        try:
            return await answer
        finally:
            timer.cancel()
            self._forget_claim(demand)

    @property
    def claims_waiting(self) -> int:
        """How many claims wait for work."""
        return len(self._claims)

    def _forget_claim(self, demand: Demand) -> None:
        self._claims.pop(demand, None)
        self._bidders.remove(demand)

    def _answer(self, demand: Demand) -> None:
        self._forget_claim(demand)
        if demand.answer is not None and not demand.answer.done():
            demand.answer.set_result(tuple(task.key[1] for task in demand.taken))
        else:
            for task in demand.taken:
                self.memory.pending.unreserve(task)
