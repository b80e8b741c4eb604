"""Handing over leadership from a node that does not lead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cluster.local import LocalReplica
from cluster.replica import CallFailedError, NotCommittedError
from node.duties.clock import ManualClock
from node.duties.hand_over import HandOver


class Pair:
    """A follower whose calls reach a leader that can be given up."""

    def __init__(self) -> None:
        clock = ManualClock()
        self.leader = LocalReplica(clock.now_ms, "n1")
        self.follower = LocalReplica(clock.now_ms, "n2")
        self.follower.follow()
        HandOver(self.leader)
        self.asking = HandOver(self.follower)

        async def call_leader(service: str, request: bytes, timeout_s: float) -> bytes:
            return await self.leader.call_leader(service, request, timeout_s)

        self.follower.call_leader = call_leader  # type: ignore[method-assign]  # the wire between the two

    def on_transfer(self, transfer: Callable[[str | None, float], Awaitable[str]]) -> None:
        self.leader.transfer_leadership = transfer  # type: ignore[method-assign,assignment]  # a cluster of three


def test_the_leader_is_asked() -> None:
    async def test() -> None:
        pair = Pair()

        async def transfer(to: str | None, timeout_s: float) -> str:
            assert 0 < timeout_s <= 5
            return to or "n3"

        pair.on_transfer(transfer)
        assert await pair.asking.hand_over(None, 5) == ("n3", pair.leader.term)
        assert await pair.asking.hand_over("n2", 5) == ("n2", pair.leader.term)

    asyncio.run(test())


def test_refusals_come_back() -> None:
    async def test() -> None:
        pair = Pair()
        with pytest.raises(ValueError, match="not a member"):
            await pair.asking.hand_over("n9", 5)

        async def transfer(to: str | None, timeout_s: float) -> str:
            raise NotCommittedError("no_leader", "nobody caught up")

        pair.on_transfer(transfer)
        with pytest.raises(NotCommittedError, match="nobody caught up"):
            await pair.asking.hand_over(None, 5)

    asyncio.run(test())


def test_an_answer_that_is_lost_with_the_old_leader() -> None:
    async def test() -> None:
        pair = Pair()

        async def transfer(to: str | None, timeout_s: float) -> str:
            asyncio.get_running_loop().call_soon(pair.follower.lead)
            raise CallFailedError("the leader changed")

        pair.on_transfer(transfer)
        assert await pair.asking.hand_over("n2", 5) == ("n2", pair.follower.term)
        pair.follower.follow()
        with pytest.raises(CallFailedError):
            await pair.asking.hand_over("n3", 5)

    asyncio.run(test())


def test_a_leader_that_cannot_be_reached_is_no_success() -> None:
    async def test() -> None:
        pair = Pair()
        pair.leader.follow()
        with pytest.raises(CallFailedError):
            await pair.asking.hand_over(None, 0.01)

    asyncio.run(test())
