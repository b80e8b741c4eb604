"""The four options of reads, and lists: pages, cursors, trimming."""

from __future__ import annotations

import asyncio
import base64
import time

import msgspec

from node.api.pages import ROWS_SCANNED_MAX
from tests.node.harness import Node, until, with_node
from tests.node.test_conventions import refused


def test_consistency_given_is_reported() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        confirmed = await node.get("/api/sessions/s1?consistency=linearizable")
        assert confirmed.headers["Hive-Consistency"] == "linearizable"
        stale = await node.get("/api/sessions/s1?consistency=stale")
        assert stale.headers["Hive-Consistency"] == "stale"

    with_node(test)


def test_a_linearizable_read_waits_for_the_barrier() -> None:
    async def test(node: Node) -> None:
        asked: list[float] = []

        async def barrier(timeout_s: float) -> None:
            asked.append(timeout_s)

        node.replica.read_barrier = barrier  # type: ignore[method-assign]  # to see that it is asked
        await node.get("/api/sessions?consistency=linearizable&timeout_ms=700")
        await node.get("/api/sessions")
        assert len(asked) == 1
        assert 0 < asked[0] <= 0.7

    with_node(test)


def test_min_revision_waits_until_it_is_applied() -> None:
    async def test(node: Node) -> None:
        answer = asyncio.ensure_future(node.get("/api/sessions?min_revision=2"))
        await until(lambda: bool(node.replica._waiters))
        await node.post("/api/sessions", {})
        assert not answer.done()
        await node.post("/api/sessions", {})
        assert len((await answer).json["items"]) == 2
        late = await node.get("/api/sessions?min_revision=3&timeout_ms=1")
        refused(late, "too_stale")
        assert late.headers["Hive-Revision"] == "2"

    with_node(test)


async def another_millisecond() -> None:
    """What is said of the lag counts for a millisecond."""
    now_ms = int(time.time() * 1_000)
    await until(lambda: int(time.time() * 1_000) != now_ms)


def test_max_lag() -> None:
    async def test(node: Node) -> None:
        assert (await node.get("/api/sessions?max_lag_ms=0")).status == 200
        await another_millisecond()
        node.replica.lag_ms = lambda: 50  # type: ignore[method-assign]  # a follower that fell behind
        assert (await node.get("/api/sessions?max_lag_ms=50")).status == 200
        behind = await node.get("/api/sessions?max_lag_ms=49")
        refused(behind, "too_stale")
        assert behind.headers["Hive-Lag-Ms"] == "50"
        await another_millisecond()
        node.replica.lag_ms = lambda: None  # type: ignore[method-assign]  # and one that never heard a leader
        refused(await node.get("/api/sessions?max_lag_ms=60000"), "too_stale")
        assert (await node.get("/api/sessions")).headers["Hive-Lag-Ms"] == ""

    with_node(test)


