"""A node, its users and its agents, and a clock that only the script moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cluster.replica import Notice
from node.duties.clock import settle
from statemachine import audit
from tests.node.fleet_http import FleetNode, running
from tests.node.harness import Answer, until
from tests.scenarios import shown
from tests.scenarios.shown import Lines, Show


@dataclass
class Waiting:
    """A request that somebody waits for."""

    who: str
    reply: asyncio.Task[Answer]
    show: Show


class Stage:
    """What commands act on. `epochs` has the last epoch each agent was given."""

    def __init__(self, node: FleetNode) -> None:
        self.node = node
        self.epochs: dict[str, int] = {}
        self._waiting: list[Waiting] = []
        self._changes: Lines = []
        node.replica.subscribe(self._on_notice)

    def _on_notice(self, notice: Notice) -> None:
        self._changes += [shown.change(change, notice.time_ms) for change in notice.changes]

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request, and its reply."""
        return await self.node.ask(method, path, body, headers=headers or {})

    def wait_for(self, who: str, show: Show, method: str, path: str, body: Any = None) -> Waiting:
        """A request whose reply is told when it comes."""
        waiting = Waiting(who, asyncio.create_task(self.node.ask(method, path, body)), show)
        self._waiting.append(waiting)
        return waiting

    async def poll(self, agent_id: str, body: dict[str, Any]) -> bool:
        """Open a long-poll -> whether it is open, and not answered at once."""
        polls = self.node.duties.polls
        before = polls.opened
        waiting = self.wait_for(agent_id, shown.news, "POST", f"/api/agents/{agent_id}/heartbeat", body)
        await until(lambda: waiting.reply.done() or polls.opened > before)
        await self._settled()
        return not waiting.reply.done()

    async def aftermath(self) -> Lines:
        """Let everything come to rest -> what has changed, and what those who waited heard. The state is sound."""
        await self._settled()
        assert audit.audit(self.node.replica.store) == []
        lines, self._changes = self._changes, []
        for waiting in [waiting for waiting in self._waiting if waiting.reply.done()]:
            self._waiting.remove(waiting)
            first, *rest = shown.answer(await waiting.reply, waiting.show)
            lines += [f"{waiting.who} hears {first}", *rest]
        return lines

    async def _settled(self) -> None:
        """Nothing is under way any more, in the node or on the wire.

        What waits is answered before the request that is made here, and so has arrived when that is answered.
        """
        index = -1
        while index != self.node.replica.index:
            index = self.node.replica.index
            await settle()
            await self.node.get("/livez")
            await settle()

    def close(self) -> None:
        """Nobody waits any longer."""
        for waiting in self._waiting:
            waiting.reply.cancel()


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """A stage for one scenario."""
    async with running() as node:
        stage = Stage(node)
        try:
            yield stage
        finally:
            stage.close()
