"""The nodes of a run: real processes, each behind a proxy for its peers and one for its clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from node.config import BY_NAME
from ops.addresses import HOST
from ops.local_cluster import make_secret
from ops.node import node_command
from ops.process import ChildProcess, describe_exit
from tests.nemesis.namespaces import Host, Namespaces
from tests.nemesis.pauses import pause
from tests.nemesis.proxy import Proxy, client_opening, peer_opening
from tests.nemesis.ways import Ways
from tests.process.ports import node_ports

ASK_AGAIN_S = 0.05
READY_WITHIN_S = 60.0

SMALL: dict[str, int] = {
    "segment_bytes": 2 << 20,
    "snapshot_log_bytes": 2 << 20,
    "log_keep_bytes": 1 << 20,
    "state_map_bytes": 1 << 30,
    "min_free_bytes": 8 << 20,
}
"""So that snapshots, compaction and catching up by snapshot are everyday things. Names that a node knows are given."""


@dataclass(slots=True)
class Member:
    """One node: where its processes and data are. `may_end`: a fault is on that ends it rightly.
    `served_since_start` is noted where a fault needs to know it."""

    node_id: str
    process: ChildProcess
    data_dir: Path
    own_endpoint: str
    endpoint: str
    may_end: bool = False
    paused: bool = False
    served_since_start: bool = False
    ends: list[str] = field(default_factory=list)


class Fleet:
    """All nodes, and the ways between them. `ends` of a member are those nobody had asked for."""

    def __init__(
        self,
        node_ids: Sequence[str],
        directory: Path,
        rng: random.Random,
        disks: dict[str, Path],
        namespaces: Namespaces | None = None,
    ) -> None:
        """`disks`: for some nodes, a small file system of their own to keep their data on."""
        self.directory = directory
        self.disks = disks
        self.namespaces = namespaces
        self.ways = Ways(node_ids, rng)
        ports = dict(zip(node_ids, zip(*[iter(node_ports(4 * len(node_ids)))] * 4, strict=True), strict=True))
        self._here = HOST if namespaces is None else namespaces.address
        members = ",".join(f"{node_id}={self._here}:{peer}" for node_id, (_, _, _, peer) in ports.items())
        self._proxies: list[tuple[Proxy, int]] = []
        self.members: dict[str, Member] = {}
        self._secret = make_secret(directory)
        for node_id, (own_http, own_peer, http, peer) in ports.items():
            host = Host(HOST) if namespaces is None else namespaces.host(node_id)
            self._proxies.append((Proxy(node_id, (host.address, own_http), self.ways, client_opening), http))
            self._proxies.append((Proxy(node_id, (host.address, own_peer), self.ways, peer_opening), peer))
            data_dir = disks.get(node_id, directory) / node_id
            options = {
                "node_id": node_id,
                "data_dir": str(data_dir),
                "http": f"{host.address}:{own_http}",
                "advertise_http": f"{self._here}:{http}",
                "peer": f"{host.address}:{own_peer}",
                "members": members,
                "cluster_secret_file": str(self._secret),
            } | {name: str(size) for name, size in SMALL.items() if name in BY_NAME}
            words = [word for name, value in options.items() for word in (BY_NAME[name].option, value)]
            command = [*host.prefix, *node_command(words)]
            process = ChildProcess(node_id, command, directory / f"{node_id}.log")
            own, seen = f"http://{host.address}:{own_http}", f"http://{self._here}:{http}"
            self.members[node_id] = Member(node_id, process, data_dir, own, seen)
        self._http: aiohttp.ClientSession | None = None
        self._watchers: set[asyncio.Task[None]] = set()
        self.closing = asyncio.Event()

    @property
    def node_ids(self) -> list[str]:
        return list(self.members)

    @property
    def endpoints(self) -> dict[str, str]:
        """Where clients ask each node: its proxy."""
        return {node_id: member.endpoint for node_id, member in self.members.items()}

    @property
    def http(self) -> aiohttp.ClientSession:
        """For questions past the proxies."""
        assert self._http is not None, "not started"
        return self._http

    async def start(self) -> None:
        """Start everything and wait until every node is ready. Raises TimeoutError, RuntimeError."""
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0))
        for proxy, port in self._proxies:
            await proxy.listen(self._here, port)
        await self.run(*self.node_ids)
        await self.ready(*self.node_ids)

    async def close(self) -> None:
        """Kill what runs."""
        self.closing.set()
        await self.kill(*self.node_ids)
        for watcher in self._watchers:
            watcher.cancel()
        for proxy, _ in self._proxies:
            await proxy.close()
        if self._http is not None:
            await self._http.close()

    # --- processes ----------------------------------------------------------------------------------------------------

    async def run(self, *node_ids: str) -> None:
        """Start nodes that do not run; returns at once."""
        for node_id in node_ids:
            member = self.members[node_id]
            if not member.process.running:
                member.may_end, member.paused, member.served_since_start = False, False, False
                await member.process.start()
                watcher = asyncio.create_task(self._watch(member))
                self._watchers.add(watcher)
                watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, member: Member) -> None:
        status = await member.process.wait()
        if not member.may_end:
            line = member.process.last_line()
            member.ends.append(f"{member.node_id} ended by itself with {describe_exit(status)}: {line}")

    async def kill(self, *node_ids: str) -> None:
        """SIGKILL, all at once."""
        for node_id in node_ids:
            self.members[node_id].may_end = True
        await asyncio.gather(*(self.members[node_id].process.kill() for node_id in node_ids))

    async def stop(self, node_id: str) -> None:
        """SIGTERM, and wait."""
        self.members[node_id].may_end = True
        await self.members[node_id].process.stop(10.0)

    def freeze(self, *node_ids: str) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP, node_ids)

    def thaw(self, *node_ids: str) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT, node_ids)

    def _signal(self, number: signal.Signals, node_ids: tuple[str, ...]) -> None:
        for node_id in node_ids:
            member = self.members[node_id]
            if member.process.running:
                member.paused = number == signal.SIGSTOP
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.process.pid, number)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def status(self, node_id: str) -> dict[str, object] | None:
        """What the node says of itself; None if it says nothing."""
        return await self.get(node_id, "/api/status/cluster")

    async def get(self, node_id: str, target: str) -> dict[str, object] | None:
        """A 200 reply of a node, asked past its proxy; None for anything else."""
        try:
            async with self.http.get(self.members[node_id].own_endpoint + target) as reply:
                document: dict[str, object] = await reply.json(content_type=None)
                return document if reply.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def leader(self) -> str | None:
        """Who leads in the highest term, of those that run and answer."""
        awake = [name for name, member in self.members.items() if member.process.running and not member.paused]
        answers = await asyncio.gather(*(self.status(node_id) for node_id in awake))
        terms = [(int(str(one["term"])), str(one["node_id"])) for one in answers if one and one["role"] == "leader"]
        return max(terms)[1] if terms else None

    async def ready(self, *node_ids: str, within_s: float = READY_WITHIN_S) -> None:
        """Wait until nodes serve. Raises TimeoutError, and RuntimeError when one has ended."""
        async with asyncio.timeout(within_s):
            for node_id in node_ids:
                while await self.get(node_id, "/readyz") is None:
                    if not self.members[node_id].process.running:
                        raise RuntimeError(f"{node_id} has ended: {self.members[node_id].process.last_line()}")
                    await pause(ASK_AGAIN_S, self.closing)

    async def until(self, look: Callable[[], Awaitable[bool]], within_s: float) -> bool:
        """Look again and again: whether it came true in time."""
        deadline_s = asyncio.get_running_loop().time() + within_s
        while not await look():
            if asyncio.get_running_loop().time() > deadline_s or await pause(ASK_AGAIN_S, self.closing):
                return False
        return True
