"""The agents as the leader knows them: what they said last, what they can do, whether they are listening."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from node.duties.holdings import Holdings
from statemachine import agent_record

Requires = tuple[tuple[str, int], ...]
"""(capability, least proficiency in ten-thousandths), in the order of the task."""

PROFICIENCY_WEIGHT = 0.6
LOAD_WEIGHT = 0.4


@dataclass(frozen=True, slots=True)
class Poll:
    """An open heartbeat long-poll: at which run of which node, its number there, and until when (lease time)."""

    node_run: str
    number: int
    until_s: float


@dataclass(slots=True)
class AgentMemory:
    """One agent. The first block repeats the replicated record; the rest only this leader knows.

    Times are lease time, but `metrics_ms` (Unix). `used` grows with every task given, for the least recently used;
    `heard` is whether this leader itself heard the agent; `probations` counts how often it was tried again in vain.
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

    def carry_over(self, known: AgentMemory) -> None:
        """Take over what only the leader knows, from the memory of the same epoch."""
        self.seen_s, self.heard = known.seen_s, known.heard
        self.metrics, self.metrics_ms = known.metrics, known.metrics_ms
        self.poll = known.poll
        self.offers_missed, self.missed_s = known.offers_missed, known.missed_s
        self.probations = known.probations
        self.used = known.used

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

    def proficiency(self, requires: Requires) -> float:
        """Mean proficiency in what a task needs, 0 to 1; 1 when it needs nothing."""
        if not requires:
            return 1.0
        return sum(self.capabilities.get(name, 0) for name, _ in requires) / (10_000 * len(requires))


def parts(agent: AgentMemory, requires: Requires, slots_used: int) -> dict[str, float]:
    """What speaks for giving a task to this agent, each 0 to 1."""
    free = max(0.0, 1 - slots_used / agent.max_concurrent)
    return {"proficiency": agent.proficiency(requires), "load": free}


def score(agent: AgentMemory, requires: Requires, slots_used: int) -> float:
    """The weighted sum of `parts`. Ties go to the least recently used, then to the lower id."""
    part = parts(agent, requires, slots_used)
    return PROFICIENCY_WEIGHT * part["proficiency"] + LOAD_WEIGHT * part["load"]


class Fleet:
    """All agents of the cluster."""

    def __init__(self, holdings: Holdings) -> None:
        self._agents: dict[str, AgentMemory] = {}
        self._listening: dict[str, AgentMemory] = {}
        self._holdings = holdings
        self._changed: dict[str, None] = {}
        self._used = 0

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self) -> Iterator[AgentMemory]:
        return iter(list(self._agents.values()))

    def get(self, agent_id: str) -> AgentMemory | None:
        """The agent of that id."""
        return self._agents.get(agent_id)

    def put(self, agent: AgentMemory) -> None:
        """Remember an agent."""
        self._agents[agent.agent_id] = agent
        self._changed[agent.agent_id] = None
        if agent.poll is not None:
            self._listening[agent.agent_id] = agent
        else:
            self._listening.pop(agent.agent_id, None)

    def drop(self, agent_id: str) -> None:
        """Forget a deleted agent."""
        self._changed[agent_id] = None
        self._agents.pop(agent_id, None)
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

    def anyone_else(self, agent_id: str, project: str, requires: Requires) -> bool:
        """Whether tasks like this can come to another agent than this one."""
        return any(a.agent_id != agent_id and a.may_get(project, requires) for a in self._agents.values())

    def clear(self) -> dict[str, AgentMemory]:
        """Forget all agents; returns what was known, by id."""
        known, self._agents, self._listening = self._agents, {}, {}
        self._changed.update(dict.fromkeys(known))
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
