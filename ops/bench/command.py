"""`hive bench`: measurements that anyone can repeat."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ops.bench import failover as failover_bench
from ops.bench import http as http_bench
from ops.bench import restart as restart_bench
from ops.bench.generator import Generator
from ops.bench.machine import MEMORY_FILE_SYSTEMS, describe_machine, file_system
from ops.edge import FAILED, CommandError, UsageError, guarded
from ops.interrupt import unless_stopped
from ops.output import print_fields, print_json

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


def _run(work: Callable[[], Awaitable[T]]) -> T:
    async def interruptible() -> T:
        return await unless_stopped(work())

    return asyncio.run(interruptible())


def _say(text: str) -> None:
    typer.echo(text, err=True)
