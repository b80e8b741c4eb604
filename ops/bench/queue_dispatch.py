"""How long a task takes from its creation to the handler of an idle agent: real workers, tasks evenly paced.

Open loop: a creation is sent when it is due, however long others take.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ops.bench.figures import quantile
from ops.bench.queue_calls import Caller, encode
from ops.bench.queue_processes import Cores, cores_text
from ops.bench.queue_site import Say, Site
from ops.bench.queue_worker import READY
from ops.edge import CommandError
from ops.output import print_table
from ops.process import ChildProcess, describe_exit

AGENTS, SLOTS = 32, 2
LIMIT_S = 60.0
STOP_S = 30.0
SAMPLE_S = 0.05
WORKER = "workers"
UNDER_WAY = ("blocked", "scheduled", "pending", "assigned", "running")


@dataclass(frozen=True, slots=True)
class DispatchFigures:
    """`created` creations at `per_second`. Latencies from a creation's call to its handler's. `late_ms`: how late the
    creations were sent, 99th percentile. `lost`: acknowledged and never handled; `doubled`: handled more than once."""

    per_second: float
    created: int
    errors: int
    lost: int
    doubled: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    worst_ms: float
    late_ms: float
    cores: Cores

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Pace:
    """`seconds` are measured, `runs` times, each after `warm_up_s`."""

    per_second: float
    seconds: float
    warm_up_s: float
    runs: int


async def measure(site: Site, pace: Pace, data_dir: Path, say: Say) -> DispatchFigures:
    """The medians of the runs; counts are summed."""
    runs = []
    for number in range(pace.runs):
        runs.append(await _run(site, pace, data_dir / f"handled-{number}.json", f"dispatch-{number}"))
        last = runs[-1]
        say(f"dispatch, run {number + 1} of {pace.runs}: p50 {last.p50_ms:.1f} ms, p99 {last.p99_ms:.1f} ms")
    return combine(runs)


def combine(runs: list[DispatchFigures]) -> DispatchFigures:
    """Medians of times and loads, sums of counts."""

    return DispatchFigures(
        per_second=runs[0].per_second,
        created=sum(run.created for run in runs),
        errors=sum(run.errors for run in runs),
        lost=sum(run.lost for run in runs),
        doubled=sum(run.doubled for run in runs),
        p50_ms=statistics.median(run.p50_ms for run in runs),
        p99_ms=statistics.median(run.p99_ms for run in runs),
        p999_ms=statistics.median(run.p999_ms for run in runs),
        worst_ms=statistics.median(run.worst_ms for run in runs),
        late_ms=statistics.median(run.late_ms for run in runs),
        cores={name: statistics.median(run.cores[name] for run in runs) for name in runs[0].cores},
    )


async def _run(site: Site, pace: Pace, report: Path, name: str) -> DispatchFigures:
    options = {
        "--endpoints": ",".join(caller.endpoint for caller in site.callers),
        "--agents": str(AGENTS),
        "--slots": str(SLOTS),
        "--name": name,
        "--report": str(report),
    }
    words = [word for pair in options.items() for word in pair]
    command = [sys.executable, "-P", "-m", "ops.bench.queue_worker", *words]
    worker = ChildProcess(name, command, None, stdout=subprocess.PIPE)
    await site.find_leader()
    await worker.start()
    try:
        await _until_ready(worker)
        await _create(site, pace.per_second, round(pace.per_second * pace.warm_up_s), first=-1)
        meter = site.meter({WORKER: worker.pid})
        sent = await _create(site, pace.per_second, round(pace.per_second * pace.seconds), first=0)
        cores = meter.read()
        await _until_done(site)
    finally:
        await worker.stop(STOP_S)
    if worker.status != 0:
        raise CommandError(f"the workers ended with {describe_exit(worker.status)}")
    return figures(pace.per_second, sent, await asyncio.to_thread(_handled, report), cores)


def _handled(report: Path) -> list[tuple[int, int]]:
    return [(number, latency_us) for number, latency_us in json.loads(report.read_text(encoding="utf-8"))]


async def _until_ready(worker: ChildProcess) -> None:
    lines: list[str] = []
    async with asyncio.timeout(LIMIT_S):
        while line := (await worker.output.readline()).decode("utf-8", "replace").strip():
            if line == READY:
                return
            lines.append(line)
    raise CommandError(f"the workers did not start: {lines[-1] if lines else 'they said nothing'}")


async def _until_done(site: Site) -> None:
    """Until every task has ended; what has not in time is counted as lost."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        counts = await site.task_counts()
        if not any(counts.get(status, 0) for status in UNDER_WAY):
            return
        await asyncio.sleep(SAMPLE_S)


@dataclass(slots=True)
class Sent:
    """The creations of one run: the numbers of those acknowledged, how late each was sent, errors."""

    acknowledged: list[int]
    late_ms: list[float]
    errors: int = 0


async def _create(site: Site, per_second: float, count: int, first: int) -> Sent:
    """Create `count` tasks, evenly paced and numbered from `first`; a negative number is not measured."""
    sent = Sent([], [])
    started_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for index in range(count):
            due_s = started_s + index / per_second
            if (wait_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            number = first + index if first >= 0 else first
            group.create_task(_create_one(site.caller(index), number, due_s, sent))
    return sent


async def _create_one(caller: Caller, number: int, due_s: float, sent: Sent) -> None:
    sent_ns = time.monotonic_ns()
    sent.late_ms.append((sent_ns / 1e9 - due_s) * 1_000)
    body = {"type": "bench", "payload": {"n": number, "sent_ns": sent_ns}}
    try:
        reply = await caller.send("POST", "/api/tasks", encode(body))
    except (OSError, ValueError):
        sent.errors += 1
        return
    if reply.status == 201:
        sent.acknowledged.append(number)
    else:
        sent.errors += 1


def figures(per_second: float, sent: Sent, handled: list[tuple[int, int]], cores: Cores) -> DispatchFigures:
    """`handled`: number and latency in microseconds of each call of a handler."""
    measured = [(number, latency_us) for number, latency_us in handled if number >= 0]
    ordered = sorted(latency_us / 1_000 for _, latency_us in measured)
    numbers = {number for number, _ in measured}
    p50_ms, p99_ms, p999_ms, worst_ms = (quantile(ordered, share) for share in (0.50, 0.99, 0.999, 1.0))
    return DispatchFigures(
        per_second,
        len(sent.late_ms),
        sent.errors,
        len(set(sent.acknowledged).difference(numbers)),
        len(measured) - len(numbers),
        p50_ms,
        p99_ms,
        p999_ms,
        worst_ms,
        quantile(sorted(sent.late_ms), 0.99),
        cores,
    )


def print_figures(found: DispatchFigures) -> None:
    """One row."""
    columns = (
        "CREATED/S", "TASKS", "TO HANDLER P50 MS", "P99 MS", "P99.9 MS", "WORST MS",
        "SENT LATE P99 MS", "ERRORS", "LOST", "DOUBLED", "CORES",
    )  # fmt: skip
    times = (found.p50_ms, found.p99_ms, found.p999_ms, found.worst_ms, found.late_ms)
    counts = (found.errors, found.lost, found.doubled)
    row = [f"{found.per_second:g}", found.created, *(f"{time_ms:.1f}" for time_ms in times), *counts]
    print_table(columns, [[*row, cores_text(found.cores)]])
