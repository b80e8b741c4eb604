"""`hive bench failover`: the leader is killed again and again under load; no acknowledged write may be lost."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hive_client import Client, HiveError

from ops.addresses import free_ports
from ops.failover import kill_leader
from ops.local_cluster import LocalCluster, plan_free_nodes

NODES = 3
WRITERS = 8
SESSION = "failover"
TYPE = "bench"


@dataclass(frozen=True, slots=True)
class FailoverFigures:
    """`acknowledged` tasks were created while leaders died; `lost` of them are not there, `unacknowledged` calls ended
    with an unknown outcome."""

    failover_ms: list[float]
    median_ms: float
    acknowledged: int
    lost: int
    unacknowledged: int


async def run(data_dir: Path, kills: int, say: Callable[[str], None]) -> FailoverFigures:
    """Kill the leader `kills` times while tasks are created; then look for every acknowledged one."""
    cluster = LocalCluster(plan_free_nodes(free_ports(2 * NODES)), data_dir)
    async with Client(cluster.endpoints) as client:
        try:
            await cluster.start()
            await cluster.wait_ready(client)
            await client.sessions.create(session_id=SESSION)
            writes = _Writes(client)
            async with asyncio.TaskGroup() as group:
                writers = [group.create_task(writes.run(number)) for number in range(WRITERS)]
                times_ms = [await _kill_once(cluster, client, say) for _ in range(kills)]
                for writer in writers:
                    writer.cancel()
            found = [t.task_id async for t in client.tasks.iterate(page_size=1000, consistency="linearizable")]
            lost = writes.acknowledged.difference(found)
            return FailoverFigures(
                times_ms,
                statistics.median(times_ms),
                len(writes.acknowledged),
                len(lost),
                writes.unacknowledged,
            )
        finally:
            await cluster.stop()


async def _kill_once(cluster: LocalCluster, client: Client, say: Callable[[str], None]) -> float:
    failover = await kill_leader(cluster, client, SESSION)
    say(f"{failover.killed} killed in term {failover.term_before}: writes again after {failover.failover_ms:.0f} ms")
    await cluster.nodes[failover.killed].start()
    await cluster.wait_ready(client)
    return failover.failover_ms


class _Writes:
    """Creates tasks until cancelled, and remembers which were acknowledged."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.acknowledged: set[str] = set()
        self.unacknowledged = 0

    async def run(self, writer: int) -> None:
        number = 0
        while True:
            number += 1
            task_id = f"failover-{writer}-{number}"
            try:
                await self._client.tasks.create(task_id=task_id, type=TYPE)
            except HiveError:
                self.unacknowledged += 1
            else:
                self.acknowledged.add(task_id)
