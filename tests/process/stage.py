"""A cluster of real node processes for one test: started, looked at, and cleared away."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hive_client import Client, ClusterStatus, HiveError

from ops.local_cluster import LocalCluster, NodePlan, plan_free_nodes
from tests.process.ports import node_ports
from tests.process.running import until

STOP_GRACE_S = 10.0
LOG_LINES_SHOWN = 15
VOTES_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """`client` knows all nodes. `data_dir` holds a directory and a log file for each."""

    cluster: LocalCluster
    client: Client
    data_dir: Path

    def endpoint(self, node_id: str) -> str:
        return self.cluster.plans[node_id].endpoint

    def client_of(self, node_id: str) -> Client:
        """A client that knows only this node; for use as `async with`."""
        return Client(self.endpoint(node_id))

    def directory(self, node_id: str) -> Path:
        return self.data_dir / node_id

    def log_of(self, node_id: str) -> str:
        return (self.data_dir / f"{node_id}.log").read_text(encoding="utf-8")

    @property
    def node_ids(self) -> list[str]:
        return list(self.cluster.plans)

    async def leader_id(self) -> str:
        return (await self.cluster.wait_leader(self.client)).node_id

    async def follower_ids(self) -> list[str]:
        leader_id = await self.leader_id()
        return [node_id for node_id in self.node_ids if node_id != leader_id]

    async def kill(self, *node_ids: str) -> None:
        """SIGKILL, all at once."""
        await asyncio.gather(*(self.cluster.nodes[node_id].kill() for node_id in node_ids))

    async def stop(self, node_id: str) -> int:
        """SIGTERM; the exit status."""
        await self.cluster.nodes[node_id].stop(STOP_GRACE_S)
        return self.cluster.nodes[node_id].status

    async def start(self, *node_ids: str) -> None:
        """Start nodes again and wait until they are ready."""
        await self.start_only(*node_ids)
        await asyncio.gather(*(self.cluster.wait_node_ready(self.client, node_id) for node_id in node_ids))

    async def start_only(self, *node_ids: str) -> None:
        """Start nodes again; whether they come up is the test's question."""
        await asyncio.gather(*(self.cluster.nodes[node_id].start() for node_id in node_ids))

    async def join(self, node_id: str, *, wait: bool = True) -> NodePlan:
        """Start a further node, which comes to the cluster by itself; wait until it is ready and votes."""
        http_port, peer_port = node_ports(2)
        plan = NodePlan(node_id, http_port, peer_port)
        await self.cluster.join(plan)
        if wait:
            await self.cluster.wait_node_ready(self.client, node_id)
            assert (await self.client.cluster.wait_voter(node_id, timeout_s=VOTES_WITHIN_S)).voter
            await self.client.cluster.discover()
        return plan

    async def remove(self, node_id: str) -> int:
        """Remove a member through any node, and wait until its process has ended; the exit status."""
        members = await self.client.cluster.remove_member(node_id)
        assert node_id not in [member.node_id for member in members]
        return await self.ended(node_id)

    async def ended(self, node_id: str) -> int:
        """Wait for a node to give up; its exit status."""
        return await self.cluster.nodes[node_id].wait()

    async def status(self, node_id: str) -> ClusterStatus:
        return await self.client.cluster.status(endpoint=self.endpoint(node_id))

    async def converged(self) -> list[ClusterStatus]:
        """The status of all nodes, once all have applied the same entries. Fails if they came to different states."""

        async def look() -> list[ClusterStatus] | None:
            try:
                seen = [await self.status(node_id) for node_id in self.node_ids]
            except HiveError:
                return None
            level = len({(status.applied_index, status.commit_index, status.revision) for status in seen}) == 1
            return seen if level and seen[0].applied_index == seen[0].commit_index else None

        seen = await until(look)
        digests = {status.node_id: status.raw["digest"] for status in seen}
        assert len(set(digests.values())) == 1, f"at entry {seen[0].applied_index} the states differ: {digests}"
        return seen


@asynccontextmanager
async def cluster_of(count: int, data_dir: Path, options: Sequence[str] = ()) -> AsyncIterator[Stage]:
    """So many nodes, ready to serve. Their data is removed unless the test fails."""
    cluster = LocalCluster(plan_free_nodes(node_ports(2 * count)), data_dir, options=options)
    async with Client(cluster.endpoints) as client:
        stage = Stage(cluster, client, data_dir)
        try:
            await cluster.start()
            await cluster.wait_ready(client)
            yield stage
        except BaseException as error:
            for node_id in cluster.nodes:
                lines = stage.log_of(node_id).splitlines()[-LOG_LINES_SHOWN:]
                error.add_note("\n".join([f"--- {node_id}", *lines]))
            await stage.kill(*cluster.nodes)
            raise
        await stage.kill(*cluster.nodes)
    shutil.rmtree(data_dir)
