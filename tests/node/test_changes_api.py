"""`GET /api/changes`: what API.md section 6 promises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from statemachine import limits
from tests.node.harness import Node, until, with_node
from tests.node.test_conventions import refused


async def history(node: Node) -> None:
    """Revisions 1 to 5, of two sessions and another project."""
    await node.post("/api/sessions", {"session_id": "s1", "user": "ada", "metadata": {"x": 1}})
    await node.post(
        "/api/sessions/s1/events", {"items": [{"type": "custom.a", "data": {"n": 1}}, {"type": "custom.b"}]}
    )
    await node.post("/api/sessions", {"session_id": "s2"})
    await node.post("/api/sessions?project=p1", {"session_id": "s1"})
    await node.ask("PATCH", "/api/sessions/s1", {"title": "t", "status": "paused"})


def types(items: list[dict[str, Any]]) -> list[tuple[int, list[str]]]:
    return [(item["revision"], [change["type"] for change in item["changes"]]) for item in items]


def test_one_message_per_revision_in_order() -> None:
    async def test(node: Node) -> None:
        await history(node)
        page = (await node.get("/api/changes?from_revision=1")).json
        assert types(page["items"]) == [
            (1, ["session.created"]),
            (2, ["event.appended"]),
            (3, ["session.created"]),
            (5, ["session.updated", "session.status_changed"]),
        ]
        assert (page["next_revision"], page["oldest_revision"]) == (6, 1)
        change = page["items"][0]["changes"][0]
        assert change["id"] == "1.0"
        assert change["project"] == "default"
        assert (change["resource"], change["resource_id"], change["source"]) == ("session", "s1", "anonymous")
        assert page["items"][0]["timestamp"] == "2026-01-01T00:00:00.000Z"
        ids = [change["id"] for item in page["items"] for change in item["changes"]]
        assert len(set(ids)) == len(ids)
        other = (await node.get("/api/changes?from_revision=1&project=p1")).json
        assert [item["revision"] for item in other["items"]] == [4]

    with_node(test)


def test_pages_resume_without_gap_or_repeat() -> None:
    async def test(node: Node) -> None:
        await history(node)
        seen: list[int] = []
        revision = 1
        while revision <= node.replica.revision:
            page = (await node.get(f"/api/changes?from_revision={revision}&limit=1")).json
            seen += [item["revision"] for item in page["items"]]
            assert page["next_revision"] > revision
            revision = page["next_revision"]
        assert seen == [1, 2, 3, 5]

    with_node(test)


def test_topics() -> None:
    async def test(node: Node) -> None:
        await history(node)

        async def revisions(topics: str) -> tuple[list[int], int]:
            page = (await node.get(f"/api/changes?from_revision=1&topics={topics}")).json
            return [item["revision"] for item in page["items"]], page["next_revision"]

        assert await revisions("session.s2") == ([3], 6)
        assert await revisions("sessions") == ([1, 2, 3, 5], 6)
        assert await revisions("*") == ([1, 2, 3, 5], 6)
        assert await revisions("user.ada") == ([1, 2, 5], 6)
        assert await revisions("tasks,session.s2") == ([3], 6)
        assert await revisions("tasks") == ([], 6)

    with_node(test)


def test_data() -> None:
    async def test(node: Node) -> None:
        await history(node)

        async def data(kind: str) -> list[Any]:
            page = (await node.get(f"/api/changes?from_revision=1&topics=session.s1&data={kind}")).json
            return [change["data"] for item in page["items"] for change in item["changes"]]

        assert await data("none") == [None, None, None, None]
        created, appended, _, moved = await data("full")
        assert created["metadata"] == {"x": 1}
        assert (created["title"], created["revision"]) == ("t", 5), "the resource as it is now"
        assert (moved["from"], moved["to"], moved["status"]) == ("active", "paused", "paused")
        assert (appended["first_seq"], appended["last_seq"]) == (1, 2)
        assert appended["types"] == ["custom.a", "custom.b"]
        assert [event["data"] for event in appended["events"]] == [{"n": 1}, None]
        created, appended, *_ = await data("summary")
        assert created["metadata"] is None
        assert [event["data"] for event in appended["events"]] == [None, None]
        assert [event["type"] for event in appended["events"]] == ["custom.a", "custom.b"]
        await node.ask("DELETE", "/api/sessions/s1")
        created, appended, *_ = await data("full")
        assert created is None
        assert appended["first_seq"] == 1

    with_node(test)


def test_absent_means_from_now() -> None:
    async def test(node: Node) -> None:
        await history(node)
        page = (await node.get("/api/changes")).json
        assert (page["items"], page["next_revision"]) == ([], 6)

    with_node(test)


def test_a_long_poll_wakes_for_what_it_wants() -> None:
    async def test(node: Node) -> None:
        await history(node)
        path = "/api/changes?from_revision=6&topics=session.s2&wait_ms=60000"
        poll = asyncio.ensure_future(node.get(path))
        await until(lambda: node.api.wakeups.waiting > 0)
        await node.ask("PATCH", "/api/sessions/s1", {"title": "x"})
        assert not poll.done()
        await node.ask("PATCH", "/api/sessions/s2", {"title": "x"})
        page = (await poll).json
        assert [item["revision"] for item in page["items"]] == [7]
        assert page["next_revision"] == 8

    with_node(test)


def test_a_long_poll_for_everything_and_for_nothing() -> None:
    async def test(node: Node) -> None:
        poll = asyncio.ensure_future(node.get("/api/changes?wait_ms=60000"))
        await until(lambda: node.api.wakeups.waiting > 0)
        await node.post("/api/sessions", {"session_id": "s1"})
        assert [item["revision"] for item in (await poll).json["items"]] == [1]
        empty = await node.get("/api/changes?from_revision=100&wait_ms=1")
        assert (empty.json["items"], empty.json["next_revision"]) == ([], 100)

    with_node(test)


def test_compacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHANGES_KEPT_MAX", 2)

    async def test(node: Node) -> None:
        for number in range(6):
            await node.post("/api/sessions", {"session_id": f"s{number}"})
        status = (await node.get("/api/status/cluster")).json
        oldest = status["changes"]["oldest_revision"]
        assert oldest == 5
        gone = await node.get(f"/api/changes?from_revision={oldest - 1}")
        refused(gone, "compacted")
        assert gone.json["oldest_revision"] == oldest
        refused(await node.get("/api/watch?from_revision=1"), "compacted")
        kept = (await node.get(f"/api/changes?from_revision={oldest}")).json
        assert [item["revision"] for item in kept["items"]] == [5, 6]

    with_node(test)


def test_list_then_follow_misses_nothing() -> None:
    async def test(node: Node) -> None:
        await history(node)
        listed = await node.get("/api/sessions?limit=1")
        await node.post("/api/sessions", {"session_id": "s3"})
        start = int(listed.headers["Hive-Revision"]) + 1
        page = (await node.get(f"/api/changes?from_revision={start}")).json
        assert [change["resource_id"] for item in page["items"] for change in item["changes"]] == ["s3"]

    with_node(test)
