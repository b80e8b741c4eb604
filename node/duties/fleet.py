"""The agents as the leader knows them: what they said last, what they can do, whether they are listening."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from node.duties.cooling import Cooling
from node.duties.holdings import Holdings
from node.duties.scoring import DEFAULT_WEIGHTS, Weights, stepped
from statemachine import agent_record, proficiency
from statemachine.agent_record import Load

_WHOLE = 10_000

Requires = tuple[tuple[str, int], ...]
"""(capability, least proficiency in ten-thousandths), in the order of the task."""

ABLE_KEPT = 64
"""Needs for which it is remembered who else is able."""


class Poll(msgspec.Struct, frozen=True, gc=False):
    """An open heartbeat long-poll: at which run of which node, its number there, and until when (lease time)."""

    node_run: str
    number: int
    until_s: float


class AgentMemory(msgspec.Struct, eq=False, gc=False):
    """One agent. The first block repeats the replicated record; the rest only this leader knows.

    Times are lease time, but `metrics_ms` (Unix). `used` grows with every task given, for the least recently used;
    `heard` is whether this leader itself heard the agent; `probations` counts how often it was tried again in vain;
    `interval_ms` is how often this leader asked it last to call, 0 if never. The last block is from the records
    again: `capabilities` are in ten-thousandths, the rates that its attempts taught 0 to 1. Nothing in it refers
    back to it, so the garbage collector need not look at it.
    """

    agent_id: str
    epoch: int
    liveness: str
    draining: bool
    max_concurrent: int
    capabilities: dict[str, int]
    projects: frozenset[str]

    seen_s: float = 0.0
    heard: bool = False
    metrics: bytes | None = None
    metrics_ms: int | None = None
    poll: Poll | None = None
    offers_missed: int = 0
    missed_s: float = 0.0
    probations: int = 0
    used: int = 0
    interval_ms: int = 0

    number: int = 0
    provider: str | None = None
    success: float = 1.0
    cost_micro: int | None = None
    rates: dict[str, float] = {}

    def carry_over(self, known: AgentMemory) -> None:
        """Take over what only the leader knows, from the memory of the same epoch."""
        self.seen_s, self.heard = known.seen_s, known.heard
        self.metrics, self.metrics_ms = known.metrics, known.metrics_ms
        self.poll = known.poll
        self.offers_missed, self.missed_s = known.offers_missed, known.missed_s
        self.probations = known.probations
        self.used = known.used
        self.interval_ms = known.interval_ms

    def may_get(self, project: str, requires: Requires) -> bool:
        """Whether tasks like this can come to this agent at all, now or when it has a slot and listens."""
        return (
            self.liveness == agent_record.ONLINE and not self.draining and self.serves(project) and self.can(requires)
        )

    def serves(self, project: str) -> bool:
        """Whether the agent works for a project."""
        return agent_record.ANY_PROJECT in self.projects or project in self.projects

    def can(self, requires: Requires) -> bool:
        """Whether the agent has what a task needs."""
        return all(self.capabilities.get(name, -1) >= least for name, least in requires)

    def learn(self, load: Load) -> None:
        """Take over what its attempts taught."""
        self.success, self.cost_micro = stepped(load.success / _WHOLE), load.cost_micro
        self.rates = {rate.name: stepped(rate.rate / _WHOLE) for rate in proficiency.read(load.learned)}

    def proficiency(self, requires: Requires) -> float:
        """How well it does what a task needs, 0 to 1: the mean of what it says times what its attempts taught. Of a
        task that needs nothing: how often it succeeds at anything."""
        if not requires:
            return self.success
        has, learned = self.capabilities, self.rates
        return sum(has.get(name, 0) * learned.get(name, 1.0) for name, _ in requires) / (_WHOLE * len(requires))


class Fleet:
    """All agents of the cluster."""

    def __init__(self, holdings: Holdings) -> None:
        self._agents: dict[str, AgentMemory] = {}
        self._listening: dict[str, AgentMemory] = {}
        self._offline: set[str] = set()
        self._holdings = holdings
        self._changed: dict[str, None] = {}
        self._used = 0
        self._able: dict[tuple[str, Requires], list[AgentMemory]] = {}
        self.cooling = Cooling()
        self.weights: Weights = DEFAULT_WEIGHTS

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self) -> Iterator[AgentMemory]:
        return iter(list(self._agents.values()))

    @property
    def present(self) -> int:
        """How many are not offline."""
        return len(self._agents) - len(self._offline)

    def get(self, agent_id: str) -> AgentMemory | None:
        """The agent of that id."""
        return self._agents.get(agent_id)

    def put(self, agent: AgentMemory) -> None:
        """Remember an agent."""
        self._agents[agent.agent_id] = agent
        self._able.clear()
        self._changed[agent.agent_id] = None
        if agent.liveness == agent_record.OFFLINE:
            self._offline.add(agent.agent_id)
        else:
            self._offline.discard(agent.agent_id)
        if agent.poll is not None:
            self._listening[agent.agent_id] = agent
        else:
            self._listening.pop(agent.agent_id, None)

    def drop(self, agent_id: str) -> None:
        """Forget a deleted agent."""
        self._changed[agent_id] = None
        self._able.clear()
        self._agents.pop(agent_id, None)
        self._offline.discard(agent_id)
        self._listening.pop(agent_id, None)

    def listen(self, agent: AgentMemory, poll: Poll) -> Poll | None:
        """A poll opens; returns the one it ends, if there was."""
        ended = agent.poll
        agent.poll = poll
        self._changed[agent.agent_id] = None
        self._listening[agent.agent_id] = agent
        return ended

    def hang_up(self, agent: AgentMemory, node_run: str, number: int) -> None:
        """A poll was answered or cut; a newer one stays."""
        if agent.poll is not None and (agent.poll.node_run, agent.poll.number) == (node_run, number):
            agent.poll = None
            self._changed[agent.agent_id] = None
            self._listening.pop(agent.agent_id, None)

    def anyone_else(self, agent_id: str, project: str, requires: Requires, now_s: float) -> bool:
        """Whether tasks like this can come to another agent than this one."""
        # Asked for each task that avoids somebody. Two names answer it until the record of an agent changes.
        need = project, requires
        able = self._able.get(need)
        if able is None or not all(self._may_get(agent, project, requires, now_s) for agent in able):
            may = (agent for agent in self._agents.values() if self._may_get(agent, project, requires, now_s))
            able = list(islice(may, 2))
            if len(self._able) >= ABLE_KEPT:
                self._able.clear()
            self._able[need] = able
        return any(agent.agent_id != agent_id for agent in able)

    def _may_get(self, agent: AgentMemory, project: str, requires: Requires, now_s: float) -> bool:
        return agent.may_get(project, requires) and not self.cooling.cools(agent.provider, now_s)

    def warm_up(self, now_s: float) -> bool:
        """Whether a provider may be asked again since this was asked the last time; its agents then bid anew."""
        ended = self.cooling.ended(now_s)
        if not ended:
            return False
        self._able.clear()
        self.touch(agent.agent_id for agent in self._agents.values() if agent.provider in ended)
        return True

    def touch(self, agent_ids: Iterable[str]) -> None:
        """What speaks for these agents may have changed."""
        self._changed.update(dict.fromkeys(agent_ids))

    def parts(self, agent: AgentMemory, requires: Requires, slots_used: int, affinity: float) -> dict[str, float]:
        """What speaks for giving a task to this agent, each 0 to 1."""
        return {
            "proficiency": agent.proficiency(requires),
            "load": max(0.0, 1 - slots_used / agent.max_concurrent),
            "affinity": affinity,
            "success": agent.success,
            "cost": self.weights.thrift(agent.cost_micro),
        }

    def score(self, agent: AgentMemory, requires: Requires, slots_used: int) -> float:
        """The weighted sum of `parts` without affinity. Ties go to the least recently used, then to the lower id."""
        weights = self.weights
        return (
            weights.proficiency * agent.proficiency(requires)
            + weights.load * max(0.0, 1 - slots_used / agent.max_concurrent)
            + weights.success * agent.success
            + weights.cost * weights.thrift(agent.cost_micro)
        )

    def clear(self) -> dict[str, AgentMemory]:
        """Forget all agents; returns what was known, by id."""
        known, self._agents, self._listening, self._offline = self._agents, {}, {}, set()
        self._able.clear()
        self.touch(known)
        return known

    def take_changed(self) -> dict[str, None]:
        """The agents whose record, poll or number of free slots may have changed since this was asked the last time."""
        changed, self._changed = self._changed, {}
        return changed | self._holdings.take_freed()

    def slots_used(self, agent: AgentMemory) -> int:
        """How many tasks the agent holds."""
        return self._holdings.slots_used(agent.agent_id)

    def slots_free(self, agent: AgentMemory) -> int:
        """How many more tasks the agent may hold."""
        return max(0, agent.max_concurrent - self._holdings.slots_used(agent.agent_id))

    @property
    def anyone_listening(self) -> bool:
        """Whether any poll is open."""
        return bool(self._listening)

    def mark_used(self, agent: AgentMemory) -> None:
        """A task was given to the agent: it is now the most recently used."""
        self._used += 1
        agent.used = self._used

    def listening(self, agent: AgentMemory, now_s: float) -> bool:
        """Whether the agent has an open poll; one whose node never reported its end lasts no longer than it said."""
        if agent.poll is not None and agent.poll.until_s >= now_s:
            return True
        agent.poll = None
        self._listening.pop(agent.agent_id, None)
        return False
