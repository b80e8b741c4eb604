"""`hive bench`: measurements that anyone can repeat."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer
import uvloop

from ops.bench import failover as failover_bench
from ops.bench import http as http_bench
from ops.bench import join as join_bench
from ops.bench import queue as queue_bench
from ops.bench import restart as restart_bench
from ops.bench.generator import Generator
from ops.bench.machine import MEMORY_FILE_SYSTEMS, describe_machine, file_system
from ops.edge import FAILED, CommandError, UsageError, guarded
from ops.interrupt import unless_stopped
from ops.output import bytes_text, print_fields, print_json, print_table

app = typer.Typer(help="Measure, on this machine.", no_args_is_help=True)

T = TypeVar("T")

DataDirOption = Annotated[
    Path,
    typer.Option("--data-dir", help="Where the nodes' data is put while it runs; on the disk to be measured."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("http")
@guarded
def http(
    runs: Annotated[int, typer.Option("--runs", min=1, help="Medians are taken over these.")] = 3,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Of each run.")] = 5.0,
    connections: Annotated[str, typer.Option("--connections", help="For single creations.")] = "1,16,64,256",
    own_generator: Annotated[bool, typer.Option("--own-generator", help="Do not use wrk.")] = False,
    data_dir: DataDirOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Creations, batches and stale reads on three nodes, beside three etcd nodes where etcd is installed."""
    try:
        counts = [int(text) for text in connections.split(",")]
    except ValueError as error:
        raise UsageError("--connections is a list of numbers, for example 1,64") from error
    if not all(1 <= count <= 10_000 for count in counts):
        raise UsageError("--connections are numbers from 1 to 10000")
    with _work_dir(data_dir) as work_dir:
        machine = describe_machine(work_dir)
        generator = Generator(work_dir, own=own_generator)
        loads = http_bench.plan_loads(counts)
        results = _run(lambda: http_bench.run(work_dir, loads, http_bench.Pace(runs, seconds), generator, _say))
    if as_json:
        document = {
            "machine": machine,
            "generator": generator.name,
            "results": [r.to_json() for r in results],
        }
        print_json(document)
    else:
        print_fields({**machine, "generator": generator.name, "runs": f"median of {runs}, {seconds:g} s each"})
        http_bench.print_results(results)


@app.command("restart")
@guarded
def restart(
    events: Annotated[int, typer.Option("--events", min=1)] = 1_000_000,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=9)] = 3,
    data_dir: DataDirOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Write many events, kill a node, and measure the time until it serves stale reads of them again."""
    with _work_dir(data_dir) as work_dir:
        machine = describe_machine(work_dir)
        figures = _run(lambda: restart_bench.run(work_dir, nodes, events, _say))
    if as_json:
        print_json({"machine": machine, **asdict(figures)})
    else:
        print_fields(
            {
                **machine,
                "events": f"{figures.events:,}, written at {figures.load_events_per_second:,.0f}/s",
                "stale reads after": f"{figures.stale_read_s:.2f} s",
                "ready after": f"{figures.ready_s:.2f} s",
            }
        )


@app.command("failover")
@guarded
def failover(
    kills: Annotated[int, typer.Option("--kills", min=1)] = 10,
    data_dir: DataDirOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Kill the leader again and again under load. Exit status 1 if an acknowledged write was lost."""
    with _work_dir(data_dir) as work_dir:
        machine = describe_machine(work_dir)
        figures = _run(lambda: failover_bench.run(work_dir, kills, _say))
    if as_json:
        print_json({"machine": machine, **asdict(figures)})
    else:
        times = ", ".join(f"{time_ms:.0f}" for time_ms in figures.failover_ms)
        print_fields(
            {
                **machine,
                "failover ms": f"{times}; median {figures.median_ms:.0f}",
                "acknowledged writes": figures.acknowledged,
                "lost": str(figures.lost),
                "outcome unknown": str(figures.unacknowledged),
            }
        )
    if figures.lost:
        raise typer.Exit(FAILED)


