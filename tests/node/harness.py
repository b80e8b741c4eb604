"""A real server on a loopback port over an in-memory replica, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from cluster.local import LocalReplica
from node.api.app import App, Server
from node.api.context import Api
from node.api.routes import make_router
from node.duties.clock import ManualClock
from node.duties.duties import Duties
from node.http.server import bind
from node.metrics import NodeMetrics

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z"""


class ManualTime:
    """Cluster time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, delta_ms: int) -> None:
        self.now_ms += delta_ms


class Answer:
    """A whole reply."""

    def __init__(self, status: int, headers: Any, raw: bytes, document: Any) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw
        self.json = document

    def __repr__(self) -> str:
        return f"{self.status} {self.raw[:500]!r}"


class Node:
    """A running server and a client for it."""

    def __init__(self, api: Api, replica: LocalReplica, server: Server, time: ManualTime, port: int) -> None:
        self.api = api
        self.replica = replica
        self.server = server
        self.time = time
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """One request; `body` is sent as JSON unless `data` is given."""
        if body is not None:
            options["data"] = io.BytesIO(json.dumps(body).encode())
        async with self.client.request(method, self.url + path, **options) as reply:
            raw = await reply.read()
            is_json = "json" in reply.headers.get("Content-Type", "")
            return Answer(
                reply.status, reply.headers, raw, await reply.json(content_type=None) if is_json and raw else None
            )

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.ask("POST", path, body, **options)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes as they are, and read until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        await writer.drain()
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        return received


@asynccontextmanager
async def running(prepare: Callable[[Api], None] | None = None, **settings: Any) -> AsyncIterator[Node]:
    """A node for one test; `prepare` may change its `Api` before the server starts."""
    time = ManualTime()
    replica = LocalReplica(time)
    api = Api(replica, "0.1.0", **settings)
    api.provide(NodeMetrics(replica, api.traffic, api.version))
    duties = Duties(replica, ManualClock())
    api.provide(duties)
    api.live = duties.live
    if prepare is not None:
        prepare(api)
    server = Server(App(api, make_router()))
    port = await server.start(bind("127.0.0.1", 0))
    node = Node(api, replica, server, time, port)
    async with aiohttp.ClientSession() as client:
        node.client = client
        try:
            yield node
        finally:
            server.stop_accepting()
            duties.close()
            await server.stop(5)


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine; a test that hangs fails."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(limited())


async def until(condition: Callable[[], bool]) -> None:
    """Yield to the loop until something has happened that nobody announces."""
    loop = asyncio.get_running_loop()
    while not condition():
        turn = loop.create_future()
        loop.call_later(0.001, turn.set_result, None)
        await turn


Step = Callable[[Node], Awaitable[None]]


def with_node(step: Step, **settings: Any) -> None:
    """Run a test against a node of its own."""

    async def whole() -> None:
        async with running(**settings) as node:
            await step(node)

    run(whole())
