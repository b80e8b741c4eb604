"""The nodes of a run: real processes, each behind a proxy for its peers and one for its clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from ops.addresses import HOST
from ops.local_cluster import make_secret
from ops.process import ChildProcess, describe_exit
from tests.nemesis.namespaces import Host, Namespaces
from tests.nemesis.pauses import pause
from tests.nemesis.places import Member, Place
from tests.nemesis.proxy import Proxy, client_opening, peer_opening
from tests.nemesis.ways import Ways
from tests.process.ports import node_ports

ASK_AGAIN_S = 0.05
READY_WITHIN_S = 60.0


class Fleet:
    """All nodes, and the ways between them. Nodes come and go; their ids are used once."""

    def __init__(
        self,
        directory: Path,
        rng: random.Random,
        disks: Sequence[Path] = (),
        namespaces: Namespaces | None = None,
    ) -> None:
        """`disks`: small file systems for some nodes to keep their data on, one at a time on each."""
        self.directory = directory
        self.disks: dict[str, Path] = {}
        self.namespaces = namespaces
        self.ways = Ways((), rng)
        self.members: dict[str, Member] = {}
        self.endpoints: dict[str, str] = {}
        """Where clients ask each node: its proxy. This very table changes as nodes come and go."""
        self.ends_before: list[str] = []
        """Of nodes that are gone."""
        self._disks_free = list(disks)
        self._here = HOST if namespaces is None else namespaces.address
        self._secret = make_secret(directory)
        self._numbers = count(1)
        self._http: aiohttp.ClientSession | None = None
        self.closing = asyncio.Event()

    @property
    def node_ids(self) -> list[str]:
        return list(self.members)

    @property
    def http(self) -> aiohttp.ClientSession:
        """For questions past the proxies."""
        assert self._http is not None, "not started"
        return self._http

    async def start(self, nodes: int) -> None:
        """Found a cluster of so many and wait until every node is ready. Raises TimeoutError, RuntimeError."""
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0))
        places = [await self._take_place(f"n{next(self._numbers)}") for _ in range(nodes)]
        founders = ",".join(f"{place.node_id}={place.peer}" for place in places)
        for place in places:
            self._settle(place, {"members": founders})
        await self.run(*self.node_ids)
        await self.ready(*self.node_ids)

    async def close(self) -> None:
        """Kill what runs."""
        self.closing.set()
        await self.kill(*self.node_ids)
        for member in self.members.values():
            if member.watcher is not None:
                await member.watcher
            for proxy in member.place.proxies:
                await proxy.close()
        if self._http is not None:
            await self._http.close()

    @property
    def ends(self) -> list[str]:
        """All ends that nobody had asked for."""
        return [*self.ends_before, *(line for member in self.members.values() for line in member.ends)]

    # --- coming and going ---------------------------------------------------------------------------------------------

    async def add(self) -> str:
        """One more node, that will join the cluster as soon as it runs. Its id; clients know it at once."""
        place = await self._take_place(f"n{next(self._numbers)}")
        self._settle(place, {"join": ",".join(self.endpoints.values()), "advertise_peer": place.peer})
        return place.node_id

    def let_join(self, node_id: str) -> None:
        """From its next start on this node asks the others to let it in, whatever it was told before."""
        place, ends = self.members[node_id].place, self.members[node_id].ends
        others = [endpoint for other, endpoint in self.endpoints.items() if other != node_id]
        self._settle(place, {"join": ",".join(others), "advertise_peer": place.peer})
        self.members[node_id].ends = ends

    async def forget(self, node_id: str) -> None:
        """A node that was removed and has ended: its data goes, its lines too, its log stays."""
        await self.kill(node_id)
        del self.endpoints[node_id]
        member = self.members.pop(node_id)
        if member.watcher is not None:
            await member.watcher
        self.ends_before += member.ends
        for proxy in member.place.proxies:
            await proxy.close()
        self.ways.remove(node_id)
        await asyncio.to_thread(shutil.rmtree, member.data_dir, ignore_errors=True)
        if self.namespaces is not None:
            await asyncio.to_thread(self.namespaces.drop, node_id)
        if node_id in self.disks:
            self._disks_free.append(self.disks.pop(node_id))

    async def _take_place(self, node_id: str) -> Place:
        spaces = self.namespaces
        host = Host(HOST) if spaces is None else await asyncio.to_thread(spaces.add, node_id)
        own_http, own_peer, http, peer = node_ports(4)
        self.ways.add(node_id)
        proxies = (
            Proxy(node_id, (host.address, own_http), self.ways, client_opening),
            Proxy(node_id, (host.address, own_peer), self.ways, peer_opening),
        )
        for proxy, port in zip(proxies, (http, peer), strict=True):
            await proxy.listen(self._here, port)
        # The first node of all stays on the disk that everybody uses.
        if node_id != "n1" and self._disks_free:
            self.disks[node_id] = self._disks_free.pop(0)
        return Place(
            node_id=node_id,
            host=host,
            proxies=proxies,
            own_http=f"{host.address}:{own_http}",
            own_peer=f"{host.address}:{own_peer}",
            http=f"{self._here}:{http}",
            peer=f"{self._here}:{peer}",
            data_dir=self.disks.get(node_id, self.directory) / node_id,
        )

    def _settle(self, place: Place, told: dict[str, str]) -> None:
        """A process for a node at its place, not started. `told`: how it comes to its cluster."""
        command = place.command(told | {"cluster_secret_file": str(self._secret)})
        process = ChildProcess(place.node_id, command, self.directory / f"{place.node_id}.log")
        self.members[place.node_id] = Member(place.node_id, place, process)
        self.endpoints[place.node_id] = f"http://{place.http}"

    # --- processes ----------------------------------------------------------------------------------------------------

    async def run(self, *node_ids: str) -> None:
        """Start nodes that do not run; returns at once."""
        for node_id in node_ids:
            member = self.members[node_id]
            if not member.process.running:
                if member.watcher is not None:
                    await member.watcher  # it judges the last end by what was asked for then
                member.may_end, member.paused = False, False
                await member.process.start()
                member.watcher = asyncio.create_task(self._watch(member))

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

    async def status(self, node_id: str) -> dict[str, Any] | None:
        """What the node says of itself; None if it says nothing."""
        return await self.get(node_id, "/api/status/cluster")

    async def get(self, node_id: str, target: str) -> dict[str, Any] | None:
        """A 200 reply of a node, asked past its proxy; None for anything else."""
        try:
            async with self.http.get(self.members[node_id].own_endpoint + target) as reply:
                document: dict[str, Any] = await reply.json(content_type=None)
                return document if reply.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def metric(self, node_id: str, name: str) -> float:
        """A gauge of a node without labels; 0 if it does not tell."""
        try:
            async with self.http.get(self.members[node_id].own_endpoint + "/metrics") as reply:
                lines = (await reply.text()).splitlines()
        except (aiohttp.ClientError, TimeoutError):
            return 0.0
        return next((float(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0.0)

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
