"""``client.cluster``: health, status and operation of the nodes.

Calls that take ``endpoint`` ask that one node and report what it says; without it, any node that answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from hive_client.calls import Calls, segment, without_none
from hive_client.errors import NotFound, WaitTimedOut
from hive_client.models.cluster import ClusterStatus, Document, Health, Member, ServerInfo
from hive_client.models.record import Page
from hive_client.options import QueryValue, ReadOptions, WriteOptions
from hive_client.problem import error_from_reply
from hive_client.wire import Reply

WAIT_S = 30.0
"""How long one request waits for a member; the node allows a minute."""


class Cluster:
    """Health, status and operation of the cluster: `client.cluster`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All endpoints this client knows."""
        return self._calls.transport.pool.known

    async def status(self, *, endpoint: str | None = None, **options: Unpack[ReadOptions]) -> ClusterStatus:
        if endpoint is None:
            return ClusterStatus.from_reply(
                await self._calls.read("/api/status/cluster", None, options, of_project=False)
            )
        return ClusterStatus.from_reply(_ok(await self._calls.ask_endpoint(endpoint, "/api/status/cluster")))

    async def discover(self) -> tuple[str, ...]:
        """Learn the members' HTTP addresses as further endpoints; returns all that are known now."""
        self._learn((await self.status()).members)
        return self.endpoints

    async def members(self, **options: Unpack[ReadOptions]) -> list[Member]:
        return Page.from_reply(
            await self._calls.read("/api/cluster/members", None, options, of_project=False), Member
        ).items

    async def member(self, node_id: str, **options: Unpack[ReadOptions]) -> Member:
        """One member as the asked node sees it. ``NotFound`` if there is none."""
        return Member.from_reply(await self._calls.read(_path(node_id), None, options, of_project=False))

    async def wait_voter(self, node_id: str, *, timeout_s: float | None = None) -> Member:
        """Wait until the member votes, through failovers; ``timeout_s`` None: as long as it takes.

        Raises ``WaitTimedOut`` with what was last seen, ``NotFound`` when there is no such member (any more).
        """
        clock = self._calls.transport.clock
        deadline = None if timeout_s is None else clock.monotonic() + timeout_s
        while True:
            left_s = WAIT_S if deadline is None else deadline - clock.monotonic()
            member = await self._look(node_id, min(WAIT_S, max(0.0, left_s)))
            if member.voter:
                return member
            if left_s <= 0:
                detail = f"{node_id} has not become a voter within {timeout_s} s"
                raise WaitTimedOut(detail, current=member.raw)

    async def _look(self, node_id: str, wait_s: float) -> Member:
        query: dict[str, QueryValue] = {"until": "voter", "wait_ms": int(wait_s * 1000)}
        try:
            return Member.from_reply(await self._calls.read(_path(node_id), query, None, of_project=False))
        except NotFound:
            # A node that lags may not know a member that exists: only a linearizable "no" is final.
            return await self.member(node_id, consistency="linearizable")

    async def add_member(
        self, node_id: str, *, peer_address: str, http_address: str, **options: Unpack[WriteOptions]
    ) -> Member:
        """Make a node known to the cluster, as a learner; it is promoted when it has caught up (``wait_voter``).

        The node itself is started with ``hive node --join``, which says this too: the same again changes nothing.
        """
        body = {"node_id": node_id, "peer_address": peer_address, "http_address": http_address}
        reply = await self._calls.write("POST", "/api/cluster/members", body, options)
        member = Member.from_reply(reply)
        self._learn([member])
        return member

    async def promote_member(self, node_id: str, **options: Unpack[WriteOptions]) -> Member:
        """Let a learner vote now, before it is done by itself."""
        return Member.from_reply(await self._calls.write("POST", f"{_path(node_id)}/promote", {}, options))

    async def update_member(
        self,
        node_id: str,
        *,
        peer_address: str | None = None,
        http_address: str | None = None,
        **options: Unpack[WriteOptions],
    ) -> Member:
        """Tell the cluster new addresses of a member; what is None stays."""
        body = without_none(peer_address=peer_address, http_address=http_address)
        member = Member.from_reply(await self._calls.write("PUT", _path(node_id), body, options))
        self._learn([member])
        return member

    async def remove_member(self, node_id: str, **options: Unpack[WriteOptions]) -> list[Member]:
        """Remove a node for good: its id is never used again. The members that remain; also when it was gone before."""
        return Page.from_reply(await self._calls.write("DELETE", _path(node_id), None, options), Member).items

    def _learn(self, members: Iterable[Member]) -> None:
        """Take the members' HTTP addresses up as further endpoints."""
        pool = self._calls.transport.pool
        scheme = pool.current.split("://", 1)[0]
        pool.learn(f"{scheme}://{member.http_address}" for member in members if member.http_address)

    async def agents(self, **options: Unpack[ReadOptions]) -> Document:
        """``/api/status/agents``: the fleet at a glance."""
        return Document.from_reply(await self._calls.read("/api/status/agents", None, options, of_project=False))

    async def info(self) -> ServerInfo:
        """Version and features of the server."""
        return ServerInfo.from_reply(await self._calls.about("/api"))

    async def livez(self, endpoint: str | None = None) -> Health:
        """Whether the node is up. ``Unreachable`` if nothing answers there."""
        return await self._health("/livez", endpoint, {})

    async def readyz(self, endpoint: str | None = None, *, stale: bool = False) -> Health:
        """Whether the node serves; with ``stale`` whether it can serve stale reads. Each check by name in ``raw``."""
        return await self._health("/readyz", endpoint, {"stale": "true"} if stale else {})

    async def _health(self, path: str, endpoint: str | None, query: dict[str, str]) -> Health:
        return Health.from_reply(
            await self._calls.ask_endpoint(endpoint or self._calls.transport.pool.current, path, query)
        )

    async def transfer_leadership(self, to: str | None = None, **options: Unpack[WriteOptions]) -> Document:
        """Hand leadership to a member, or to whichever is best placed."""
        path = "/api/cluster/transfer-leadership"
        return Document.from_reply(await self._calls.write("POST", path, {"to": to}, options))

    async def snapshot(self, **options: Unpack[WriteOptions]) -> Document:
        """Take a snapshot now and compact the log behind it."""
        return Document.from_reply(await self._calls.write("POST", "/api/cluster/snapshot", {}, options))

    async def performance(self, **options: Unpack[ReadOptions]) -> Document:
        """``/api/metrics/performance``: rates, latencies and queue lengths of the last minute."""
        return Document.from_reply(await self._calls.read("/api/metrics/performance", None, options, of_project=False))

    async def metrics_text(self, endpoint: str | None = None) -> str:
        """One node's metrics in Prometheus' text form."""
        node = endpoint or self._calls.transport.pool.current
        return _ok(await self._calls.ask_endpoint(node, "/metrics")).body.decode("utf-8", "replace")

    async def openapi(self) -> dict[str, Any]:
        """The server's own description of its API."""
        document = (await self._calls.about("/api/openapi.json")).document()
        return document if isinstance(document, dict) else {}


def _path(node_id: str) -> str:
    return f"/api/cluster/members/{segment(node_id)}"


def _ok(reply: Reply) -> Reply:
    if reply.status >= 400:
        raise error_from_reply(reply.status, reply.headers, reply.document())
    return reply
