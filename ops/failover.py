"""Kill the leader, and measure how long no write was acknowledged."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from hive_client import Client

from ops.edge import CommandError
from ops.local_cluster import LocalCluster
from ops.rawhttp import RawConnection, encode_request

PROBE = "custom.failover_probe"
PROBE_TIMEOUT_MS = 5_000
RETRY_S = 0.002
FAILOVER_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Failover:
    """`failover_ms`: from just before SIGKILL to the first acknowledged write on a survivor, both on one clock."""

    killed: str
    term_before: int
    failover_ms: float


async def kill_leader(cluster: LocalCluster, client: Client, session_id: str) -> Failover:
    """SIGKILL the leader, then append to `session_id` on all survivors at once until one acknowledges.

    Raises CommandError if no write is acknowledged within a minute.
    """
    leader = await cluster.wait_leader(client)
    survivors = [p.endpoint for p in cluster.plans.values() if p.node_id != leader.node_id]
    killed_at = time.monotonic()
    await cluster.nodes[leader.node_id].kill()
    probes = [asyncio.create_task(_until_acknowledged(endpoint, session_id)) for endpoint in survivors]
    try:
        async with asyncio.timeout(FAILOVER_LIMIT_S):
            done, _ = await asyncio.wait(probes, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        raise CommandError(f"no write was acknowledged within {FAILOVER_LIMIT_S:.0f} s of the leader's death") from None
    finally:
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
    acknowledged_at = min(task.result() for task in done)
    return Failover(leader.node_id, leader.term, (acknowledged_at - killed_at) * 1000)


async def _until_acknowledged(endpoint: str, session_id: str) -> float:
    """The monotonic time of the first 201 from this node."""
    body = json.dumps({"type": PROBE, "data": {"endpoint": endpoint}}).encode()
    target = f"/api/sessions/{session_id}/events?timeout_ms={PROBE_TIMEOUT_MS}"
    request = encode_request("POST", endpoint, target, body)
    while True:
        try:
            connection = await RawConnection.connect(endpoint)
        except OSError:
            await asyncio.sleep(RETRY_S)
            continue
        try:
            while (await connection.exchange(request)).status != 201:
                await asyncio.sleep(RETRY_S)
            return time.monotonic()
        except (OSError, ValueError):
            await asyncio.sleep(RETRY_S)
        finally:
            connection.close()
