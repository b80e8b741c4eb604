"""Calls to one node over as many keep-alive connections as are under way at once."""

from __future__ import annotations

import asyncio

import msgspec

from ops.bench.queue_tasks import Grant
from ops.edge import CommandError
from ops.rawhttp import RawConnection, RawReply, encode_request

RETRY_S = 0.05
TRIES_MAX = 100
TOO_MANY_REQUESTS = 429

encode = msgspec.json.Encoder().encode


class Caller:
    """Bare connections to one endpoint. `errors` counts answers that are no answer: broken lines, 429, 5xx."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.errors = 0
        self._idle: list[RawConnection] = []

    async def send(self, method: str, target: str, body: bytes = b"") -> RawReply:
        """One exchange. Raises OSError or ValueError for a broken one. Cancelled, it hangs up."""
        connection = self._idle.pop() if self._idle else await RawConnection.connect(self.endpoint)
        try:
            reply = await connection.exchange(encode_request(method, self.endpoint, target, body))
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return reply

    async def insist(self, method: str, target: str, body: bytes = b"") -> RawReply:
        """Send it again until it is answered: ONLY FOR WHAT MAY BE REPEATED. Raises CommandError when it never is."""
        for _ in range(TRIES_MAX):
            try:
                reply = await self.send(method, target, body)
            except (OSError, ValueError):
                self.errors += 1
            else:
                if not is_no_answer(reply.status):
                    return reply
                self.errors += 1
            await asyncio.sleep(RETRY_S)
        raise CommandError(f"{method} {target} was not answered at {self.endpoint}, {TRIES_MAX} times")

    async def require(self, method: str, target: str, document: object = None) -> bytes:
        """The body of a 2xx answer. Raises CommandError for another one. May be repeated."""
        body = b"" if document is None else encode(document)
        reply = await self.insist(method, target, body)
        if reply.status >= 300:
            said = reply.body.decode("utf-8", "replace")
            raise CommandError(f"{method} {target} was refused with HTTP {reply.status}: {said[:300]}")
        return reply.body

    def close(self) -> None:
        """Hang up all that are idle."""
        while self._idle:
            self._idle.pop().close()


def is_no_answer(status: int) -> bool:
    """Whether the node could not say, so that the call may be tried again."""
    return status == TOO_MANY_REQUESTS or status >= 500


class _Registered(msgspec.Struct):
    epoch: int


class _Offers(msgspec.Struct):
    offers: list[Grant]


class _Grants(msgspec.Struct):
    items: list[Grant]


class _Item(msgspec.Struct):
    status: int


class _Items(msgspec.Struct):
    items: list[_Item]


_registered = msgspec.json.Decoder(_Registered)
_offers = msgspec.json.Decoder(_Offers)
_grants = msgspec.json.Decoder(_Grants)
_items = msgspec.json.Decoder(_Items)


class BenchAgent:
    """An agent of the generator's own: what it is told it does at once, and nothing more."""

    def __init__(self, caller: Caller, agent_id: str, slots: int, capabilities: tuple[str, ...] = ()) -> None:
        self.caller = caller
        self.agent_id = agent_id
        self.epoch = 0
        self._slots = slots
        self._capabilities = [{"name": name} for name in capabilities]

    async def register(self) -> None:
        """Come, or come again: what it held is requeued at once."""
        body = {"agent_id": self.agent_id, "max_concurrent": self._slots, "capabilities": self._capabilities}
        self.epoch = _registered.decode(await self.caller.require("POST", "/api/agents", body)).epoch

    async def leave(self) -> None:
        """Be forgotten; what it held is requeued. Again: nothing happens."""
        await self.caller.insist("DELETE", f"/api/agents/{self.agent_id}")

    async def poll(self, wait_ms: int) -> list[Grant]:
        """One heartbeat: what is offered."""
        target = f"/api/agents/{self.agent_id}/heartbeat"
        return _offers.decode(await self.caller.require("POST", target, self._wants(wait_ms))).offers

    async def claim(self, limit: int, wait_ms: int) -> list[Grant]:
        """Take up to `limit` tasks, which then run."""
        body = {"agent_id": self.agent_id, "limit": limit, **self._wants(wait_ms)}
        return _grants.decode(await self.caller.require("POST", "/api/tasks/claim", body)).items

    def _wants(self, wait_ms: int) -> dict[str, int]:
        return {"epoch": self.epoch, "wait_ms": wait_ms}

    async def accept(self, grant: Grant) -> bool:
        """Whether the offer was still there."""
        body = {"agent_id": self.agent_id, "attempt": grant.attempt}
        return await self._tell(f"/api/tasks/{grant.task_id}/accept", body)

    async def complete(self, grant: Grant) -> bool:
        """Whether it was still this agent's."""
        body = {"agent_id": self.agent_id, "attempt": grant.attempt, "result": grant.payload}
        return await self._tell(f"/api/tasks/{grant.task_id}/complete", body)

    async def _tell(self, target: str, body: dict[str, object]) -> bool:
        reply = await self.caller.insist("POST", target, encode(body))
        return reply.status < 300

    async def accept_batch(self, grants: list[Grant]) -> list[Grant]:
        """Those that were still there."""
        items = [{"task_id": grant.task_id, "attempt": grant.attempt} for grant in grants]
        return await self._tell_batch("/api/tasks/accept", grants, items)

    async def complete_batch(self, grants: list[Grant]) -> list[Grant]:
        """Those that were still this agent's."""
        items = [{"task_id": grant.task_id, "attempt": grant.attempt, "result": grant.payload} for grant in grants]
        return await self._tell_batch("/api/tasks/complete", grants, items)

    async def _tell_batch(self, target: str, grants: list[Grant], items: list[dict[str, object]]) -> list[Grant]:
        if not grants:
            return []
        answer = await self.caller.require("POST", target, {"agent_id": self.agent_id, "items": items})
        answered = _items.decode(answer).items
        return [grant for grant, item in zip(grants, answered, strict=True) if item.status < 300]
