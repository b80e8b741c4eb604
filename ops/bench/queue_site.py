"""The three nodes that a phase of `hive bench queue` runs on, and the way to them."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import msgspec
from hive_client import Client

from ops.addresses import free_ports
from ops.bench.queue_calls import Caller
from ops.bench.queue_processes import CpuMeter
from ops.edge import CommandError
from ops.local_cluster import LocalCluster, plan_free_nodes
from ops.status import STATE_BYTES, gauges

NODES = 3
SPARE_FILES = 512
"""Open files of a process beside the agents' polls."""

Say = Callable[[str], None]


class _Counts(msgspec.Struct):
    tasks: dict[str, int] = {}


class _Status(msgspec.Struct):
    counts: _Counts


class _Live(msgspec.Struct):
    open_poll: bool


class _Agent(msgspec.Struct):
    live: _Live | None


class _Agents(msgspec.Struct):
    items: list[_Agent]
    next_cursor: str | None


_status = msgspec.json.Decoder(_Status)
_agents = msgspec.json.Decoder(_Agents)


@dataclass(slots=True)
class Site:
    """A cluster that is ready. `callers` has one for each node, the leader's first; agents are spread over all."""

    cluster: LocalCluster
    client: Client
    callers: list[Caller]
    leader_id: str = ""

    @property
    def leader(self) -> Caller:
        return self.callers[0]

    def caller(self, number: int) -> Caller:
        """The one for agent or creator `number`."""
        return self.callers[number % len(self.callers)]

    @property
    def pids(self) -> dict[str, int]:
        return {node_id: node.pid for node_id, node in self.cluster.nodes.items()}

    @property
    def errors(self) -> int:
        """Calls that were not answered, up to now."""
        return sum(caller.errors for caller in self.callers)

    def meter(self, others: dict[str, int] | None = None) -> CpuMeter:
        return CpuMeter(self.pids, self.leader_id, others)

    async def task_counts(self) -> dict[str, int]:
        """Tasks by status, as the leader has them."""
        return _status.decode(await self.leader.require("GET", "/api/status/cluster")).counts.tasks

    async def listening(self) -> int:
        """How many agents have an open poll, as the leader knows it."""
        first = "/api/agents?live=true&fields=live&limit=1000"
        count, target = 0, first
        while True:
            page = _agents.decode(await self.leader.require("GET", target))
            count += sum(agent.live is not None and agent.live.open_poll for agent in page.items)
            if page.next_cursor is None:
                return count
            target = f"{first}&cursor={quote(page.next_cursor)}"

    async def state_bytes(self) -> int:
        """The leader's state on disk."""
        return gauges(await self.client.cluster.metrics_text(self.leader.endpoint), (STATE_BYTES,))[STATE_BYTES]

    async def find_leader(self) -> None:
        """Look who leads now; to be asked before each run, for leadership may have moved."""
        self.leader_id = (await self.cluster.wait_leader(self.client)).node_id
        endpoint = self.cluster.plans[self.leader_id].endpoint
        self.callers.sort(key=lambda caller: caller.endpoint != endpoint)


@asynccontextmanager
async def site(data_dir: Path, options: Sequence[str] = ()) -> AsyncIterator[Site]:
    """Three nodes, stopped afterwards. `options` are further ones of each."""
    cluster = LocalCluster(plan_free_nodes(free_ports(2 * NODES)), data_dir, options=options)
    async with Client(cluster.endpoints) as client:
        place = Site(cluster, client, [Caller(endpoint) for endpoint in cluster.endpoints])
        try:
            await cluster.start()
            await cluster.wait_ready(client)
            await place.find_leader()
            yield place
        finally:
            for caller in place.callers:
                caller.close()
            await cluster.stop()


def allow_files(agents: int) -> None:
    """Let this process, and the nodes it starts, have a connection open for each agent. Raises CommandError."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = agents + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise CommandError(f"{agents} open polls need {wanted} open files, {hard} are allowed; raise `ulimit -n`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
