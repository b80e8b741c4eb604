"""``Client``: the whole API of a cluster as typed methods, by noun."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Self

from hive_client.agents import Agents
from hive_client.budgets import Budgets
from hive_client.calls import Calls
from hive_client.changes import Changes
from hive_client.clock import Clock, SystemClock
from hive_client.cluster import Cluster
from hive_client.endpoints import EndpointPool, parse_endpoints
from hive_client.errors import HiveError
from hive_client.groups import Groups
from hive_client.models.cluster import Document
from hive_client.projects import Projects
from hive_client.queues import Queues
from hive_client.retry import Backoff
from hive_client.schedules import Schedules
from hive_client.sessions import Sessions
from hive_client.settings import Settings
from hive_client.tasks import Tasks
from hive_client.transport import Transport
from hive_client.wire import HttpWire, Wire


class Client:
    """A connection to a Hive cluster, for use as ``async with Client(...) as client``.

    ``endpoints``: any nodes, as a list or comma-separated; None reads ``HIVE_ENDPOINTS``. The client stays
    with one that answers and moves on when it does not, in the order given. ``discover``: also learn the
    other members' addresses, at the start and whenever an endpoint fails, for members change. ``timeout_s``
    bounds a call with all its tries. ``read_your_writes``: reads wait until the asked node has what this
    client wrote. ``wire`` and ``clock`` are for tests.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str] | None = None,
        *,
        project: str = "default",
        timeout_s: float = 30.0,
        connect_timeout_s: float = 1.0,
        read_your_writes: bool = True,
        discover: bool = False,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        backoff: Backoff | None = None,
        wire: Wire | None = None,
        clock: Clock | None = None,
    ) -> None:
        wire = wire or HttpWire(connect_timeout_s=connect_timeout_s, ssl_context=ssl_context)
        transport = Transport(wire, EndpointPool(parse_endpoints(endpoints)), clock or SystemClock(), backoff)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._discover = discover
        self._discovery: asyncio.Task[None] | None = None
        self._use(Calls(transport, project, timeout_s, read_your_writes, headers))

    def _use(self, calls: Calls) -> None:
        self._calls = calls
        self.tasks = Tasks(calls)
        self.groups = Groups(calls)
        self.queues = Queues(calls)
        self.sessions = Sessions(calls)
        self.agents = Agents(calls)
        self.changes = Changes(calls)
        self.cluster = Cluster(calls)
        self.projects = Projects(calls)
        self.schedules = Schedules(calls)
        self.budgets = Budgets(calls)
        self.settings = Settings(calls)

    @property
    def project(self) -> str:
        return self._calls.project

    @property
    def clock(self) -> Clock:
        return self._calls.transport.clock

    def in_project(self, project: str) -> Client:
        """The same connection, seen from another project. Close the original, not this."""
        view = object.__new__(type(self))
        view._discover = False
        view._discovery = None
        view._use(replace(self._calls, project=project))
        return view

    async def performance(self) -> Document:
        """Rates, latencies and queue lengths of the last minute."""
        return await self.cluster.performance()

    async def __aenter__(self) -> Self:
        if self._discover:
            self._calls.transport.pool.on_failed = self._look_around
            self._look_around()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections. Idempotent."""
        self._calls.transport.pool.on_failed = lambda: None
        if self._discovery is not None:
            self._discovery.cancel()
            await asyncio.gather(self._discovery, return_exceptions=True)
            self._discovery = None
        await self._calls.transport.close()

    def _look_around(self) -> None:
        """Learn the members' addresses, unless that is being done."""
        if self._discovery is None or self._discovery.done():
            self._discovery = asyncio.create_task(self._learn_endpoints())

    async def _learn_endpoints(self) -> None:
        # In the background: a cluster that is not up yet must not keep the user from starting.
        with contextlib.suppress(HiveError):
            await self.cluster.discover()
