"""Heartbeat long-polls of the agents that call this node.

A poll is opened at the leader, so that offers go to whoever listens, and waits here for what this node's own state
shows of the agent: every offer, cancellation and loss is a replicated change. One agent has one poll; a newer one
ends it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from msgspec.structs import replace

from cluster.replica import CallFailedError, NotCommittedError, Notice, Replica
from node.duties import agent_news
from node.duties.agent_news import DRAIN, AgentNews, NewsKey
from node.duties.clock import Clock, Timer
from node.duties.leader_calls import LeaderCalls
from node.duties.messages import Beat, BeatAnswer
from node.duties.poll import Attended, Call, OpenPoll, StaleEpochError, UnknownAgentError
from node.duties.pump import Pump
from node.duties.settings import DutySettings
from statemachine import agent_record
from statemachine.agent_record import Agent

ANNOUNCED_AT_ONCE = 256
"""Polls that a new leader is told of before others get their turn."""


class Polls:
    """All open polls of this node, and what their agents were told lately. `opened` counts those the leader knew."""

    def __init__(self, replica: Replica, calls: LeaderCalls, clock: Clock, settings: DutySettings) -> None:
        self._replica = replica
        self._calls = calls
        self._clock = clock
        self._settings = settings
        self._open: dict[str, OpenPoll] = {}
        self._told: dict[str, dict[NewsKey, float]] = {}
        self._numbers = itertools.count(1)
        self._announce = Pump("announce", clock, self._announce_step, retry_ms=settings.retry_ms)
        self._ends = Pump("poll ends", clock, self._ends_step, retry_ms=settings.retry_ms)
        self._unsubscribe = replica.subscribe(self._on_notice)
        self._telling: set[asyncio.Task[BeatAnswer]] = set()
        self._closed = False
        self.opened = 0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, agent_id: object) -> bool:
        return agent_id in self._open

    # --- one heartbeat ----------------------------------------------------------------------------------------------

    async def attend(self, call: Call) -> Attended:
        """Take in a heartbeat and, with `wait_ms`, wait for news or the end of the time.

        Raises UnknownAgentError, StaleEpochError, CallFailedError, NotCommittedError. CANCEL IT when the client hangs
        up: the leader is then told that nobody listens.
        """
        if self._closed:
            raise NotCommittedError("shutting_down", "this node is stopping; ask another one")
        await self._check(call)
        retell_s = self._news_s(call)
        if call.wait_ms == 0 or retell_s == 0:
            return Attended(await self._beat(call, Beat(call.agent_id, call.epoch, call.running, call.metrics)))
        poll = OpenPoll(next(self._numbers), call, self._clock.monotonic_s() + call.wait_ms / 1000)
        older = self._open.get(call.agent_id)
        if older is not None:
            older.superseded = True
            older.woken.set()
        self._open[call.agent_id] = poll
        self._ends.wake()
        try:
            answer = await self._wait(poll)
        except BaseException:
            # Whoever hung up renews nothing.
            self._say(Beat(call.agent_id, call.epoch, closed=poll.number))
            raise
        finally:
            if self._open.get(call.agent_id) is poll:
                del self._open[call.agent_id]
        return Attended(answer, poll.superseded)

    async def _check(self, call: Call) -> None:
        """The agent, its epoch, and that nothing it says to run seems lost only because this node is behind."""
        try:
            if not self._news(call).lost:
                return
        except (UnknownAgentError, StaleEpochError):
            pass
        await self._replica.read_barrier(self._settings.leader_call_ms / 1000)
        self._news(call)

    async def _wait(self, poll: OpenPoll) -> BeatAnswer:
        call = poll.call
        opened = Beat(call.agent_id, call.epoch, call.running, call.metrics, (poll.number, call.wait_ms))
        opened_s = self._clock.monotonic_s()
        answer = await self._beat(call, opened)
        self.opened += 1
        timer: Timer | None = None
        try:
            while not poll.superseded:
                now_s = self._clock.monotonic_s()
                retell_s = self._news_s(call)
                if poll.ended is not None:
                    raise poll.ended
                if now_s >= poll.until_s or retell_s == 0:
                    break
                poll.woken.clear()
                wake_s = poll.until_s if retell_s is None else min(poll.until_s, now_s + retell_s)
                timer = self._clock.call_at(wake_s, poll.woken.set)
                await poll.woken.wait()
                timer.cancel()
        finally:
            if timer is not None:
                timer.cancel()
        if poll.superseded:
            return answer
        waited_ms = round((self._clock.monotonic_s() - opened_s) * 1000)
        if not call.running or waited_ms <= self._settings.renewed_lately_ms:
            # There is nothing to renew, or it was renewed a moment ago: the reply need not wait for the leader.
            self._say(Beat(call.agent_id, call.epoch, call.running, closed=poll.number))
            return _later(answer, waited_ms)
        closing = Beat(call.agent_id, call.epoch, call.running, closed=poll.number)
        try:
            return await self._beat(call, closing)
        except CallFailedError:
            # The news is true without the leader; leases were renewed at arrival.
            return _later(answer, waited_ms)

    async def _beat(self, call: Call, beat: Beat) -> BeatAnswer:
        """The leader's answer; it may be behind this node by a moment, so its no is checked before it is believed."""
        answer = await self._calls.beat(beat)
        if answer.code:
            await self._replica.read_barrier(self._settings.leader_call_ms / 1000)
            self._news(call)
            answer = await self._calls.beat(beat)
        if answer.code:
            raise CallFailedError("the leader does not know this agent yet")
        return answer

    def _say(self, beat: Beat) -> None:
        """Tell the leader, if it can be told, without waiting for its answer."""
        task = asyncio.get_running_loop().create_task(self._calls.beat(beat))
        self._telling.add(task)
        task.add_done_callback(self._told_leader)

    def _told_leader(self, task: asyncio.Task[BeatAnswer]) -> None:
        self._telling.discard(task)
        if not task.cancelled():
            task.exception()

    # --- news -------------------------------------------------------------------------------------------------------

    def _news(self, call: Call) -> AgentNews:
        with self._replica.view() as view:
            agent = agent_record.find(view, call.agent_id)
            if agent is None:
                raise UnknownAgentError
            if agent.epoch != call.epoch:
                raise StaleEpochError(agent.epoch)
            return agent_news.read(view, agent, call.running, call.project)

    def _news_s(self, call: Call) -> float | None:
        """In how many seconds there is something to tell: 0 for now, None for nothing.

        What was told a moment ago is told again only after `retell_ms`: an agent that polls while it is still acting on
        what it heard does not spin, one that did not get the answer hears it again.
        """
        told = self._told.get(call.agent_id, {})
        keys = self._news(call).keys()
        if not keys:
            return None
        now_s = self._clock.monotonic_s()
        return max(0.0, min(told[key] + self._again_s(key) - now_s if key in told else 0.0 for key in keys))

    def _again_s(self, key: NewsKey) -> float:
        """After how long something told is told again. A drain lasts: every reply repeats it, none need be early."""
        again_ms = self._settings.heartbeat_interval_ms if key[0] == DRAIN else self._settings.retell_ms
        return again_ms / 1000

    def told(self, agent: Agent, keys: Sequence[NewsKey]) -> None:
        """The agent was told this just now."""
        if keys:
            self._told[agent.agent_id] = dict.fromkeys(keys, self._clock.monotonic_s())
        else:
            self._told.pop(agent.agent_id, None)

    def _on_notice(self, notice: Notice) -> None:
        if not self._open:
            return
        if notice.gap:
            for poll in self._open.values():
                poll.woken.set()
            return
        for change in notice.changes:
            if change.resource == "agent":
                self._wake(change.resource_id)
            for topic in change.topics:
                if topic.startswith("agent."):
                    self._wake(topic[6:])

    def _wake(self, agent_id: str) -> None:
        poll = self._open.get(agent_id)
        if poll is not None:
            poll.woken.set()

    # --- the leader -------------------------------------------------------------------------------------------------

    def on_role_change(self) -> None:
        """Another leader knows nothing of the polls that are open here."""
        for poll in self._open.values():
            poll.announced = False
        self._announce.wake()
        self._ends.wake()

    async def _announce_step(self) -> float | None:
        polls = [poll for poll in self._open.values() if not poll.announced]
        for start in range(0, len(polls), ANNOUNCED_AT_ONCE):
            some = polls[start : start + ANNOUNCED_AT_ONCE]
            beats = [self._calls.beat(self._opening(poll)) for poll in some]
            results = await asyncio.gather(*beats, return_exceptions=True)
            for poll, result in zip(some, results, strict=True):
                if isinstance(result, BeatAnswer):
                    poll.announced = True
                    if result.code:
                        poll.woken.set()
        return None if all(poll.announced for poll in polls) else self._settings.retry_ms / 1000

    def _opening(self, poll: OpenPoll) -> Beat:
        left_ms = max(0, round((poll.until_s - self._clock.monotonic_s()) * 1000))
        return Beat(poll.call.agent_id, poll.call.epoch, poll.call.running, None, (poll.number, left_ms))

    async def _ends_step(self) -> float | None:
        """Ask for polls that were ended by newer ones at other nodes, as long as any is open here."""
        if not self._open:
            return None
        try:
            reply = await self._calls.polls(self._settings.claim_slice_ms)
        except CallFailedError:
            return self._settings.retry_ms / 1000
        ended = set(reply.superseded)
        for poll in self._open.values():
            if poll.number in ended:
                poll.superseded = True
                poll.woken.set()
        return 0

    def close(self) -> None:
        """End every poll; the agents go to another node."""
        self._closed = True
        self._unsubscribe()
        self._announce.close()
        self._ends.close()
        for poll in self._open.values():
            poll.end(NotCommittedError("shutting_down", "this node is stopping; ask another one"))


def _later(answer: BeatAnswer, passed_ms: int) -> BeatAnswer:
    """An answer of some time ago: its leases have run on since."""
    leases = [replace(lease, remaining_ms=max(0, lease.remaining_ms - passed_ms)) for lease in answer.leases]
    return replace(answer, leases=tuple(leases))
