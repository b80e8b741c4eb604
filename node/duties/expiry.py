"""Offers that were not accepted, leases that ran out, agents that fell silent: read from the leader's memory, proposed.

MEMORY IS BELIEVED ONLY while a majority confirms the leadership: the caller looks at the lease clock first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from node.duties.fleet import AgentMemory
from node.duties.frames import frame
from node.duties.holdings import Holding
from node.duties.leader_memory import LeaderMemory
from node.duties.settings import DutySettings
from node.duties.timers import RANDOM_BITS
from statemachine import agent_record
from statemachine.commands import (
    AgentBelieved,
    Believed,
    ExpireLeases,
    RequeueAgentWork,
    SetAgentLiveness,
    WithdrawOffers,
)
from statemachine.outcome import Outcome
from statemachine.task_states import TaskState


@dataclass(slots=True)
class Expired:
    """Holdings whose time is over."""

    offers: list[Holding] = field(default_factory=list)
    leases: list[Holding] = field(default_factory=list)

    def frames(self) -> list[bytes]:
        """The proposals."""
        frames: list[bytes] = []
        if self.offers:
            frames.append(frame(WithdrawOffers(_believed(self.offers))))
        if self.leases:
            randoms = tuple(random.getrandbits(RANDOM_BITS) for _ in self.leases)
            frames.append(frame(ExpireLeases(_believed(self.leases), randoms)))
        return frames

    def split(self, outcomes: Sequence[Outcome]) -> tuple[list[Holding], list[Holding]]:
        """(offers withdrawn, what was passed over) by the outcomes of `frames`. What was passed over shows that memory
        erred, or that the agent accepted or renewed just in time."""
        holdings = [*self.offers, *self.leases]
        items = [item for outcome in outcomes for item in outcome.items]
        if len(items) != len(holdings):
            return [], holdings
        done = [holding for holding, item in zip(holdings, items, strict=True) if item.status]
        passed = [holding for holding, item in zip(holdings, items, strict=True) if not item.status]
        return [holding for holding in done if holding.status == TaskState.ASSIGNED], passed


def _believed(holdings: list[Holding]) -> tuple[Believed, ...]:
    return tuple(Believed(item.key[1], item.key[0], item.attempt, item.status) for item in holdings)


def take_expired(memory: LeaderMemory, count_max: int) -> Expired:
    """Take what is over out of the queue of deadlines; `put_back` what could not be proposed. Until then none of it is
    renewed: an agent that is told of a longer lease would go on while the task is given to another."""
    expired = Expired()
    for holding in memory.holdings.due(memory.clock.now_s(), count_max):
        holding.ending = True
        (expired.offers if holding.status == TaskState.ASSIGNED else expired.leases).append(holding)
    return expired


def put_back(memory: LeaderMemory, expired: Expired, *, decided: bool) -> None:
    """Queue again whatever is still held as it was: the proposal failed, or was passed over. One whose outcome is not
    known may be committed yet, so what it ends is still not renewed: it is proposed again."""
    for holding in (*expired.offers, *expired.leases):
        holding.ending = not decided
        if memory.holdings.get(holding.key) is holding:
            memory.holdings.push(holding)


def count_misses(memory: LeaderMemory, lapsed: list[Holding], settings: DutySettings) -> list[AgentMemory]:
    """Count offers that were withdrawn; returns the agents that now let too many lapse.

    An agent that stops for a moment lets all its offers lapse at once: those made before the last counted miss belong
    to the same silence and count no more.
    """
    unresponsive: list[AgentMemory] = []
    for holding in lapsed:
        agent = memory.fleet.get(holding.agent_id)
        if agent is None or holding.deadline_s - holding.term_s < agent.missed_s:
            continue
        agent.offers_missed += 1
        agent.missed_s = memory.clock.now_s()
        if agent.offers_missed >= settings.offer_misses_max and agent.liveness == agent_record.ONLINE:
            agent.probations += 1
            unresponsive.append(agent)
    return unresponsive


def is_silent(memory: LeaderMemory, agent: AgentMemory) -> bool:
    """Whether the agent was not heard for longer than it may be silent."""
    now_s = memory.clock.now_s()
    return agent.seen_s < now_s - memory.pace.patience_with_s(agent) and not memory.fleet.listening(agent, now_s)


def silent(memory: LeaderMemory) -> list[AgentMemory]:
    """Agents that are to be offline."""
    # Asked twice a second of the whole fleet: what no agent may exceed is looked up once.
    since_s = memory.clock.now_s() - memory.pace.patience_s()
    return [
        agent
        for agent in memory.fleet
        if agent.seen_s < since_s and agent.liveness != agent_record.OFFLINE and is_silent(memory, agent)
    ]


def returned(memory: LeaderMemory) -> list[AgentMemory]:
    """Agents that are offline and were heard all the same: while the decision that they are was under way, say."""
    return [
        agent
        for agent in memory.fleet
        if agent.liveness == agent_record.OFFLINE and agent.heard and not is_silent(memory, agent)
    ]


def on_probation(memory: LeaderMemory, settings: DutySettings) -> list[AgentMemory]:
    """Unresponsive agents that go on polling long enough to be tried again; one more miss and they are out again.

    The first time soon, for most were only slow for a moment; then later and later.
    """
    now_s = memory.clock.now_s()
    again = [
        agent
        for agent in memory.fleet
        if agent.liveness == agent_record.UNRESPONSIVE
        and now_s - agent.missed_s >= settings.probation_ms(agent.probations) / 1000
        and memory.fleet.listening(agent, now_s)
    ]
    for agent in again:
        agent.offers_missed = settings.offer_misses_max - 1
    return again


def liveness_frames(memory: LeaderMemory, wanted: dict[str, str]) -> list[bytes]:
    """Proposals for agents that became something else: new liveness by agent id.

    They are looked at as they are NOW: what was wanted may be over, above all the silence of one that was heard since.
    """
    frames: list[bytes] = []
    for liveness in agent_record.LIVENESS:
        named = [memory.fleet.get(agent_id) for agent_id, wants in wanted.items() if wants == liveness]
        agents = [agent for agent in named if agent is not None and agent.liveness != liveness]
        if liveness == agent_record.OFFLINE:
            agents = [agent for agent in agents if is_silent(memory, agent)]
        if not agents:
            continue
        items = tuple(AgentBelieved(agent.agent_id, agent.epoch, agent.liveness) for agent in agents)
        frames.append(frame(SetAgentLiveness(items, liveness)))
        if liveness == agent_record.OFFLINE:
            gone = tuple(AgentBelieved(agent.agent_id, agent.epoch, liveness) for agent in agents)
            frames.append(frame(RequeueAgentWork(gone)))
    return frames
