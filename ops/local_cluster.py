"""A cluster on this machine, each node a process of its own: for `hive dev`, the demonstration and the benchmarks."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hive_client import Client, ClusterStatus, HiveError

from ops.addresses import HOST
from ops.edge import CommandError
from ops.node import node_command
from ops.process import ChildProcess, describe_exit

SECRET_BYTES = 32
STOP_GRACE_S = 10.0
START_TIMEOUT_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node's id and its two ports on the loopback interface."""

    node_id: str
    http_port: int
    peer_port: int

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.http_port}"


def plan_nodes(count: int, http_port: int) -> list[NodePlan]:
    """n1, n2, …: HTTP ports ten apart, the peer port beside each."""
    return [NodePlan(f"n{i + 1}", http_port + 10 * i, http_port + 10 * i + 1) for i in range(count)]


def plan_free_nodes(ports: Sequence[int]) -> list[NodePlan]:
    """As many nodes as there are pairs of ports."""
    pairs = zip(ports[::2], ports[1::2], strict=True)
    return [NodePlan(f"n{i}", http, peer) for i, (http, peer) in enumerate(pairs, start=1)]


class LocalCluster:
    """Processes of one cluster. The same plans and directory again start the same cluster again.

    `plans` are of the nodes that found it and of those that `join` it later. Nodes write their logs to
    `<data_dir>/<node>.log`, or to pipes with `log_to_pipes`.
    """

    def __init__(
        self,
        plans: Sequence[NodePlan],
        data_dir: Path,
        *,
        log_to_pipes: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        self.plans = {plan.node_id: plan for plan in plans}
        self._founders = tuple(plans)
        self.data_dir = data_dir
        self._options = list(options)
        self._log_to_pipes = log_to_pipes
        self.nodes: dict[str, ChildProcess] = {}

    @property
    def endpoints(self) -> list[str]:
        return [plan.endpoint for plan in self.plans.values()]

    async def start(self) -> None:
        """Start all nodes; returns at once. `wait_ready` waits until they serve."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        secret_path = make_secret(self.data_dir)
        for plan in self.plans.values():
            self._prepare(plan, self._founding(secret_path))
        await asyncio.gather(*(node.start() for node in self.nodes.values()))

    async def join(self, plan: NodePlan, endpoint: str | None = None) -> None:
        """Start a further node, which asks `endpoint` (default: all) to let it in; returns at once."""
        asked = endpoint or ",".join(self.endpoints)
        self.plans[plan.node_id] = plan
        self._prepare(plan, {"--join": asked, "--cluster-secret-file": str(make_secret(self.data_dir))})
        await self.nodes[plan.node_id].start()

    def forget(self, node_id: str) -> None:
        """Leave out a node that was removed from the cluster and has ended."""
        del self.plans[node_id], self.nodes[node_id]

    def _founding(self, secret_path: Path) -> dict[str, str]:
        """What the founders are told. One alone is told no members, but has the secret: others may join it."""
        members = ",".join(f"{plan.node_id}={HOST}:{plan.peer_port}" for plan in self._founders)
        alone = len(self._founders) == 1
        return {"--cluster-secret-file": str(secret_path)} | ({} if alone else {"--members": members})

    def _prepare(self, plan: NodePlan, cluster: dict[str, str]) -> None:
        log_path = None if self._log_to_pipes else self.data_dir / f"{plan.node_id}.log"
        arguments = {
            "--node-id": plan.node_id,
            "--data-dir": str(self.data_dir / plan.node_id),
            "--http": f"{HOST}:{plan.http_port}",
            "--peer": f"{HOST}:{plan.peer_port}",
        }
        words = [word for pair in (arguments | cluster).items() for word in pair] + self._options
        stdout = subprocess.PIPE if self._log_to_pipes else None
        self.nodes[plan.node_id] = ChildProcess(plan.node_id, node_command(words), log_path, stdout)

    async def wait_ready(self, client: Client, limit_s: float = START_TIMEOUT_S) -> ClusterStatus:
        """The leader's status once every node is ready. Raises CommandError if a node gives up first."""
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.gather(*(self.wait_node_ready(client, node_id) for node_id in self.nodes))
                return await self.wait_leader(client)
        except TimeoutError:
            logs = "" if self._log_to_pipes else f"; the logs are in {self.data_dir}"
            raise CommandError(f"the cluster was not ready within {limit_s:.0f} s{logs}") from None

    async def wait_node_ready(self, client: Client, node_id: str) -> None:
        """Wait until one node answers that it is ready."""
        plan, node = self.plans[node_id], self.nodes[node_id]
        while True:
            if not node.running:
                status = await node.wait()
                raise CommandError(f"node {node_id} did not start ({describe_exit(status)}): {node.last_line()}")
            try:
                if (await client.cluster.readyz(plan.endpoint)).ok:
                    return
            except HiveError:
                pass  # not listening yet; whether it still runs is checked above
            await asyncio.sleep(POLL_S)

    async def wait_leader(self, client: Client) -> ClusterStatus:
        """The status of the node that leads, as soon as one says so of itself. Waits without limit."""
        while True:
            leader = await self.leader(client)
            if leader is not None:
                return leader
            await asyncio.sleep(POLL_S)

    async def leader(self, client: Client) -> ClusterStatus | None:
        """The status of the running node that leads in the highest term, or None."""
        running = [plan.endpoint for plan in self.plans.values() if self.nodes[plan.node_id].running]
        answers = await asyncio.gather(
            *(client.cluster.status(endpoint=endpoint) for endpoint in running), return_exceptions=True
        )
        leaders = [a for a in answers if isinstance(a, ClusterStatus) and a.role == "leader" and a.has_quorum]
        return max(leaders, key=lambda status: status.term, default=None)

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        await asyncio.gather(*(node.stop(grace_s) for node in self.nodes.values()))


def make_secret(data_dir: Path) -> Path:
    """The file with the cluster's secret, readable by its owner only; made once, then kept."""
    path = data_dir / "cluster.secret"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(SECRET_BYTES) + "\n")
    return path
