"""`hive bench http`: rates and latencies through HTTP, beside etcd's where it is installed.

Both clusters run three nodes with fsync on, on the same disk, at the same time; runs alternate, so that what else the
machine does falls on both. Writes go to the leader, reads to a follower.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_client import Client, TaskFields

from ops.addresses import free_ports
from ops.bench.etcd import EtcdCluster, put_shot, serializable_read_shot
from ops.bench.figures import Figures, median
from ops.bench.generator import Generator
from ops.bench.load import KEYS, Shot, fill
from ops.edge import CommandError
from ops.local_cluster import LocalCluster, plan_free_nodes
from ops.output import print_table

NODES = 3
BATCH_ITEMS = 100
WARM_UP_S = 1.0
READ_DELAY_MS = 30 * 86_400_000
TEXT = "x" * 128
READ_ID = "bench-{k}"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Load:
    """One line of the table: what is asked of Hive and what of etcd (None: it has no such call)."""

    name: str
    connections: int
    hive: Shot
    etcd: Shot | None
    reads: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """Medians of one load on both systems; `ratio` is Hive's rate over etcd's."""

    load: Load
    hive: Figures
    etcd: Figures | None

    @property
    def ratio(self) -> float | None:
        return self.hive.rate / self.etcd.rate if self.etcd is not None and self.etcd.rate > 0 else None

    def to_json(self) -> dict[str, Any]:
        return {
            "load": self.load.name,
            "connections": self.load.connections,
            "hive": self.hive.to_json(),
            "etcd": None if self.etcd is None else self.etcd.to_json(),
            "ratio": self.ratio,
        }


def task_body() -> dict[str, Any]:
    """The task that is created again and again."""
    return {"type": "bench", "title": "benchmark", "payload": {"text": TEXT}}


def compact(document: Any) -> str:
    """JSON without spaces, as a client would send it."""
    return json.dumps(document, separators=(",", ":"))


def plan_loads(connections: Sequence[int]) -> list[Load]:
    """Single creations at each number of connections, batches, stale reads."""
    body = compact(task_body())
    put = put_shot(len(body))
    create = Shot("POST", "/api/tasks", body)
    batch = compact({"items": [task_body()] * BATCH_ITEMS})
    loads = [Load("create one", count, create, put) for count in connections]
    loads.append(
        Load(f"create {BATCH_ITEMS} in a batch", 8, Shot("POST", "/api/tasks/batch", batch, BATCH_ITEMS), None)
    )
    read = Shot("GET", f"/api/tasks/{READ_ID}")
    loads.append(Load("stale read on a follower", 64, read, serializable_read_shot(), reads=True))
    return loads


@dataclass(frozen=True, slots=True)
class Pace:
    """`runs` of `seconds` each are measured, after one to warm up."""

    runs: int
    seconds: float


async def run(data_dir: Path, loads: Sequence[Load], pace: Pace, generator: Generator, say: Say) -> list[Result]:
    """Raises CommandError if a cluster does not start. `say` gets a line for each run."""
    async with AsyncExitStack() as stack:
        cluster = LocalCluster(plan_free_nodes(free_ports(2 * NODES)), data_dir / "hive")
        stack.push_async_callback(cluster.stop)
        await cluster.start()
        client = await stack.enter_async_context(Client(cluster.endpoints))
        await cluster.wait_ready(client)
        await _fill_tasks(client)
        etcd: EtcdCluster | None = None
        if shutil.which("etcd") is not None:
            etcd = EtcdCluster(data_dir / "etcd")
            stack.push_async_callback(etcd.stop)
            await etcd.start()
            await etcd.fill_keys(len(compact(task_body())))
        bench = _Bench(cluster, client, etcd, generator, say)
        return [await bench.measure(load, pace) for load in loads]


async def _fill_tasks(client: Client) -> None:
    """The tasks that are read; never due, so that they do not change."""
    tasks = [TaskFields(task_id=fill(READ_ID, n), type="bench", payload={"text": TEXT}) for n in range(KEYS)]
    for task in tasks:
        task["delay_ms"] = READ_DELAY_MS
    reply = await client.tasks.create_batch(tasks)
    if reply.refused:
        raise CommandError(f"a task was refused: {reply.refused[0].raw}")


@dataclass(frozen=True, slots=True)
class _Bench:
    cluster: LocalCluster
    client: Client
    etcd: EtcdCluster | None
    generator: Generator
    say: Say

    async def measure(self, load: Load, pace: Pace) -> Result:
        hive: list[Figures] = []
        etcd: list[Figures] = []
        for number in range(pace.runs + 1):
            seconds = pace.seconds if number else WARM_UP_S
            name = f"{load.name}, {load.connections} connections, run {number} of {pace.runs}"
            hive.append(await self._fire(load, load.hive, await self._hive_endpoints(), seconds))
            self.say(f"{name}, hive: {hive[-1].rate:,.0f}/s")
            if load.etcd is not None and self.etcd is not None:
                etcd.append(await self._fire(load, load.etcd, await self.etcd.leader_and_follower(), seconds))
                self.say(f"{name}, etcd: {etcd[-1].rate:,.0f}/s")
        # Run 0 was the warm-up.
        return Result(load, median(hive[1:]), median(etcd[1:]) if etcd else None)

    async def _fire(self, load: Load, shot: Shot, endpoints: tuple[str, str], seconds: float) -> Figures:
        leader, follower = endpoints
        return await self.generator.fire(follower if load.reads else leader, shot, load.connections, seconds)

    async def _hive_endpoints(self) -> tuple[str, str]:
        """Leader and a follower; asked before each run, for leadership may have moved."""
        leader = (await self.cluster.wait_leader(self.client)).node_id
        follower = next(plan for plan in self.cluster.plans.values() if plan.node_id != leader)
        return self.cluster.plans[leader].endpoint, follower.endpoint


def print_results(results: Sequence[Result]) -> None:
    """One row for each load."""
    columns = (
        "LOAD", "CONN", "HIVE /s", "P50 MS", "P99 MS", "ERRORS", "ETCD /s", "P50 MS", "P99 MS", "ERRORS", "HIVE/ETCD",
    )  # fmt: skip
    print_table(columns, (_row(result) for result in results))


def _row(result: Result) -> list[object]:
    row: list[object] = [result.load.name, result.load.connections]
    for figures in (result.hive, result.etcd):
        if figures is None:
            row += [None] * 4
        else:
            row += [f"{figures.rate:,.0f}", f"{figures.p50_ms:.2f}", f"{figures.p99_ms:.2f}", figures.errors]
    row.append(None if result.ratio is None else f"{result.ratio:.2f}")
    return row
