"""Offers that were not accepted, leases that ran out, agents that fell silent: read from the leader's memory, proposed.

MEMORY IS BELIEVED ONLY while a majority confirms the leadership: the caller looks at the lease clock first.
"""

from __future__ import annotations

import random
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


def _believed(holdings: list[Holding]) -> tuple[Believed, ...]:
    return tuple(Believed(item.key[1], item.key[0], item.attempt, item.status) for item in holdings)


def take_expired(memory: LeaderMemory, count_max: int) -> Expired:
    """Take what is over out of the queue of deadlines; `put_back` what could not be proposed."""
    expired = Expired()
    for holding in memory.holdings.due(memory.clock.now_s(), count_max):
        (expired.offers if holding.status == TaskState.ASSIGNED else expired.leases).append(holding)
    return expired


def put_back(memory: LeaderMemory, expired: Expired) -> None:
    """Queue again whatever is still held as it was: the proposal failed, or was passed over."""
    for holding in (*expired.offers, *expired.leases):
        if memory.holdings.get(holding.key) is holding:
            memory.holdings.push(holding)


def count_misses(memory: LeaderMemory, offers: list[Holding], settings: DutySettings) -> list[AgentMemory]:
    """Count offers that lapsed; returns the agents that now let too many lapse."""
    unresponsive: list[AgentMemory] = []
    for holding in offers:
        agent = memory.fleet.get(holding.agent_id)
        if agent is None or memory.holdings.get(holding.key) is holding:
            continue
        agent.offers_missed += 1
        agent.missed_s = memory.clock.now_s()
        if agent.offers_missed == settings.offer_misses_max and agent.liveness == agent_record.ONLINE:
            unresponsive.append(agent)
    return unresponsive


def silent(memory: LeaderMemory) -> list[AgentMemory]:
    """Agents that were not heard for longer than they may be silent."""
    now_s = memory.clock.now_s()
    heard_since_s = now_s - memory.patience_s()
    return [
        agent
        for agent in memory.fleet
        if agent.seen_s < heard_since_s
        and agent.liveness != agent_record.OFFLINE
        and not memory.fleet.listening(agent, now_s)
    ]


def on_probation(memory: LeaderMemory, settings: DutySettings) -> list[AgentMemory]:
    """Unresponsive agents that go on polling long enough to be tried again; one more miss and they are out again."""
    now_s = memory.clock.now_s()
    again = [
        agent
        for agent in memory.fleet
        if agent.liveness == agent_record.UNRESPONSIVE
        and now_s - agent.missed_s >= settings.unresponsive_retry_ms / 1000
        and memory.fleet.listening(agent, now_s)
    ]
    for agent in again:
        agent.offers_missed = settings.offer_misses_max - 1
    return again


def liveness_frames(wanted: dict[str, tuple[AgentMemory, str]]) -> list[bytes]:
    """Proposals for agents that became something else: by agent id, (agent, its new liveness)."""
    frames: list[bytes] = []
    for liveness in agent_record.LIVENESS:
        agents = [agent for agent, wants in wanted.values() if wants == liveness and agent.liveness != liveness]
        if not agents:
            continue
        items = tuple(AgentBelieved(agent.agent_id, agent.epoch, agent.liveness) for agent in agents)
        frames.append(frame(SetAgentLiveness(items, liveness)))
        if liveness == agent_record.OFFLINE:
            gone = tuple(AgentBelieved(agent.agent_id, agent.epoch, liveness) for agent in agents)
            frames.append(frame(RequeueAgentWork(gone)))
    return frames
