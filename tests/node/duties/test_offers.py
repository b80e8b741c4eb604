"""Pending tasks go to agents that listen: in order, to the best, and back when they are not taken."""

from __future__ import annotations

import asyncio

from node.duties.clock import settle
from node.duties.settings import DutySettings
from statemachine.commands import DrainAgent, Requirement
from tests.node.duties.fleet import fleet


def run(coroutine: object) -> None:
    asyncio.run(coroutine)  # type: ignore[arg-type]


def test_offer_goes_to_listener() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            t.submit("t1")
            await settle()
            assert t.status("t1") == "pending"
            poll = await t.poll("a1")
            assert t.status("t1") == "assigned"
            assert poll.done()
            t.accept("a1", "t1")
            assert t.status("t1") == "running"
            t.complete("a1", "t1")

    asyncio.run(scenario())
