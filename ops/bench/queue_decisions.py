"""How many assignments the leader decides a second, with many agents and 10,000 to a million pending tasks.

Two ways to the same queue. By offers: the queue is paused until every agent listens, one long-poll each; then it is
resumed, and the time counts until so many are assigned. By claims: agents take tasks several at a time. Nothing is
completed; registering again gives everything back.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ops.bench import queue_fill
from ops.bench.queue_calls import BenchAgent
from ops.bench.queue_processes import Cores, NodeMemory, cores_text, node_memory
from ops.bench.queue_site import Say, Site
from ops.edge import CommandError
from ops.output import bytes_text, print_table

LEVELS = (10_000, 100_000)
"""Pending tasks at which decisions are measured, beside the whole number."""

SLOTS = 10
"""Of an agent, and most tasks of a claim."""

CLAIMERS = 32
POLL_MS = 60_000
SAMPLE_S = 0.01
LIMIT_S = 60.0
OFFERS, CLAIMS = "offers", "claims"


@dataclass(frozen=True, slots=True)
class DecisionFigures:
    """`decided` assignments a run at `pending` tasks; `per_second` is the median of the runs."""

    pending: int
    by: str
    agents: int
    decided: int
    per_second: float
    cores: Cores

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BacklogFigures:
    """The nodes once the whole backlog is there, and how fast it came."""

    tasks: int
    created_per_second: float
    registered_per_second: float
    state_bytes: int
    nodes: list[NodeMemory]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Backlog:
    """`pending` tasks, `agents` agents; decisions are measured `runs` times at each level if `decisions`."""

    pending: int
    agents: int
    runs: int
    decisions: bool = True

    @property
    def levels(self) -> list[int]:
        smaller = [level for level in LEVELS if level < self.pending] if self.decisions else []
        return [*smaller, self.pending]

    @property
    def decided(self) -> int:
        """Assignments of one run: the same at each level, and no more than half of what is pending or can be held."""
        return max(1, min(self.levels[0], self.agents) // 2)


async def measure(site: Site, backlog: Backlog, say: Say) -> tuple[list[DecisionFigures], BacklogFigures]:
    """Fills the queue level by level."""
    agents = queue_fill.fleet(site, backlog.agents, SLOTS)
    found: list[DecisionFigures] = []
    tasks, rate, registered = 0, 0.0, 0.0
    for level in backlog.levels:
        rate = await queue_fill.add_pending(site, tasks, level - tasks, say)
        say(f"{level:,} tasks pending, created at {rate:,.0f}/s")
        tasks = level
        if not registered:
            registered = await queue_fill.register(agents)
            say(f"{len(agents):,} agents registered at {registered:,.0f}/s")
        if backlog.decisions:
            found += [await _decide(site, backlog, agents, level, by, say) for by in (OFFERS, CLAIMS)]
    await site.find_leader()
    nodes = [
        node_memory(node_id, "leader" if node_id == site.leader_id else "follower", pid)
        for node_id, pid in site.pids.items()
    ]
    there = sum((await site.task_counts()).values())
    return found, BacklogFigures(there, rate, registered, await site.state_bytes(), nodes)


async def _decide(
    site: Site, backlog: Backlog, agents: list[BenchAgent], level: int, by: str, say: Say
) -> DecisionFigures:
    rates: list[float] = []
    loads: list[Cores] = []
    for _ in range(backlog.runs):
        await site.find_leader()
        run = _offered if by == OFFERS else _claimed
        rate, cores = await run(site, agents, backlog.decided)
        rates.append(rate)
        loads.append(cores)
        say(f"{level:,} pending, {by}: {rate:,.0f} decisions/s, {cores_text(cores)}")
        # Gives back what they hold.
        await queue_fill.register(agents)
    cores = {name: statistics.median(load[name] for load in loads) for name in loads[0]}
    return DecisionFigures(level, by, len(agents), backlog.decided, statistics.median(rates), cores)


async def _offered(site: Site, agents: list[BenchAgent], count: int) -> tuple[float, Cores]:
    async with _paused(site), asyncio.TaskGroup() as group:
        polls = [group.create_task(agent.poll(POLL_MS)) for agent in agents]
        await _until_listening(site, len(agents))
        meter, started_at = site.meter(), time.perf_counter()
        await _pause(site, paused=False)
        held = 0
        async with asyncio.timeout(LIMIT_S):
            while held < count:
                await asyncio.sleep(SAMPLE_S)
                held = (await site.task_counts()).get("assigned", 0)
        elapsed_s, cores = time.perf_counter() - started_at, meter.read()
        for poll in polls:
            poll.cancel()
    return held / elapsed_s, cores


@asynccontextmanager
async def _paused(site: Site) -> AsyncIterator[None]:
    await _pause(site, paused=True)
    try:
        yield
    finally:
        await _pause(site, paused=False)


async def _pause(site: Site, *, paused: bool) -> None:
    await site.leader.require("PATCH", f"/api/queues/{queue_fill.QUEUE}", {"paused": paused})


async def _until_listening(site: Site, count: int) -> None:
    """Until the leader has an open poll of so many agents."""
    async with asyncio.timeout(LIMIT_S):
        while await site.listening() < count:
            await asyncio.sleep(SAMPLE_S * 10)


async def _claimed(site: Site, agents: list[BenchAgent], count: int) -> tuple[float, Cores]:
    taken = 0
    meter, started_at = site.meter(), time.perf_counter()
    turns = iter(agents)

    async def claim() -> None:
        nonlocal taken
        for agent in turns:
            grants = await agent.claim(SLOTS, 0)
            taken += len(grants)
            if taken >= count:
                return

    await asyncio.gather(*(claim() for _ in range(CLAIMERS)))
    if taken < count:
        raise CommandError(f"only {taken} tasks could be claimed; there should be {count} at least")
    return taken / (time.perf_counter() - started_at), meter.read()


def print_decisions(found: list[DecisionFigures]) -> None:
    """One row for each number of pending tasks and way."""
    columns = ("PENDING", "BY", "AGENTS", "DECISIONS/S", "OF", "CORES")
    rows = (
        (f"{one.pending:,}", one.by, f"{one.agents:,}", f"{one.per_second:,.0f}", one.decided, cores_text(one.cores))
        for one in found
    )
    print_table(columns, rows)


def print_backlog(found: BacklogFigures) -> None:
    """One row for each node."""
    columns = ("TASKS", "NODE", "ROLE", "MEMORY", "OF IT ITS OWN", "STATE ON DISK", "CREATED/S")
    state, rate = bytes_text(found.state_bytes), f"{found.created_per_second:,.0f}"
    rows = (
        (f"{found.tasks:,}", n.node_id, n.role, bytes_text(n.rss_bytes), bytes_text(n.anonymous_bytes), state, rate)
        for n in found.nodes
    )
    print_table(columns, rows)
