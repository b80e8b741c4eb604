"""Calls to the leader's memory: every one ends, whatever becomes of the leader, the reply, or the node."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest

from cluster import calls as calls_module
from cluster.calls import CALL_BYTES_MAX, Calls
from cluster.replica import CallFailedError

_LONG_S = 60.0


class _Node:
    """One side; what it sends is kept, or delivered when there is a wire."""

    def __init__(self, node_id: str, leader_id: str | None) -> None:
        self.leader_id = leader_id
        self.node_id = node_id
        self.reachable = True
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.arrived = asyncio.Event()
        self.calls = Calls(
            node_id, 7, send=self._send, leader_id=lambda: self.leader_id, is_leader=lambda: self.leader_id == node_id
        )

    def _send(self, peer_id: str, message: Mapping[str, Any]) -> bool:
        if self.reachable:
            self.sent.append((peer_id, dict(message)))
            self.arrived.set()
        return self.reachable

    async def last(self) -> dict[str, Any]:
        async with asyncio.timeout(_LONG_S):
            await self.arrived.wait()
        return self.sent[-1][1]

    def reply(self, **fields: Any) -> None:
        """The answer of the leader to the last call."""
        number = self.sent[-1][1]["number"]
        self.calls.on_message("n2", {"type": "reply", "number": number, "reply": None, "error": None} | fields)


def _run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def _asked(node: _Node) -> asyncio.Task[bytes]:
    node.arrived.clear()
    task = asyncio.ensure_future(node.calls.call("echo", b"x", _LONG_S))
    await node.last()
    return task


def test_the_reply_is_the_answer_and_strays_are_not() -> None:
    async def play() -> None:
        node = _Node("n1", "n2")
        task = await _asked(node)
        assert node.sent == [("n2", {"type": "call", "number": 8, "service": "echo", "request": b"x"})]
        for stray in (7, 9):
            node.calls.on_message("n2", {"type": "reply", "number": stray, "reply": b"no", "error": None})
        node.reply(reply=b"yes")
        node.reply(reply=b"again")
        assert await task == b"yes"

    _run(play())


@pytest.mark.parametrize(("fields", "why"), [({"error": "not now"}, "not now"), ({}, "empty")])
def test_an_error_is_told(fields: dict[str, Any], why: str) -> None:
    async def play() -> None:
        node = _Node("n1", "n2")
        task = await _asked(node)
        node.reply(**fields)
        with pytest.raises(CallFailedError, match=why):
            await task

    _run(play())


def test_a_change_of_leader_ends_all_calls() -> None:
    async def play() -> None:
        node = _Node("n1", "n2")
        tasks = [await _asked(node) for _ in range(3)]
        node.calls.leader_changed()
        for task in tasks:
            with pytest.raises(CallFailedError, match="leader changed"):
                await task
        node.reply(reply=b"late")

    _run(play())


def test_closing_ends_all_calls_and_takes_no_more() -> None:
    async def play() -> None:
        node = _Node("n1", "n2")
        task = await _asked(node)
        node.calls.close()
        with pytest.raises(CallFailedError, match="stopping"):
            await task
        with pytest.raises(CallFailedError, match="stopping"):
            await node.calls.call("echo", b"x", _LONG_S)

    _run(play())


@pytest.mark.parametrize(("leader", "reachable"), [(None, True), ("n2", False)])
def test_without_a_leader_there_is_no_waiting(leader: str | None, reachable: bool) -> None:
    async def play() -> None:
        node = _Node("n1", leader)
        node.reachable = reachable
        with pytest.raises(CallFailedError, match="no leader is reachable"):
            await node.calls.call("echo", b"x", _LONG_S)

    _run(play())


def test_time_over_is_told() -> None:
    async def play() -> None:
        node = _Node("n1", "n2")
        with pytest.raises(CallFailedError, match=r"did not answer within 0\.01 s"):
            await node.calls.call("echo", b"x", 0.01)

    _run(play())


@pytest.mark.parametrize("node_id", ["n1", "n2"])
def test_an_unknown_service_is_the_same_error_everywhere(node_id: str) -> None:
    async def play() -> None:
        leader = _Node("n2", "n2")
        if node_id == "n2":
            with pytest.raises(CallFailedError, match="no service"):
                await leader.calls.call("nothing", b"", _LONG_S)
            return
        leader.calls.on_message("n1", {"type": "call", "number": 1, "service": "nothing", "request": b""})
        assert "no service" in (await leader.last())["error"]

    _run(play())


def test_what_would_cost_the_connection_is_refused_before() -> None:
    async def play() -> None:
        node = _Node("n1", "n2")
        with pytest.raises(CallFailedError, match="too long"):
            await node.calls.call("echo", bytes(CALL_BYTES_MAX + 1), _LONG_S)
        assert node.sent == []
        leader = _Node("n2", "n2")

        async def long(_peer_id: str, _request: bytes) -> bytes:
            return bytes(CALL_BYTES_MAX + 1)

        leader.calls.serve("long", long)
        leader.calls.on_message("n1", {"type": "call", "number": 1, "service": "long", "request": b""})
        answer = await leader.last()
        assert (answer["reply"], "too long" in answer["error"]) == (None, True)

    _run(play())


def test_a_defect_is_told_without_its_text() -> None:
    async def play() -> None:
        leader = _Node("n2", "n2")

        async def broken(_peer_id: str, _request: bytes) -> bytes:
            raise KeyError("private")

        leader.calls.serve("broken", broken)
        leader.calls.on_message("n1", {"type": "call", "number": 1, "service": "broken", "request": b""})
        assert (await leader.last())["error"] == "internal: KeyError"

    _run(play())


def test_a_follower_serves_nobody() -> None:
    async def play() -> None:
        follower = _Node("n2", "n3")
        follower.calls.on_message("n1", {"type": "call", "number": 1, "service": "echo", "request": b""})
        assert (await follower.last())["error"] == "not the leader"

    _run(play())


def test_calls_under_way_are_bounded_and_end_with_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        monkeypatch.setattr(calls_module, "_SERVING_MAX", 2)
        leader = _Node("n2", "n2")
        stuck = asyncio.Event()
        begun = asyncio.Semaphore(0)
        ended = 0

        async def wait(_peer_id: str, _request: bytes) -> bytes:
            nonlocal ended
            begun.release()
            try:
                await stuck.wait()
            finally:
                ended += 1
            return b""

        leader.calls.serve("wait", wait)
        for number in range(3):
            leader.calls.on_message("n1", {"type": "call", "number": number, "service": "wait", "request": b""})
        assert ("too many" in (await leader.last())["error"], leader.sent[0][1]["number"]) == (True, 2)
        for _ in range(2):
            await begun.acquire()
        tasks = set(leader.calls._serving)
        leader.calls.close()
        await asyncio.wait(tasks, timeout=_LONG_S)
        assert ended == 2

    _run(play())
