"""A node with duties behind real HTTP, over a replica in memory, with one clock for all that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from cluster.local import LocalReplica
from node.api.app import App, Server
from node.api.context import Api
from node.api.routes import make_router
from node.duties.clock import ManualClock
from node.duties.duties import Duties
from node.duties.leadership import Leadership
from node.duties.settings import DutySettings
from node.http.server import bind
from node.metrics import NodeMetrics
from statemachine import audit
from tests.node.harness import Answer, Node, until
from tests.node.harness import run as run_limited


class FleetNode(Node):
    """A running node, and what tests do to it."""

    clock: ManualClock
    duties: Duties
    replica: LocalReplica

    @property
    def leadership(self) -> Leadership:
        """The leader's duties."""
        assert self.duties.leadership is not None
        return self.duties.leadership

    async def register(self, agent_id: str, **fields: Any) -> int:
        """Register an agent -> its epoch."""
        answer = await self.post("/api/agents", {"agent_id": agent_id, "instance_id": "i1", **fields})
        assert answer.status in {200, 201}, answer
        return int(answer.json["epoch"])

    async def submit(self, task_id: str, **fields: Any) -> Any:
        """Submit a task -> the task."""
        answer = await self.post("/api/tasks", {"task_id": task_id, **fields})
        assert answer.status == 201, answer
        return answer.json

    async def claim(self, agent_id: str, epoch: int, **fields: Any) -> list[Any]:
        """Claim -> the grants."""
        answer = await self.post("/api/tasks/claim", {"agent_id": agent_id, "epoch": epoch, **fields})
        assert answer.status == 200, answer
        grants: list[Any] = answer.json["items"]
        return grants

    async def verb(self, verb: str, task_id: str, agent_id: str, attempt: int, **fields: Any) -> Answer:
        """One of the holder's verbs."""
        body = {"agent_id": agent_id, "attempt": attempt, **fields}
        return await self.post(f"/api/tasks/{task_id}/{verb}", body)

    async def task(self, task_id: str) -> Any:
        """The task as shown."""
        answer = await self.get(f"/api/tasks/{task_id}")
        assert answer.status == 200, answer
        return answer.json

    async def beat(self, agent_id: str, epoch: int, **fields: Any) -> Any:
        """A heartbeat -> its answer."""
        answer = await self.post(f"/api/agents/{agent_id}/heartbeat", {"epoch": epoch, **fields})
        assert answer.status == 200, answer
        return answer.json

    async def poll(self, agent_id: str, epoch: int, *, wait_ms: int = 60_000, **fields: Any) -> asyncio.Task[Any]:
        """Open a long-poll; returns once it is known to the leader (or was answered at once)."""
        before = self.duties.polls.opened
        task = asyncio.create_task(self.beat(agent_id, epoch, wait_ms=wait_ms, **fields))
        await until(lambda: task.done() or self.duties.polls.opened > before)
        return task

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.advance(seconds)


@asynccontextmanager
async def running(settings: DutySettings | None = None) -> AsyncIterator[FleetNode]:
    """A node for one test; the state's invariants are checked at its end."""
    clock = ManualClock()
    replica = LocalReplica(clock.now_ms)
    duties = Duties(replica, clock, settings)
    api = Api(replica, "0.1.0", live=duties.live)
    api.provide(duties)
    api.provide(NodeMetrics(replica, api.traffic, api.version))
    server = Server(App(api, make_router()))
    port = await server.start(bind("127.0.0.1", 0))
    node = FleetNode(api, replica, server, clock, port)  # type: ignore[arg-type]  # tells the time as ManualTime does
    node.clock, node.duties = clock, duties
    async with aiohttp.ClientSession() as client:
        node.client = client
        try:
            yield node
            assert audit.audit(replica.store) == []
        finally:
            server.stop_accepting()
            duties.close()
            await server.stop(5)


Step = Callable[[FleetNode], Awaitable[None]]


def with_fleet(step: Step, settings: DutySettings | None = None) -> None:
    """Run a test against a node of its own."""

    async def whole() -> None:
        async with running(settings) as node:
            await step(node)

    run_limited(whole())
