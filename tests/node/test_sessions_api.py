"""API.md section 3, field by field: sessions and their events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from statemachine import commands
from statemachine.commands import AppendEvents, NewEvent
from statemachine.entry import Frame, encode_frame
from statemachine.outcome import Outcome
from tests.node.harness import START_MS, Node, until, with_node
from tests.node.test_conventions import refused

NOW = "2026-01-01T00:00:00.000Z"


def test_a_session_with_everything() -> None:
    async def test(node: Node) -> None:
        made = await node.post(
            "/api/sessions",
            {
                "session_id": "s1",
                "title": "Fix the build",
                "agent_id": "a1",
                "user": "ada@example.com",
                "priority": 9,
                "expires_at": "2026-01-02T01:30:00+01:30",
                "metadata": {"repo": "x", "n": 1.50, "deep": [{"a": None}]},
            },
        )
        assert (made.status, made.headers["Location"]) == (201, "/api/sessions/s1")
        assert made.json == {
            "session_id": "s1",
            "project": "default",
            "status": "active",
            "title": "Fix the build",
            "agent_id": "a1",
            "user": "ada@example.com",
            "priority": 9,
            "expires_at": "2026-01-02T00:00:00.000Z",
            "metadata": {"repo": "x", "n": 1.50, "deep": [{"a": None}]},
            "last_seq": 0,
            "parent": None,
            "stats": {
                "events": 0,
                "by_type": {},
                "input_tokens": 0,
                "output_tokens": 0,
                "cost_usd": 0.0,
                "first_event_at": None,
                "last_event_at": None,
            },
            "created_at": NOW,
            "updated_at": NOW,
            "revision": 1,
            "created_revision": 1,
        }
        kept = await node.ask("POST", "/api/sessions", data=b'{"metadata":{"n" : 1.50,"n": 2e0}}')
        assert b'"metadata":{"n" : 1.50,"n": 2e0}' in kept.raw, "user's JSON stays the bytes the user sent"
        await node.ask("DELETE", kept.headers["Location"])
        assert (await node.get("/api/sessions/s1")).json == made.json
        assert (await node.get("/api/sessions")).json == {"items": [made.json], "next_cursor": None}

    with_node(test)


def test_defaults() -> None:
    async def test(node: Node) -> None:
        for body in (b"", b"{}"):
            made = await node.ask("POST", "/api/sessions", data=body)
            assert made.status == 201
            assert made.json["priority"] == 5
            for name in ("title", "agent_id", "user", "expires_at", "metadata", "parent"):
                assert made.json[name] is None
            assert len(made.json["session_id"]) == 36

    with_node(test)


def test_creating_again() -> None:
    async def test(node: Node) -> None:
        body = {"session_id": "s1", "title": "a", "metadata": {"x": 1}}
        first = await node.post("/api/sessions", body)
        again = await node.post("/api/sessions", body)
        assert (again.status, again.json) == (200, first.json)
        assert "Location" not in again.headers
        other = await node.post("/api/sessions", {**body, "title": "b"})
        refused(other, "exists")
        assert other.json["current"]["session_id"] == "s1"
        assert other.json["current"]["status"] == "active"
        assert node.replica.revision == 1

    with_node(test)


def test_patch_is_a_merge_patch() -> None:
    async def test(node: Node) -> None:
        await node.post(
            "/api/sessions", {"session_id": "s1", "title": "a", "user": "u", "metadata": {"x": 1, "y": {"z": 1}}}
        )
        node.time.advance(1_500)
        patched = await node.ask(
            "PATCH",
            "/api/sessions/s1",
            {"title": None, "agent_id": "a2", "priority": 0, "metadata": {"x": None, "y": {"w": 2}, "v": [1]}},
        )
        assert patched.status == 200
        assert patched.json["title"] is None
        assert patched.json["user"] == "u"
        assert patched.json["agent_id"] == "a2"
        assert patched.json["priority"] == 0
        assert patched.json["metadata"] == {"y": {"z": 1, "w": 2}, "v": [1]}
        assert patched.json["updated_at"] == "2026-01-01T00:00:01.500Z"
        assert (patched.json["revision"], patched.json["created_revision"]) == (2, 1)
        cleared = await node.ask("PATCH", "/api/sessions/s1", {"metadata": None})
        assert cleared.json["metadata"] is None
        same = await node.ask("PATCH", "/api/sessions/s1", {})
        assert (same.status, same.json["revision"]) == (200, 3)
        refused(await node.ask("PATCH", "/api/sessions/s2", {"title": "x"}), "not_found")
        refused(await node.ask("PATCH", "/api/sessions/s2", {"metadata": {"x": 1}}), "not_found")

    with_node(test)


def test_patches_with_if_revision() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1", "metadata": {"x": 1}})
        late = await node.ask("PATCH", "/api/sessions/s1", {"title": "x", "if_revision": 7})
        refused(late, "conflict")
        assert late.json["current"]["revision"] == 1
        refused(await node.ask("PATCH", "/api/sessions/s1", {"metadata": {"y": 1}, "if_revision": 7}), "conflict")
        good = await node.ask("PATCH", "/api/sessions/s1", {"metadata": {"y": 1}, "if_revision": 1})
        assert good.json["metadata"] == {"x": 1, "y": 1}

    with_node(test)


def _append() -> list[bytes]:
    """An append to s1 by somebody else."""
    payload = msgspec.Raw(commands.encode(AppendEvents("s1", (NewEvent("e1", "custom.other"),))))
    number = commands.NUMBERS[AppendEvents]
    return [encode_frame(Frame(number, 1, "default", "other", "", None, None, 0, 0, payload))]


def test_a_merge_that_was_overtaken_is_done_again() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1", "metadata": {"n": 1}})
        real, overtakes = node.replica.propose, 3

        async def overtaken(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
            """Somebody is always quicker: the first three times."""
            nonlocal overtakes
            if overtakes:
                overtakes -= 1
                node.replica.apply(_append())
            return await real(frames, timeout_s, term)

        node.replica.propose = overtaken  # type: ignore[method-assign]  # to come in between
        key = {"Idempotency-Key": "k1"}
        patched = await node.ask("PATCH", "/api/sessions/s1", {"metadata": {"m": 2}}, headers=key)
        assert (patched.status, patched.json["metadata"]) == (200, {"n": 1, "m": 2})
        before = node.replica.revision
        again = await node.ask("PATCH", "/api/sessions/s1", {"metadata": {"m": 2}}, headers=key)
        assert (again.status, again.json["revision"]) == (200, patched.json["revision"])
        assert again.headers["Idempotency-Replayed"] == "true"
        assert node.replica.revision == before

    with_node(test)


def test_moves_between_statuses() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        for status in ("paused", "active", "completed", "archived", "active"):
            moved = await node.ask("PATCH", "/api/sessions/s1", {"status": status})
            assert (moved.status, moved.json["status"]) == (200, status)
        await node.ask("PATCH", "/api/sessions/s1", {"status": "archived"})
        wrong = await node.ask("PATCH", "/api/sessions/s1", {"status": "paused"})
        refused(wrong, "conflict")
        assert wrong.json["current"]["status"] == "archived"
        filtered = await node.get("/api/sessions?status=paused,archived")
        assert [item["session_id"] for item in filtered.json["items"]] == ["s1"]
        assert (await node.get("/api/sessions?status=active")).json["items"] == []

    with_node(test)


def test_filters() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1", "agent_id": "a1", "user": "u1"})
        node.time.advance(1_000)
        await node.post("/api/sessions", {"session_id": "s2", "agent_id": "a2", "user": "u1"})

        async def found(query: str) -> list[str]:
            return [item["session_id"] for item in (await node.get(f"/api/sessions?{query}")).json["items"]]

        assert await found("agent_id=a1") == ["s1"]
        assert await found("agent_id=a1,a2") == ["s2", "s1"]
        assert await found("user=u1") == ["s2", "s1"]
        assert await found("user=u2") == []
        assert await found("updated_since=2026-01-01T00:00:01Z") == ["s2"]
        assert await found("updated_since=2026-01-01T01:00:00.000%2B01:00") == ["s2", "s1"]

    with_node(test)


def test_deleting() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        await node.post("/api/sessions/s1/events", {"type": "custom.a"})
        gone = await node.ask("DELETE", "/api/sessions/s1")
        assert (gone.status, gone.json) == (200, {"session_id": "s1", "revision": 3, "deleted": True})
        refused(await node.get("/api/sessions/s1"), "not_found")
        refused(await node.get("/api/sessions/s1/events"), "not_found")
        refused(await node.ask("DELETE", "/api/sessions/s1"), "not_found")
        fresh = await node.post("/api/sessions", {"session_id": "s1"})
        assert (fresh.status, fresh.json["last_seq"], fresh.json["stats"]["events"]) == (201, 1, 0)
        seen_before = {"type": "custom.b", "expected_seq": 0}
        late = await node.post("/api/sessions/s1/events", seen_before)
        assert (late.status, late.json["code"], late.json["last_seq"]) == (409, "sequence_mismatch", 1)
        first = await node.post("/api/sessions/s1/events", {"type": "custom.b", "expected_seq": 1})
        assert (first.json["first_seq"], first.json["last_seq"]) == (2, 2)

    with_node(test)


def test_an_event_with_everything() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        node.time.advance(250)
        blob = "ab" * 32
        answer = await node.post(
            "/api/sessions/s1/events",
            {
                "type": "tool.called",
                "data": {"tool": "grep", "args": ["x"]},
                "actor": "a1",
                "correlation_id": "c1",
                "causation_id": "c0",
                "occurred_at": "2025-12-31T23:59:59.5Z",
                "usage": {"input_tokens": 10, "output_tokens": 5, "cost_usd": 0.000123},
                "artifacts": [{"name": "log", "blob": blob, "bytes": 7, "content_type": "text/plain"}],
                "expected_seq": 0,
            },
        )
        assert answer.status == 201
        assert answer.json == {"first_seq": 1, "last_seq": 1, "revision": 2}
        listed = (await node.get("/api/sessions/s1/events")).json
        assert listed["next_cursor"] is None
        assert listed["last_seq"] == 1
        event = listed["items"][0]
        assert len(event.pop("event_id")) == 36
        assert event == {
            "session_id": "s1",
            "seq": 1,
            "revision": 2,
            "type": "tool.called",
            "actor": "a1",
            "data": {"tool": "grep", "args": ["x"]},
            "correlation_id": "c1",
            "causation_id": "c0",
            "occurred_at": "2025-12-31T23:59:59.500Z",
            "recorded_at": "2026-01-01T00:00:00.250Z",
            "usage": {"input_tokens": 10, "output_tokens": 5, "cost_usd": 0.000123},
            "artifacts": [{"name": "log", "blob": blob, "bytes": 7, "content_type": "text/plain"}],
        }
        session = (await node.get("/api/sessions/s1")).json
        assert session["last_seq"] == 1
        assert session["stats"] == {
            "events": 1,
            "by_type": {"tool.called": 1},
            "input_tokens": 10,
            "output_tokens": 5,
            "cost_usd": 0.000123,
            "first_event_at": "2026-01-01T00:00:00.250Z",
            "last_event_at": "2026-01-01T00:00:00.250Z",
        }

    with_node(test)


def test_appends_are_atomic_and_take_one_revision() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        items = [{"type": "custom.a", "data": {"n": n}} for n in range(3)]
        answer = await node.post("/api/sessions/s1/events", {"items": items})
        assert answer.json == {"first_seq": 1, "last_seq": 3, "revision": 2}
        stale = await node.post("/api/sessions/s1/events", {"items": items, "expected_seq": 2})
        refused(stale, "sequence_mismatch")
        assert stale.json["last_seq"] == 3
        good = await node.post("/api/sessions/s1/events", {"items": items, "expected_seq": 3})
        assert good.json == {"first_seq": 4, "last_seq": 6, "revision": 3}
        events = (await node.get("/api/sessions/s1/events")).json["items"]
        assert [event["revision"] for event in events] == [2, 2, 2, 3, 3, 3]
        assert [event["data"]["n"] for event in events] == [0, 1, 2, 0, 1, 2]
        refused(await node.post("/api/sessions/s9/events", {"type": "custom.a"}), "not_found")

    with_node(test)


def test_reading_events() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        for number in range(1, 7):
            event = {
                "type": "custom.even" if number % 2 == 0 else "custom.odd",
                "actor": f"a{number % 3}",
                "correlation_id": f"c{number}",
            }
            await node.post("/api/sessions/s1/events", event)
            node.time.advance(1_000)

        async def seqs(query: str) -> list[int]:
            answer = await node.get(f"/api/sessions/s1/events?{query}")
            assert answer.status == 200, answer
            return [event["seq"] for event in answer.json["items"]]

        assert await seqs("") == [1, 2, 3, 4, 5, 6]
        assert await seqs("order=desc&limit=2") == [6, 5]
        assert await seqs("after_seq=4") == [5, 6]
        assert await seqs("before_seq=3") == [1, 2]
        assert await seqs("after_seq=1&before_seq=4") == [2, 3]
        assert await seqs("after_seq=6") == []
        assert await seqs("types=custom.even") == [2, 4, 6]
        assert await seqs("types=custom.even,custom.odd&limit=3") == [1, 2, 3]
        assert await seqs("actor=a0") == [3, 6]
        assert await seqs("actor=a0,a1") == [1, 3, 4, 6]
        assert await seqs("correlation_id=c2,c5") == [2, 5]
        assert await seqs("since=2026-01-01T00:00:02Z&until=2026-01-01T00:00:04Z") == [3, 4]

    with_node(test)


def test_a_long_poll_is_answered_by_the_event_it_waits_for() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        await node.post("/api/sessions", {"session_id": "s2"})
        path = "/api/sessions/s1/events?after_seq=1&types=custom.b&wait_ms=60000"
        poll = asyncio.ensure_future(node.get(path))
        await until(lambda: node.api.wakeups.waiting > 0)
        await node.post("/api/sessions/s2/events", {"type": "custom.b"})
        await node.post("/api/sessions/s1/events", {"items": [{"type": "custom.b"}, {"type": "custom.a"}]})
        await until(lambda: node.api.wakeups.waiting > 0)
        assert not poll.done()
        await node.post("/api/sessions/s1/events", {"type": "custom.b"})
        answer = await poll
        assert [event["seq"] for event in answer.json["items"]] == [3]
        assert answer.json["last_seq"] == 3
        assert node.api.wakeups.waiting == 0

    with_node(test)


def test_a_long_poll_ends_when_its_time_is_over_or_the_session_is_gone() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        empty = await node.get("/api/sessions/s1/events?wait_ms=1")
        assert (empty.status, empty.json) == (200, {"items": [], "next_cursor": None, "last_seq": 0})
        poll = asyncio.ensure_future(node.get("/api/sessions/s1/events?wait_ms=60000"))
        await until(lambda: node.api.wakeups.waiting > 0)
        await node.ask("DELETE", "/api/sessions/s1")
        refused(await poll, "not_found")

    with_node(test)


def test_a_long_poll_ends_when_the_client_goes_or_the_node_stops() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        poll = asyncio.ensure_future(node.get("/api/sessions/s1/events?wait_ms=60000"))
        await until(lambda: node.api.wakeups.waiting > 0)
        poll.cancel()
        await until(lambda: node.api.wakeups.waiting == 0)
        other = asyncio.ensure_future(node.get("/api/sessions/s1/events?wait_ms=60000"))
        await until(lambda: node.api.wakeups.waiting > 0)
        node.server.stop_accepting()
        answer = await other
        refused(answer, "shutting_down")
        assert answer.headers["Connection"] == "close"

    with_node(test)


def test_an_expired_session_takes_no_events() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1", "expires_at": "2026-01-01T00:00:01Z"})
        assert node.time.now_ms == START_MS
        node.time.advance(1_000)
        refused(await node.post("/api/sessions/s1/events", {"type": "custom.a"}), "conflict")

    with_node(test)


def test_the_reply_to_a_write_shows_that_write_and_no_later_one() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        await node.post("/api/tasks", {"task_id": "t1"})
        propose = node.replica.propose
        for path, field in (("/api/sessions/s1", "title"), ("/api/tasks/t1", "priority")):
            values = ["1", "2", "3"] if field == "title" else [1, 2, 3]
            done = asyncio.Barrier(len(values))

            async def held(*arguments: Any, done: asyncio.Barrier = done) -> list[Outcome]:
                """All are applied before one is answered."""
                outcomes = await propose(*arguments)
                await done.wait()
                return outcomes

            node.replica.propose = held  # type: ignore[assignment,method-assign]  # slower to answer
            answers = await asyncio.gather(*(node.ask("PATCH", path, {field: value}) for value in values))
            node.replica.propose = propose  # type: ignore[method-assign]  # as it was
            assert [answer.json[field] for answer in answers] == values
            assert len({answer.json["revision"] for answer in answers}) == len(values)

    with_node(test)
