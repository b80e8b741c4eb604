"""`hive bench join`: a cluster that holds a large state gets a new node while single writes go on."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hive_client import Client
from hive_client.models import EventFields

from ops.addresses import free_ports
from ops.bench.figures import quantile
from ops.edge import CommandError
from ops.local_cluster import LocalCluster, NodePlan, plan_free_nodes
from ops.output import bytes_text
from ops.rawhttp import RawConnection, encode_request
from ops.status import STATE_BYTES, gauges

NODES = 3
EVENT_BYTES = 64 << 10
EVENTS_PER_REQUEST = 12
"""768 KiB a request, well under 1 MiB."""

FILLERS = 4
RETRY_S = 0.05
DELAY_MS = 30 * 86_400_000
"""The tasks that are created are never due, so that nothing else happens to them."""

SNAPSHOT_TIMEOUT_S = 600.0
JOIN_TIMEOUT_S = 3_600.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of the single writes of one phase, whole requests. `errors`: answers other than 2xx, broken connections."""

    writes: int
    errors: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    worst_ms: float

    @classmethod
    def of(cls, latencies_ms: Sequence[float], errors: int) -> Latencies:
        ordered = sorted(latencies_ms)
        p50_ms, p99_ms, p999_ms, worst_ms = (quantile(ordered, share) for share in (0.50, 0.99, 0.999, 1.0))
        return cls(len(ordered), errors, p50_ms, p99_ms, p999_ms, worst_ms)


@dataclass(frozen=True, slots=True)
class JoinFigures:
    """`bytes` of events were written; `state_bytes` is the leader's state on disk. From the start of the new node's
    process it takes `caught_up_s` until it is ready, and `voter_s` until the cluster says that it votes, which it does
    when it has been stable for a while. `shipping` are the writes until it was ready, `during` those until it voted."""

    bytes: int
    state_bytes: int
    caught_up_s: float
    voter_s: float
    connections: int
    before: Latencies
    shipping: Latencies
    during: Latencies

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Tape:
    latencies_ms: list[float] = field(default_factory=list)
    errors: int = 0

    def played(self) -> Latencies:
        """The figures of all that is on it."""
        return Latencies.of(self.latencies_ms, self.errors)

    def rewind(self) -> None:
        self.latencies_ms, self.errors = [], 0


@dataclass(frozen=True, slots=True)
class Plan:
    """So much state, then `seconds` of writes over so many connections before the node joins. `options` are further
    ones of each node."""

    state_bytes: int
    connections: int
    seconds: float
    options: tuple[str, ...] = ()


async def run(data_dir: Path, plan: Plan, say: Say) -> JoinFigures:
    """Raises CommandError if a node gives up. `say` gets a line for each step."""
    *founders, newcomer = plan_free_nodes(free_ports(2 * (NODES + 1)))
    cluster = LocalCluster(founders, data_dir, options=plan.options)
    async with Client(cluster.endpoints) as client:
        try:
            await cluster.start()
            await cluster.wait_ready(client)
            await _fill(client, plan.state_bytes, say)
            # Without its log the state can only come as a snapshot.
            await asyncio.gather(*(_snapshot(plan.endpoint) for plan in founders))
            return await _measure(cluster, client, plan, newcomer, say)
        finally:
            await cluster.stop()


async def _measure(cluster: LocalCluster, client: Client, plan: Plan, newcomer: NodePlan, say: Say) -> JoinFigures:
    leader_id = (await cluster.wait_leader(client)).node_id
    endpoint = cluster.plans[leader_id].endpoint
    state_bytes = gauges(await client.cluster.metrics_text(endpoint), (STATE_BYTES,))[STATE_BYTES]
    # The leader first: a write through it is one hop shorter. The others stand in should it change.
    endpoints = sorted(cluster.endpoints, key=lambda other: other != endpoint)
    tape = _Tape()
    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(_write(endpoints, tape)) for _ in range(plan.connections)]
        await asyncio.sleep(plan.seconds)
        before = tape.played()
        say(f"before: {_line(before)}; now {newcomer.node_id} joins")
        tape.rewind()
        started_at = time.monotonic()
        await cluster.join(newcomer)
        await _within_limit(cluster.wait_node_ready(client, newcomer.node_id), f"{newcomer.node_id} was not ready")
        caught_up_s, shipping = time.monotonic() - started_at, tape.played()
        say(f"until it has the state, {caught_up_s:.1f} s: {_line(shipping)}")
        await _within_limit(client.cluster.wait_voter(newcomer.node_id), f"{newcomer.node_id} did not vote")
        voter_s, during = time.monotonic() - started_at, tape.played()
        say(f"until it votes, {voter_s:.1f} s: {_line(during)}")
        for writer in writers:
            writer.cancel()
    return JoinFigures(plan.state_bytes, state_bytes, caught_up_s, voter_s, plan.connections, before, shipping, during)


async def _within_limit(waiting: Awaitable[object], what_if_not: str) -> None:
    """Raises CommandError when time is over."""
    try:
        async with asyncio.timeout(JOIN_TIMEOUT_S):
            await waiting
    except TimeoutError:
        raise CommandError(f"{what_if_not} within {JOIN_TIMEOUT_S:.0f} s") from None


async def _fill(client: Client, state_bytes: int, say: Say) -> None:
    """So many bytes of event data, over as many sessions as fillers. They cannot be compressed away."""
    requests = -(-state_bytes // (EVENT_BYTES * EVENTS_PER_REQUEST))
    numbers, done = iter(range(requests)), 0

    async def fill(session_id: str) -> None:
        nonlocal done
        await client.sessions.create(session_id=session_id)
        for _ in numbers:
            data = {"text": secrets.token_hex(EVENT_BYTES // 2)}
            await client.sessions.append_batch(
                session_id, [EventFields(type="custom.bench", data=data)] * EVENTS_PER_REQUEST
            )
            done += 1
            if done * 10 // requests != (done - 1) * 10 // requests:
                say(f"{done * 100 // requests} % of {bytes_text(state_bytes)} written")

    await asyncio.gather(*(fill(f"join-{number}") for number in range(FILLERS)))


async def _snapshot(endpoint: str) -> None:
    async with Client(endpoint, timeout_s=SNAPSHOT_TIMEOUT_S) as client:
        await client.cluster.snapshot()


async def _write(endpoints: Sequence[str], tape: _Tape) -> None:
    """One creation after the other until cancelled, on one connection while it lasts."""
    body = json.dumps({"type": "bench", "title": "benchmark", "delay_ms": DELAY_MS}).encode()
    for endpoint in itertools.cycle(endpoints):
        request = encode_request("POST", endpoint, "/api/tasks", body)
        try:
            connection = await RawConnection.connect(endpoint)
        except OSError:
            tape.errors += 1
            await asyncio.sleep(RETRY_S)
            continue
        try:
            while True:
                sent_at = time.perf_counter()
                reply = await connection.exchange(request)
                tape.latencies_ms.append((time.perf_counter() - sent_at) * 1000)
                tape.errors += reply.status >= 300
        except (OSError, ValueError):
            tape.errors += 1
        finally:
            connection.close()


def _line(figures: Latencies) -> str:
    return f"p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms, p99.9 {figures.p999_ms:.1f} ms"
