"""Calls to the leader's memory: from any node to whoever leads, answered once or not at all, never kept waiting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from cluster.replica import CallFailedError, ServiceHandler

log = logging.getLogger("hive.cluster")

CALL_BYTES_MAX = 16 << 20
"""Of a request or a reply. Well below a frame, since a longer one costs the caller its connection."""

_SERVING_MAX = 10_000
"""Calls of other nodes under way here. Their callers give up in time, but what serves them may be stuck."""


class CallNotSentError(CallFailedError):
    """There was nobody to call: it has surely not arrived."""


class Calls:
    """One node's side of them, as caller and as leader."""

    def __init__(
        self,
        node_id: str,
        first_number: int,
        *,
        send: Callable[[str, Mapping[str, Any]], bool],
        leader_id: Callable[[], str | None],
        is_leader: Callable[[], bool],
    ) -> None:
        """`first_number` is not that of an earlier run: the leader may still answer a call from before a restart, which
        must not seem to answer a new one."""
        self._node_id = node_id
        self._number = first_number
        self._send = send
        self._leader_id = leader_id
        self._is_leader = is_leader
        self._services: dict[str, ServiceHandler] = {}
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._closed = False

    def serve(self, service: str, handler: ServiceHandler) -> None:
        """Answer calls of this service while this node leads."""
        self._services[service] = handler

    async def call(self, service: str, request: bytes, timeout_s: float) -> bytes:
        """Ask the leader. Raises CallFailedError."""
        if len(request) > CALL_BYTES_MAX:
            raise CallFailedError(f"{service}: a request of {len(request)} bytes is too long")
        if self._closed:
            raise CallFailedError("this node is stopping")
        try:
            async with asyncio.timeout(timeout_s):
                if not self._is_leader():
                    return await self._ask(service, request)
                return await self._handler(service)(self._node_id, request)
        except TimeoutError:
            raise CallFailedError(f"{service}: the leader did not answer within {timeout_s} s") from None

    def _handler(self, service: str) -> ServiceHandler:
        handler = self._services.get(service)
        if handler is None:
            raise CallFailedError(f"there is no service {service!r:.60}")
        return handler

    async def _ask(self, service: str, request: bytes) -> bytes:
        leader = self._leader_id()
        self._number += 1
        number = self._number
        message = {"type": "call", "number": number, "service": service, "request": request}
        if leader is None or leader == self._node_id or not self._send(leader, message):
            raise CallNotSentError("no leader is reachable")
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    def leader_changed(self) -> None:
        """Whoever was asked leads no more, or is another."""
        self._fail("the leader changed")

    def on_message(self, peer_id: str, message: Mapping[str, Any]) -> None:
        """A call of another node, or the reply to one of this node's."""
        if message["type"] == "call":
            self._take(peer_id, message)
            return
        future = self._waiting.pop(message["number"], None)
        if future is None or future.done():
            return
        if message["error"] is not None or message["reply"] is None:
            future.set_exception(CallFailedError(message["error"] or "an empty reply"))
        else:
            future.set_result(message["reply"])

    def _take(self, peer_id: str, message: Mapping[str, Any]) -> None:
        if self._closed or len(self._serving) >= _SERVING_MAX:
            self._reply(peer_id, message, None, "too many calls are under way")
            return
        task = asyncio.get_running_loop().create_task(self._answer(peer_id, message))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _answer(self, peer_id: str, message: Mapping[str, Any]) -> None:
        reply: bytes | None = None
        error: str | None = None
        try:
            if not self._is_leader():
                raise CallFailedError("not the leader")
            answer = await self._handler(message["service"])(peer_id, message["request"])
            if len(answer) > CALL_BYTES_MAX:
                raise CallFailedError(f"a reply of {len(answer)} bytes is too long")
            reply = answer
        except CallFailedError as refused:
            error = str(refused)
        except Exception as defect:  # the edge of a call: the caller must hear of it
            log.exception("call failed service=%s", message["service"])
            error = f"internal: {type(defect).__name__}"
        self._reply(peer_id, message, reply, error)

    def _reply(self, peer_id: str, message: Mapping[str, Any], reply: bytes | None, error: str | None) -> None:
        self._send(peer_id, {"type": "reply", "number": message["number"], "reply": reply, "error": error})

    def close(self) -> None:
        """Answer whoever waits, let go of whoever is served."""
        self._closed = True
        self._fail("this node is stopping")
        for task in self._serving:
            task.cancel()

    def _fail(self, why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(CallFailedError(why))
