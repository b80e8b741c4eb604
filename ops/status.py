"""`hive status`: one row for each node, in the manner of `etcdctl endpoint status -w table`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from hive_client import Client, ClusterStatus, HiveError

from ops.connection import Hive, connected
from ops.edge import CommandError
from ops.output import bytes_text, print_json, print_table

COLUMNS = (
    "ENDPOINT", "NODE", "VERSION", "DB SIZE", "LOG SIZE", "LEADER", "TERM", "APPLIED INDEX", "REVISION", "LAG MS",
    "MEMBERS UP", "ERRORS",
)  # fmt: skip
STATE_BYTES, LOG_BYTES = "hive_state_bytes", "hive_raft_log_bytes"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One endpoint's answer; a node that did not answer has only `errors`."""

    endpoint: str
    node_id: str | None = None
    version: str | None = None
    state_bytes: int | None = None
    log_bytes: int | None = None
    is_leader: bool | None = None
    leader_id: str | None = None
    term: int | None = None
    applied_index: int | None = None
    revision: int | None = None
    lag_ms: int | None = None
    members_connected: int | None = None
    members: int | None = None
    errors: tuple[str, ...] = ()


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("status")(status)


@connected
async def status(
    hive: Hive,
    only_endpoints: Annotated[bool, typer.Option("--only-endpoints", help="Do not look for other members.")] = False,
) -> None:
    """Show every node: role, term, indexes, sizes, alarms. Exit status 1 if one does not answer or none leads."""
    endpoints = hive.client.cluster.endpoints if only_endpoints else await _endpoints(hive.client)
    answers = await asyncio.gather(*(node_status(hive.client, endpoint, hive.timeout_s) for endpoint in endpoints))
    rows = _distinct(answers)
    if hive.as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_table(COLUMNS, (_cells(row) for row in rows))
    silent = [row.endpoint for row in rows if row.node_id is None]
    if silent:
        raise CommandError(f"no answer from {', '.join(silent)}; is the node running? Its log says why it stopped")
    if not any(row.is_leader for row in rows) and all(row.leader_id is None for row in rows):
        raise CommandError("no leader; a majority of the nodes must be up and reach each other")


def _distinct(rows: Iterable[NodeStatus]) -> list[NodeStatus]:
    """One row for a node that is known under two addresses; the first, which is the one that was given."""
    return list({row.node_id or row.endpoint: row for row in reversed(list(rows))}.values())[::-1]


async def _endpoints(client: Client) -> tuple[str, ...]:
    """Those that were given and, if one of them answers, those of the other members."""
    known = client.cluster.endpoints
    for endpoint in known:
        try:
            seen = await client.cluster.status(endpoint=endpoint)
        except HiveError:
            continue
        scheme = endpoint.split("://", 1)[0]
        members = [f"{scheme}://{member.http_address}" for member in seen.members if member.http_address]
        return tuple(dict.fromkeys([*known, *members]))
    return known


async def node_status(client: Client, endpoint: str, timeout_s: float) -> NodeStatus:
    """What one node says of itself. Never raises for a node that does not answer."""
    try:
        async with asyncio.timeout(timeout_s):
            seen = await client.cluster.status(endpoint=endpoint)
            sizes = await _sizes(client, endpoint)
    except HiveError as error:
        return NodeStatus(endpoint, errors=(error.code,))
    except TimeoutError:
        return NodeStatus(endpoint, errors=(f"no answer within {timeout_s} s",))
    return NodeStatus(
        endpoint=endpoint,
        node_id=seen.node_id,
        version=seen.version,
        state_bytes=sizes.get(STATE_BYTES),
        log_bytes=sizes.get(LOG_BYTES),
        is_leader=seen.role == "leader",
        leader_id=seen.leader_id,
        term=seen.term,
        applied_index=seen.applied_index,
        revision=seen.revision,
        lag_ms=None if seen.reply is None else seen.reply.lag_ms,
        members_connected=_connected(seen),
        members=len(seen.members),
        errors=tuple(str(alarm) for alarm in seen.alarms) + (() if seen.has_quorum else ("no quorum",)),
    )


def _connected(seen: ClusterStatus) -> int:
    return sum(member.connected or member.node_id == seen.node_id for member in seen.members)


async def _sizes(client: Client, endpoint: str) -> dict[str, int]:
    try:
        text = await client.cluster.metrics_text(endpoint)
    except HiveError:
        return {}
    return gauges(text, (STATE_BYTES, LOG_BYTES))


def gauges(text: str, names: tuple[str, ...]) -> dict[str, int]:
    """Values of metrics without labels in Prometheus' text form; what is absent is left out."""
    found = {}
    for name in names:
        match = re.search(rf"^{name} ([0-9.eE+-]+)$", text, re.MULTILINE)
        if match is not None:
            found[name] = int(float(match[1]))
    return found


def _cells(row: NodeStatus) -> tuple[object, ...]:
    members = None if row.members is None else f"{row.members_connected}/{row.members}"
    return (
        row.endpoint, row.node_id, row.version, bytes_text(row.state_bytes), bytes_text(row.log_bytes), row.is_leader,
        row.term, row.applied_index, row.revision, row.lag_ms, members, "; ".join(row.errors),
    )  # fmt: skip
