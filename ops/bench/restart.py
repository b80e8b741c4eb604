"""`hive bench restart`: how long a node that holds many events takes to serve again after SIGKILL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hive_client import Client
from hive_client.models import EventFields

from ops.addresses import free_ports
from ops.edge import CommandError
from ops.local_cluster import LocalCluster, plan_free_nodes
from ops.rawhttp import RawConnection, encode_request

EVENTS_PER_REQUEST = 1_000
WRITERS = 8
POLL_S = 0.005
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class RestartFigures:
    """From the start of the process to the first stale read that has the last event, and to `/readyz`."""

    events: int
    load_events_per_second: float
    stale_read_s: float
    ready_s: float


async def run(data_dir: Path, nodes: int, events: int, say: Callable[[str], None]) -> RestartFigures:
    """Kills the last follower; with one node, that node."""
    cluster = LocalCluster(plan_free_nodes(free_ports(2 * nodes)), data_dir)
    async with Client(cluster.endpoints) as client:
        try:
            await cluster.start()
            await cluster.wait_ready(client)
            started_at = time.monotonic()
            last_seqs = await _write_events(client, events, say)
            rate = events / (time.monotonic() - started_at)
            leader = await cluster.wait_leader(client)
            victim = next((n for n in reversed(list(cluster.plans)) if n != leader.node_id), leader.node_id)
            await _wait_holds(cluster.plans[victim].endpoint, last_seqs)
            await cluster.nodes[victim].kill()
            say(f"{victim} was killed with {sum(last_seqs.values()):,} events; starting it again")
            restarted_at = time.monotonic()
            await cluster.nodes[victim].start()
            await _wait_holds(cluster.plans[victim].endpoint, last_seqs)
            stale_read_s = time.monotonic() - restarted_at
            await cluster.wait_node_ready(client, victim)
            return RestartFigures(events, rate, stale_read_s, time.monotonic() - restarted_at)
        finally:
            await cluster.stop()


async def _write_events(client: Client, events: int, say: Callable[[str], None]) -> dict[str, int]:
    """Spread over as many sessions as writers; returns the last seq of each."""
    shares = [events // WRITERS + (number < events % WRITERS) for number in range(WRITERS)]
    sessions = {f"restart-{number}": share for number, share in enumerate(shares) if share}
    written = 0

    async def write(session_id: str, share: int) -> None:
        nonlocal written
        await client.sessions.create(session_id=session_id)
        for first in range(0, share, EVENTS_PER_REQUEST):
            count = min(EVENTS_PER_REQUEST, share - first)
            items = [
                EventFields(type="custom.bench", data={"number": first + n, "text": "x" * 64}) for n in range(count)
            ]
            await client.sessions.append_batch(session_id, items)
            before, written = written, written + count
            if written * 10 // events != before * 10 // events:
                say(f"{written:,} of {events:,} events")

    await asyncio.gather(*(write(session_id, share) for session_id, share in sessions.items()))
    return sessions


async def _wait_holds(endpoint: str, last_seqs: dict[str, int]) -> None:
    """Until stale reads of this node show the last event of every session."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for session_id, last_seq in last_seqs.items():
                target = f"/api/sessions/{session_id}/events?after_seq={last_seq - 1}&limit=1"
                while not await _answers(endpoint, target, last_seq):
                    await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise CommandError(f"{endpoint} did not serve all events within {TIMEOUT_S:.0f} s") from None


async def _answers(endpoint: str, target: str, last_seq: int) -> bool:
    try:
        connection = await RawConnection.connect(endpoint)
    except OSError:
        return False
    try:
        reply = await connection.exchange(encode_request("GET", endpoint, target))
    except (OSError, ValueError):
        return False
    finally:
        connection.close()
    return reply.status == 200 and f'"seq":{last_seq}'.encode() in reply.body.replace(b" ", b"")
