"""Waiting and failing: wake-ups, jumps of the state, bodies that never arrive, what the replica could not do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cluster.replica import CallFailedError, NotCommittedError, Notice, OutcomeUnknownError, TooStaleError
from node.api import app, feed
from node.api.problem import Problem, from_replica
from node.api.wakeups import DisconnectedError, Wakeups
from statemachine.changes import Change
from tests.node.harness import Node, until, with_node
from tests.node.test_conventions import refused


class Bell:
    """A replica of which only the notices matter."""

    def __init__(self) -> None:
        self.out_of_service = ""
        self.listeners: list[Callable[[Notice], None]] = []

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def on_role_change(self, _listener: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def ring(self, notice: Notice) -> None:
        for listener in tuple(self.listeners):
            listener(notice)


class Line:
    """A connection that can be lost."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def on_lost(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


def change(revision: int, project: str, resource: str, resource_id: str) -> Change:
    return Change(revision, f"{resource}.changed", project, resource, resource_id, "x", None, (), None)


def with_wakeups(test: Callable[[Any, Any, Any], Any]) -> None:
    async def whole() -> None:
        bell, line = Bell(), Line()
        wakeups: Any = Wakeups(bell)  # type: ignore[arg-type]  # it asks a replica for notices only
        await test(wakeups, bell, line)
        assert wakeups.waiting == 0
        assert line.callbacks == []

    asyncio.run(whole())


def test_waiters_are_woken_by_their_topics_and_told_the_revision() -> None:
    async def test(wakeups: Any, bell: Any, line: Any) -> None:
        def wait(project: str, *topics: str) -> asyncio.Future[int | None]:
            waiting: asyncio.Future[int | None] = asyncio.ensure_future(wakeups.wait(project, topics, 60, line))
            return waiting

        waits = [wait("p1", "task.t1"), wait("p1", "tasks", "agents"), wait("p2", "tasks"), wait("p2", "agent.a1")]
        anything = asyncio.ensure_future(wakeups.wait_any(60, line))
        await until(lambda: len(line.callbacks) == 5)
        bell.ring(Notice(1, 1, 5, 6, 0, (change(5, "p1", "task", "t2"), change(6, "p1", "task", "t1"))))
        bell.ring(Notice(2, 1, 7, 7, 0, (change(7, "", "agent", "a1"),)))
        assert [await waits[0], await waits[1], await waits[3], await anything] == [6, 5, 7, 5]
        assert not waits[2].done()
        bell.ring(Notice(3, 1, 8, 7, 0))
        assert not waits[2].done(), "an entry that took no revision changed nothing"
        bell.ring(Notice(9, 1, 8, 900, 0, gap=True))
        assert await waits[2] == 1

    with_wakeups(test)


def test_waits_end() -> None:
    async def test(wakeups: Any, bell: Any, line: Any) -> None:
        assert await wakeups.wait("p1", ("tasks",), 0, line) is None
        assert await wakeups.wait("p1", ("tasks",), 0.001, line) is None
        lost = asyncio.ensure_future(wakeups.wait_any(60, line))
        await until(lambda: len(line.callbacks) == 1)
        line.callbacks[0]()
        with pytest.raises(DisconnectedError):
            await lost
        stopped = asyncio.ensure_future(wakeups.wait_any(60, line))
        await until(lambda: len(line.callbacks) == 1)
        wakeups.close()
        with pytest.raises(Problem) as caught:
            await stopped
        assert caught.value.code == "shutting_down"
        with pytest.raises(Problem):
            await wakeups.wait_any(60, line)
        assert bell.listeners == []

    with_wakeups(test)


def test_a_filter_that_matches_little_is_followed_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "REVISIONS_SCANNED_MAX", 3)

    async def test(node: Node) -> None:
        for number in range(20):
            await node.post("/api/sessions", {"session_id": f"s{number}"})
        step = (await node.get("/api/changes?from_revision=1&topics=session.s19")).json
        assert (step["items"], step["next_revision"]) == ([], 5)
        waited = (await node.get("/api/changes?from_revision=1&topics=session.s19&wait_ms=60000")).json
        assert [item["revision"] for item in waited["items"]] == [20]

    with_node(test)


def test_a_body_that_does_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_TIMEOUT_S", 0.01)

    async def test(node: Node) -> None:
        before = node.replica.index
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(b"POST /api/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{")
        await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        assert node.replica.index == before

    with_node(test)


def test_what_the_replica_could_not_do() -> None:
    cases: list[tuple[Exception, str, int]] = [
        (NotCommittedError("no_leader", "none"), "no_leader", 503),
        (NotCommittedError("overloaded", "full", 70), "overloaded", 503),
        (NotCommittedError("read_only", "disk"), "read_only", 503),
        (NotCommittedError("shutting_down", "bye"), "shutting_down", 503),
        (NotCommittedError("too_large", "huge"), "too_large", 413),
        (OutcomeUnknownError(), "outcome_unknown", 504),
        (TooStaleError("behind"), "too_stale", 503),
        (CallFailedError("lost"), "no_leader", 503),
    ]
    for error, code, status in cases:
        found = from_replica(error)
        assert (found.code, found.kind.status) == (code, status)
        assert found.detail
    assert from_replica(cases[1][0]).retry_after_ms == 70
    with pytest.raises(TypeError):
        from_replica(ValueError())

    async def test(node: Node) -> None:
        async def unknown(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> Any:
            assert frames
            assert 0 < timeout_s <= 0.3
            raise OutcomeUnknownError

        node.replica.propose = unknown  # type: ignore[method-assign]  # time ran out after the proposal
        answer = await node.post("/api/sessions?timeout_ms=300", {})
        refused(answer, "outcome_unknown")
        assert answer.json["retry"] == "same_key"

    with_node(test)
