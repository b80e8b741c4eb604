"""``client.cluster``: health, status and operation of the nodes.

Calls that take ``endpoint`` ask that one node and report what it says; without it, any node that answers.
"""

from __future__ import annotations

from typing import Any, Unpack

from hive_client.calls import Calls
from hive_client.models.cluster import ClusterStatus, Document, Health, Member, ServerInfo
from hive_client.models.record import Page
from hive_client.options import ReadOptions, WriteOptions
from hive_client.problem import error_from_reply
from hive_client.wire import Reply


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
        status = await self.status()
        pool = self._calls.transport.pool
        scheme = pool.current.split("://", 1)[0]
        pool.learn(f"{scheme}://{member.http_address}" for member in status.members if member.http_address)
        return pool.known

    async def members(self, **options: Unpack[ReadOptions]) -> list[Member]:
        return Page.from_reply(
            await self._calls.read("/api/cluster/members", None, options, of_project=False), Member
        ).items

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


def _ok(reply: Reply) -> Reply:
    if reply.status >= 400:
        raise error_from_reply(reply.status, reply.headers, reply.document())
    return reply
