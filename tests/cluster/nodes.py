"""Real replicas in one process: sockets, files, threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from cluster.node_replica import NodeReplica
from cluster.settings import Limits, ReplicaOptions
from cluster.start import open_replica
from statemachine import machine
from tests.process.ports import node_ports

LOOK_AGAIN_S = 0.02
PATIENCE_S = 20.0
"""No wait is this long, unless something is wrong."""


class Nodes:
    """Replicas by node id, and how to start them again. `fatal` holds what ended one."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        ids = [f"n{number}" for number in range(1, count + 1)]
        self._members = {
            node_id: f"127.0.0.1:{port}" for node_id, port in zip(ids, node_ports(count), strict=True)
        }
        self.up: dict[str, NodeReplica] = {}
        self.fatal: list[BaseException] = []

    def options(self, node_id: str, **changes: Any) -> ReplicaOptions:
        """As the node is started."""
        fields: dict[str, Any] = {
            "node_id": node_id,
            "data_dir": self._path / node_id,
            "peer_address": self._members[node_id],
            "http_address": f"http-{node_id}",
            "members": self._members,
            "cluster_secret": b"secret",
            "version": "0.1.0",
            "limits": Limits(segment_bytes=1 << 20, log_keep_bytes=0, state_map_bytes=64 << 20),
        }
        return ReplicaOptions(**fields | changes)

    async def start(self, node_id: str, **changes: Any) -> NodeReplica:
        """Start one node."""
        replica = await open_replica(self.options(node_id, **changes), machine.apply, self.fatal.append)
        self.up[node_id] = replica
        return replica

    async def stop(self, node_id: str) -> None:
        """Stop one node cleanly."""
        await self.up.pop(node_id).close()

    @property
    def leader(self) -> NodeReplica:
        """Who leads."""
        return next(replica for replica in self.up.values() if replica.is_leader)

    @property
    def follower(self) -> NodeReplica:
        """Somebody who does not."""
        return next(replica for replica in self.up.values() if not replica.is_leader)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds: look at every notice of the nodes, and now and then, for not everything is told."""
        changed = asyncio.Event()
        forget = [
            way(lambda *_: changed.set())
            for replica in self.up.values()
            for way in (replica.subscribe, replica.on_role_change)
        ]
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), LOOK_AGAIN_S)
                    changed.clear()
        finally:
            for action in forget:
                action()

    async def until_led(self) -> None:
        """Wait for a leader that all follow."""
        await self.until(lambda: any(replica.is_leader for replica in self.up.values()) and self._agree())

    async def until_known(self) -> None:
        """Wait until all members are known with their journals, so that no entry of that comes later."""

        def known() -> bool:
            configurations = [replica.membership.current for replica in self.up.values()]
            return all(one.founded and len(one.journal_ids()) == len(one.members) for one in configurations)

        await self.until(known)

    def _agree(self) -> bool:
        return len({(replica.leader_id, replica.term) for replica in self.up.values()}) == 1

    async def until_equal(self) -> None:
        """Wait until all have applied the same."""
        await self.until(lambda: len({replica.core.state.position for replica in self.up.values()}) == 1)


@asynccontextmanager
async def nodes_up(path: Path, count: int) -> AsyncIterator[Nodes]:
    """So many nodes with a leader that all follow; none of them may end by itself."""
    nodes = Nodes(path, count)
    try:
        for number in range(1, count + 1):
            await nodes.start(f"n{number}")
        await nodes.until_led()
        await nodes.until_known()
        yield nodes
    finally:
        for node_id in list(nodes.up):
            await nodes.stop(node_id)
    assert nodes.fatal == []