async def make(node: Node, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await node.post("/api/sessions", {"session_id": f"s{number}", "user": "odd" if number % 2 else "even"})


async def walk(node: Node, path: str) -> list[list[str]]:
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        separator = "&" if "?" in path else "?"
        answer = await node.get(path + (f"{separator}cursor={cursor}" if cursor else ""))
        assert answer.status == 200, answer
        pages.append([item["session_id"] for item in answer.json["items"]])
        cursor = answer.json["next_cursor"]
    return pages


def test_pages_newest_first_and_oldest_first() -> None:
    async def test(node: Node) -> None:
        await make(node, 1, 5)
        assert await walk(node, "/api/sessions?limit=2") == [["s5", "s4"], ["s3", "s2"], ["s1"]]
        assert await walk(node, "/api/sessions?limit=2&order=asc") == [["s1", "s2"], ["s3", "s4"], ["s5"]]
        assert await walk(node, "/api/sessions?limit=5") == [["s5", "s4", "s3", "s2", "s1"]]
        assert await walk(node, "/api/sessions?user=odd&limit=2") == [["s5", "s3"], ["s1"]]
        assert await walk(node, "/api/sessions?user=odd,even") == [["s5", "s4", "s3", "s2", "s1"]]
        assert await walk(node, "/api/sessions?user=odd&user=even&limit=4") == [["s5", "s4", "s3", "s2"], ["s1"]]

    with_node(test)


def test_what_is_there_throughout_appears_exactly_once() -> None:
    async def test(node: Node) -> None:
        await make(node, 1, 6)
        first = await node.get("/api/sessions?limit=2")
        await make(node, 7, 9)
        await node.ask("DELETE", "/api/sessions/s4")
        await node.ask("DELETE", "/api/sessions/s5")
        await node.ask("PATCH", "/api/sessions/s1", {"title": "moved in time, not in place"})
        rest = await node.get(f"/api/sessions?limit=10&cursor={first.json['next_cursor']}")
        seen = [item["session_id"] for item in first.json["items"] + rest.json["items"]]
        assert seen == ["s6", "s5", "s3", "s2", "s1"]

    with_node(test)


def test_cursors_belong_to_their_list_and_filters() -> None:
    async def test(node: Node) -> None:
        await make(node, 1, 4)
        cursor = (await node.get("/api/sessions?limit=1&user=odd")).json["next_cursor"]
        good = await node.get(f"/api/sessions?limit=3&user=odd&cursor={cursor}&fields=session_id&consistency=stale")
        assert [item["session_id"] for item in good.json["items"]] == ["s1"]
        tampered = msgspec.msgpack.encode([1, 0, "sessions", b"12345678", 5])
        for path in (
            f"/api/sessions?user=even&cursor={cursor}",
            f"/api/sessions?cursor={cursor}",
            f"/api/sessions?user=odd&order=asc&cursor={cursor}",
            f"/api/projects?cursor={cursor}",
            f"/api/sessions/s1/events?cursor={cursor}",
            f"/api/sessions?user=odd&cursor={cursor[:-2]}",
            f"/api/sessions?user=odd&cursor={base64.urlsafe_b64encode(tampered).decode()}",
            "/api/sessions?cursor=%00",
            "/api/sessions?cursor=",
        ):
            refused(await node.get(path), "invalid_cursor")
        await node.post("/api/projects", {"project": "p1"})
        refused(await node.get(f"/api/sessions?limit=1&user=odd&project=p1&cursor={cursor}"), "invalid_cursor")

    with_node(test)


def test_cursors_of_events_belong_to_their_session() -> None:
    async def test(node: Node) -> None:
        await make(node, 1, 2)
        for session in ("s1", "s2"):
            await node.post(f"/api/sessions/{session}/events", {"items": [{"type": "custom.a"}] * 3})
        cursor = (await node.get("/api/sessions/s1/events?limit=1")).json["next_cursor"]
        refused(await node.get(f"/api/sessions/s2/events?cursor={cursor}"), "invalid_cursor")
        rest = await node.get(f"/api/sessions/s1/events?cursor={cursor}")
        assert [event["seq"] for event in rest.json["items"]] == [2, 3]

    with_node(test)


def test_fields_trims() -> None:
    async def test(node: Node) -> None:
        await make(node, 1, 1)
        answer = await node.get("/api/sessions?fields=user,session_id")
        assert answer.json["items"] == [{"user": "odd", "session_id": "s1"}]

    with_node(test)


def test_a_page_ends_at_its_limit_of_bytes() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        for _ in range(20):
            data = {"x": "y" * 250_000}
            assert (await node.post("/api/sessions/s1/events", {"type": "custom.a", "data": data})).status == 201
        seen: list[int] = []
        cursor: str | None = ""
        pages = 0
        while cursor is not None:
            answer = await node.get("/api/sessions/s1/events" + (f"?cursor={cursor}" if cursor else ""))
            assert len(answer.raw) < (4 << 20) + 1_000
            seen += [event["seq"] for event in answer.json["items"]]
            cursor = answer.json["next_cursor"]
            pages += 1
        assert seen == list(range(1, 21))
        assert pages == 2

    with_node(test)


def test_a_page_ends_where_too_many_rows_were_passed_over() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        for _ in range(ROWS_SCANNED_MAX // 1_000 + 1):
            await node.post("/api/sessions/s1/events", {"items": [{"type": "custom.a"}] * 1_000})
        await node.post("/api/sessions/s1/events", {"type": "custom.b"})
        first = await node.get("/api/sessions/s1/events?types=custom.b")
        assert first.json["items"] == []
        assert first.json["next_cursor"] is not None
        second = await node.get(f"/api/sessions/s1/events?types=custom.b&cursor={first.json['next_cursor']}")
        assert [event["type"] for event in second.json["items"]] == ["custom.b"]
        assert second.json["next_cursor"] is None

    with_node(test)