@app.command("join")
@guarded
def join(
    size: Annotated[
        str, typer.Option("--bytes", metavar="SIZE", help="State that the cluster holds, such as 64MiB or 1GiB.")
    ] = "256MiB",
    connections: Annotated[int, typer.Option("--connections", min=1, max=1_000, help="Of the single writes.")] = 8,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Of writes before the new node comes.")] = 10.0,
    data_dir: DataDirOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Let a node join a cluster that holds much state, while single writes go on."""
    plan = join_bench.Plan(bytes_of(size), connections, seconds)
    with _work_dir(data_dir) as work_dir:
        machine = describe_machine(work_dir)
        figures = _run(lambda: join_bench.run(work_dir, plan, _say))
    if as_json:
        print_json({"machine": machine, **figures.to_json()})
        return
    print_fields(
        {
            **machine,
            "state": f"{bytes_text(figures.state_bytes)}, of {bytes_text(figures.bytes)} of events",
            "the new node": f"has it after {figures.caught_up_s:.1f} s, votes after {figures.voter_s:.1f} s",
        }
    )
    columns = ("SINGLE WRITES", "CONN", "WRITES", "ERRORS", "P50 MS", "P99 MS", "P99.9 MS", "WORST MS")
    phases = {"before": figures.before, "until it has it": figures.shipping, "until it votes": figures.during}
    print_table(columns, (_join_row(name, connections, phase) for name, phase in phases.items()))


@app.command("queue")
@guarded
def queue(
    phases: Annotated[
        str, typer.Option("--phases", help="Of lifecycle, batches, decisions, memory, dispatch; the order is fixed.")
    ] = ",".join(queue_bench.Phase),
    pending: Annotated[int, typer.Option("--pending", min=2, help="Pending tasks of the backlog.")] = 1_000_000,
    agents: Annotated[int, typer.Option("--agents", min=2, help="Agents that listen to the backlog.")] = 10_000,
    rate: Annotated[float, typer.Option("--rate", min=1, help="Creations a second for dispatch.")] = 500.0,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Of each timed run.")] = 10.0,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Medians are taken over these.")] = 3,
    data_dir: DataDirOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Lifecycles, assignment decisions, memory and dispatch latency on three nodes. Exit status 1 if a task was lost or
    done twice."""
    plan = queue_bench.Plan(phases_of(phases), pending, agents, seconds, runs, rate)
    with _work_dir(data_dir) as work_dir:
        machine = describe_machine(work_dir)
        figures = _run(lambda: queue_bench.run(work_dir, plan, _say), uvloop.new_event_loop)
    if as_json:
        print_json({"machine": machine, **figures.to_json()})
    else:
        print_fields({**machine, "runs": f"median of {runs}"})
        queue_bench.print_figures(figures)
    if figures.faulty:
        raise typer.Exit(FAILED)


def phases_of(text: str) -> frozenset[queue_bench.Phase]:
    """`lifecycle,memory` as phases. Raises UsageError."""
    try:
        return frozenset(queue_bench.Phase(name.strip()) for name in text.split(","))
    except ValueError as error:
        raise UsageError(f"--phases {text!r}: they are {', '.join(queue_bench.Phase)}") from error


def _join_row(name: str, connections: int, phase: join_bench.Latencies) -> list[object]:
    times = (phase.p50_ms, phase.p99_ms, phase.p999_ms, phase.worst_ms)
    return [name, connections, phase.writes, phase.errors, *(f"{time_ms:.2f}" for time_ms in times)]


_UNITS = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def bytes_of(text: str) -> int:
    """64MiB, 1GB or 1000000 as a number. Raises UsageError."""
    found = re.fullmatch(r"([0-9]{1,12})\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in _UNITS or int(found[1]) == 0:
        raise UsageError(f"--bytes {text!r} is no size; say for example 64MiB or 1GiB")
    return int(found[1]) * _UNITS[found[2]]


@contextmanager
def _work_dir(data_dir: Path) -> Iterator[Path]:
    """A directory of its own under `data_dir`, gone afterwards."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        work_dir = Path(tempfile.mkdtemp(prefix=".hive-bench-", dir=data_dir.resolve()))
    except OSError as error:
        raise CommandError(f"cannot write to {data_dir}: {error.strerror}; give another --data-dir") from error
    if file_system(work_dir) in MEMORY_FILE_SYSTEMS:
        _say(f"{data_dir} is in memory, where fsync costs nothing; --data-dir on a disk gives honest figures")
    try:
        yield work_dir
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)


def _run(work: Callable[[], Awaitable[T]], new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """`new_loop`: for a measurement whose own cost would count on the default one."""

    async def interruptible() -> T:
        return await unless_stopped(work())

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(interruptible())


def _say(text: str) -> None:
    typer.echo(text, err=True)
