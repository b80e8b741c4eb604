"""Whole lives of tasks: created, offered, accepted, completed; how many a second, and each exactly once.

Closed loop: so many tasks are under way at any time, and when one is completed the next is created. Agents and creators
are spread over all nodes, as in a real fleet.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from enum import StrEnum
from time import perf_counter
from typing import Any

from ops.bench.figures import Figures, median
from ops.bench.queue_calls import RETRY_S, BenchAgent, Caller, encode, is_no_answer
from ops.bench.queue_processes import GENERATOR, Cores, CpuMeter, cores_text
from ops.bench.queue_site import Say, Site
from ops.bench.queue_tasks import Faults, Grant, Ledger, Lot, judge, tasks_of
from ops.output import print_table

POLL_MS = 30_000
CLAIM_MS = 10_000
DRAIN_S = 60.0
"""How long tasks under way may take at the end of a run; what is not completed then is lost."""


class Calls(StrEnum):
    """How agents and creators speak to the nodes."""

    SINGLE = "single calls"
    BATCHES = "batches, offers"
    CLAIMS = "batches, claims"


@dataclass(frozen=True, slots=True)
class Shape:
    """`in_flight` tasks under way, created `lot` at a time, done by `agents` with `slots` each."""

    in_flight: int
    lot: int
    agents: int
    slots: int


SHAPES = {
    Calls.SINGLE: Shape(in_flight=256, lot=1, agents=32, slots=16),
    Calls.BATCHES: Shape(in_flight=4_000, lot=200, agents=16, slots=400),
    Calls.CLAIMS: Shape(in_flight=4_000, lot=200, agents=16, slots=400),
}


@dataclass(frozen=True, slots=True)
class LifecycleFigures:
    """`figures.rate` in completed tasks a second, latencies from the creation's call to the completion's answer."""

    calls: Calls
    figures: Figures
    faults: Faults
    cores: Cores

    @property
    def node_ms(self) -> float:
        """Processor time of all nodes for one task: what hardly changes when other programs compete for the cores."""
        used = sum(used for name, used in self.cores.items() if name != GENERATOR)
        return used * 1_000 / self.figures.rate if self.figures.rate else 0.0

    def to_json(self) -> dict[str, Any]:
        known = {"calls": str(self.calls), "node_ms": self.node_ms, "cores": self.cores}
        return known | self.figures.to_json() | asdict(self.faults)


@dataclass(frozen=True, slots=True)
class Timing:
    """`runs` of `seconds` each, after `warm_up_s` each."""

    runs: int
    seconds: float
    warm_up_s: float


async def measure(site: Site, calls: Calls, shape: Shape, timing: Timing, say: Say) -> LifecycleFigures:
    """The medians of the runs; faults of all are added."""
    found = []
    for number in range(timing.runs):
        await site.find_leader()
        run = _Run(site, calls, shape, f"{calls.name.lower()}-{number}")
        found.append(await run.measure(timing.seconds, timing.warm_up_s))
        rate, load = found[-1].figures.rate, cores_text(found[-1].cores)
        say(f"{calls}, run {number + 1} of {timing.runs}: {rate:,.0f} lifecycles/s, {load}")
    cores = {name: statistics.median(run.cores[name] for run in found) for name in found[0].cores}
    faults = sum((run.faults for run in found), Faults())
    return LifecycleFigures(calls, median([run.figures for run in found]), faults, cores)


class _Run:
    def __init__(self, site: Site, calls: Calls, shape: Shape, name: str) -> None:
        self._site = site
        self._calls = calls
        self._shape = shape
        self._name = name
        self._ledger = Ledger()
        self._over = False
        self._errors = 0
        agents = range(shape.agents)
        self._agents = [BenchAgent(site.caller(number), f"{name}-{number}", shape.slots) for number in agents]

    async def measure(self, seconds: float, warm_up_s: float) -> LifecycleFigures:
        site, ledger = self._site, self._ledger
        await asyncio.gather(*(agent.register() for agent in self._agents))
        errors_before = site.errors
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work(agent, group)) for agent in self._agents]
            loops = max(1, self._shape.in_flight // self._shape.lot)
            creators = [group.create_task(self._create(site.caller(number))) for number in range(loops)]
            await asyncio.sleep(warm_up_s)
            figures, cores = await self._window(seconds, site.meter())
            self._over = True
            _, late = await asyncio.wait(creators, timeout=DRAIN_S)
            for task in (*late, *workers):
                task.cancel()
        await asyncio.gather(*(agent.leave() for agent in self._agents))
        tasks = await tasks_of(site.leader.require, self._name)
        faults = judge(ledger.acknowledged, ledger.completions, tasks)
        errors = site.errors - errors_before + self._errors
        return LifecycleFigures(self._calls, _with_errors(figures, errors), faults, cores)

    async def _window(self, seconds: float, meter: CpuMeter) -> tuple[Figures, Cores]:
        ledger = self._ledger
        ledger.measuring = True
        started_s = perf_counter()
        await asyncio.sleep(seconds)
        ledger.measuring = False
        elapsed_s = perf_counter() - started_s
        return Figures.from_latencies(ledger.latencies_ms, 0, elapsed_s, 1), meter.read()

    # --- creators ---------------------------------------------------------------------------------------------------

    async def _create(self, caller: Caller) -> None:
        single = self._shape.lot == 1
        while not self._over:
            lot, numbers = self._ledger.open(self._shape.lot)
            items = [{"type": self._name, "payload": {"n": number}} for number in numbers]
            if single:
                await self._post(caller, "/api/tasks", encode(items[0]), numbers, lot)
            else:
                await self._post(caller, "/api/tasks/batch", encode({"items": items}), numbers, lot)

    async def _post(self, caller: Caller, target: str, body: bytes, numbers: range, lot: Lot) -> None:
        try:
            reply = await caller.send("POST", target, body)
        except (OSError, ValueError):
            status = 0
        else:
            status = reply.status
        if status in (200, 201):
            self._ledger.acknowledged.update(numbers)
            await lot.done
            return
        # Without a key it may not be sent again: it may have happened.
        self._errors += 1
        for number in numbers:
            self._ledger.give_up(number)
        if status == 0 or is_no_answer(status):
            await asyncio.sleep(RETRY_S)

    # --- agents -----------------------------------------------------------------------------------------------------

    async def _work(self, agent: BenchAgent, group: asyncio.TaskGroup) -> None:
        seen: dict[str, int] = {}
        while True:
            if self._calls is Calls.CLAIMS:
                grants = await agent.claim(self._shape.lot, CLAIM_MS)
                group.create_task(self._finish_batch(agent, grants))
                continue
            offers = [grant for grant in await agent.poll(POLL_MS) if seen.get(grant.task_id) != grant.attempt]
            seen = {grant.task_id: grant.attempt for grant in offers} | dict(itertools.islice(seen.items(), 1_000))
            # As a real worker does: what was offered is taken before more is asked for.
            for finish in await self._accept(agent, offers):
                group.create_task(finish)

    async def _accept(self, agent: BenchAgent, offers: list[Grant]) -> list[Coroutine[Any, Any, None]]:
        if self._calls is Calls.BATCHES:
            accepted = await agent.accept_batch(offers)
            return [self._finish_batch(agent, accepted)] if accepted else []
        answers = await asyncio.gather(*(agent.accept(offer) for offer in offers))
        return [self._finish(agent, offer) for offer, taken in zip(offers, answers, strict=True) if taken]

    async def _finish(self, agent: BenchAgent, grant: Grant) -> None:
        if await agent.complete(grant):
            self._ledger.completed(grant.payload.n)

    async def _finish_batch(self, agent: BenchAgent, grants: list[Grant]) -> None:
        for grant in await agent.complete_batch(grants):
            self._ledger.completed(grant.payload.n)


def _with_errors(figures: Figures, errors: int) -> Figures:
    return Figures(figures.rate, figures.p50_ms, figures.p99_ms, figures.requests, errors)


def print_figures(found: list[LifecycleFigures]) -> None:
    """One row for each way of calling."""
    columns = (
        "LIFECYCLES BY", "/S", "P50 MS", "P99 MS", "MEASURED", "ERRORS", "LOST", "DOUBLED", "WRONG", "NODES' MS EACH",
        "CORES",
    )  # fmt: skip
    print_table(columns, (_row(one) for one in found))


def _row(one: LifecycleFigures) -> list[object]:
    figures, faults = one.figures, one.faults
    times = (f"{figures.p50_ms:.1f}", f"{figures.p99_ms:.1f}")
    counts = (figures.requests, figures.errors, faults.lost, faults.doubled, faults.wrong)
    return [str(one.calls), f"{figures.rate:,.0f}", *times, *counts, f"{one.node_ms:.2f}", cores_text(one.cores)]
