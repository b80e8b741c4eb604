"""Real nodes in real processes, for the tests that need them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from hive_client import Client

from ops.addresses import free_ports
from ops.local_cluster import LocalCluster, plan_free_nodes

# Generous: the machine may be busy with other tests. Nothing waits for it unless something is wrong.
LIMIT_S = 120.0


def on_cluster(data_dir: Path, nodes: int, scenario: Callable[[LocalCluster, Client], Awaitable[None]]) -> None:
    """Run a scenario on a cluster that is ready, and stop all of it."""

    async def run() -> None:
        cluster = LocalCluster(plan_free_nodes(free_ports(2 * nodes)), data_dir)
        async with asyncio.timeout(LIMIT_S), Client(cluster.endpoints) as client:
            try:
                await cluster.start()
                await cluster.wait_ready(client)
                await scenario(cluster, client)
            finally:
                await cluster.stop()

    asyncio.run(run())
