"""The fake behind a real HTTP port on the loopback interface."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from hive_client.testing.exchange import BODY_BYTES_MAX
from hive_client.wire import Cut, NotSent, Reply, Stream


class Exchange(Protocol):
    """What is served: ``FakeHive``, seen from here."""

    async def exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Reply: ...

    def open_watch(self, target: str, headers: Mapping[str, str]) -> Stream: ...


class LoopbackServer:
    """Serves one fake on 127.0.0.1 at a port of the system's choice."""

    def __init__(self, served: Exchange) -> None:
        self._served = served
        app = web.Application(client_max_size=2 * BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        return f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = dict(request.headers)
        try:
            if request.path in {"/api/watch", "/api/v1/watch"}:
                return await self._stream(request, headers)
            reply = await self._served.exchange(request.method, request.raw_path, headers, await request.read())
        except (NotSent, Cut):
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async def _stream(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        stream = self._served.open_watch(request.raw_path, headers)
        kind = "text/event-stream" if stream.status == 200 else "application/problem+json"
        response = web.StreamResponse(status=stream.status, headers={**stream.headers, "Content-Type": kind})
        await response.prepare(request)
        try:
            while (line := await stream.line()) is not None:
                await response.write(line + b"\n")
        except ConnectionError:
            return response  # the reader has left
        finally:
            stream.close()
        return response
