"""Idempotency-Key and Hive-Fence through HTTP."""

from __future__ import annotations

from typing import Any

from node.api.ids import new_id, uuid7_ms
from tests.node.harness import Node, with_node
from tests.node.test_conventions import refused

KEY = {"Idempotency-Key": "k1"}
DAY_MS = 86_400_000


def test_a_repeat_gets_the_first_answer_and_fields_as_they_are_now() -> None:
    async def test(node: Node) -> None:
        first = await node.post("/api/sessions", {"title": "a"}, headers=KEY)
        assert first.status == 201
        assert "Idempotency-Replayed" not in first.headers
        session_id = first.json["session_id"]
        await node.ask("PATCH", f"/api/sessions/{session_id}", {"title": "b"})
        before = node.replica.revision
        again = await node.post("/api/sessions", {"title": "a"}, headers={"Idempotency-Key": '"k1"'})
        assert again.status == 201
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.headers["Location"] == first.headers["Location"]
        assert again.json["session_id"] == session_id
        assert again.json["revision"] == first.json["revision"] == 1
        assert again.json["title"] == "b"
        assert node.replica.revision == before

    with_node(test)


def test_appends_are_replayed_with_their_seqs() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        event = {"type": "custom.a"}
        first = await node.post("/api/sessions/s1/events", event, headers=KEY)
        await node.post("/api/sessions/s1/events", event)
        again = await node.post("/api/sessions/s1/events", event, headers=KEY)
        assert first.json == again.json == {"first_seq": 1, "last_seq": 1, "revision": 2}
        assert (first.status, again.status) == (201, 201)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (await node.get("/api/sessions/s1")).json["last_seq"] == 2

    with_node(test)


def test_what_is_gone_is_still_answered() -> None:
    async def test(node: Node) -> None:
        first = await node.post("/api/sessions", {"session_id": "s1"}, headers=KEY)
        gone = await node.ask("DELETE", "/api/sessions/s1", headers={"Idempotency-Key": "k2"})
        assert gone.json == {"session_id": "s1", "revision": 2, "deleted": True}
        again = await node.post("/api/sessions", {"session_id": "s1"}, headers=KEY)
        assert (again.status, again.json["revision"]) == (201, first.json["revision"])
        repeated = await node.ask("DELETE", "/api/sessions/s1", headers={"Idempotency-Key": "k2"})
        assert (repeated.status, repeated.json) == (200, gone.json)
        assert repeated.headers["Idempotency-Replayed"] == "true"
        refused(await node.ask("DELETE", "/api/sessions/s1"), "not_found")

    with_node(test)


def test_another_request_under_the_same_key_is_refused() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"}, headers=KEY)
        others: list[tuple[str, str, Any]] = [
            ("POST", "/api/sessions", {"session_id": "s2"}),
            ("POST", "/api/sessions?timeout_ms=5000", {"session_id": "s1"}),
            ("PATCH", "/api/sessions/s1", {"title": "x"}),
            ("POST", "/api/sessions/s1/events", {"type": "custom.a"}),
        ]
        before = node.replica.revision
        for method, path, body in others:
            refused(await node.ask(method, path, body, headers=KEY), "idempotency_key_reused")
        assert node.replica.revision == before
        elsewhere = await node.post("/api/sessions?project=p1", {"session_id": "s1"}, headers=KEY)
        assert elsewhere.status == 201
        assert "Idempotency-Replayed" not in elsewhere.headers

    with_node(test)


def test_refusals_of_the_state_machine_are_remembered() -> None:
    async def test(node: Node) -> None:
        refused(await node.ask("PATCH", "/api/sessions/s1", {"title": "x"}, headers=KEY), "not_found")
        await node.post("/api/sessions", {"session_id": "s1"})
        again = await node.ask("PATCH", "/api/sessions/s1", {"title": "x"}, headers=KEY)
        refused(again, "not_found")
        assert again.headers["Idempotency-Replayed"] == "true"

    with_node(test)


def test_refusals_at_the_edge_are_not_remembered() -> None:
    async def test(node: Node) -> None:
        refused(await node.post("/api/sessions", {"zebra": 1}, headers=KEY), "invalid_request")
        node.replica.follow()
        refused(await node.post("/api/sessions", {}, headers=KEY), "no_leader")
        node.replica.lead()
        assert (await node.post("/api/sessions", {}, headers=KEY)).status == 201

    with_node(test)


def test_the_key_is_forgotten_after_its_time() -> None:
    async def test(node: Node) -> None:
        short = {**KEY, "Idempotency-Ttl-Ms": "1000"}
        first = await node.post("/api/sessions", {}, headers=short)
        node.time.advance(999)
        assert (await node.post("/api/sessions", {}, headers=short)).json["session_id"] == first.json["session_id"]
        node.time.advance(1)
        later = await node.post("/api/sessions", {}, headers=KEY)
        assert later.json["session_id"] != first.json["session_id"]
        node.time.advance(DAY_MS - 1)
        again = await node.post("/api/sessions", {}, headers=KEY)
        assert again.json["session_id"] == later.json["session_id"]

    with_node(test)


def test_merge_patches_are_repeated_exactly() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1", "metadata": {"count": 1, "old": True}})
        patch = {"metadata": {"old": None, "new": {"a": 1}}}
        first = await node.ask("PATCH", "/api/sessions/s1", patch, headers=KEY)
        assert first.json["metadata"] == {"count": 1, "new": {"a": 1}}
        await node.ask("PATCH", "/api/sessions/s1", {"metadata": {"count": 2}})
        before = node.replica.revision
        again = await node.ask("PATCH", "/api/sessions/s1", patch, headers=KEY)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json["metadata"] == {"count": 2, "new": {"a": 1}}
        assert again.json["revision"] == first.json["revision"]
        assert node.replica.revision == before

    with_node(test)


def test_fences_are_checked() -> None:
    async def test(node: Node) -> None:
        for fence, code in (("task/t1/1", "stale_attempt"), ("agent/a1/1", "stale_epoch")):
            answer = await node.post("/api/sessions", {"session_id": "s1"}, headers={"Hive-Fence": fence})
            assert answer.status in (404, 409), answer
            assert answer.json["code"] in (code, "not_found")
        assert (await node.get("/api/sessions")).json["items"] == []
        assert node.replica.revision == 0

    with_node(test)


def test_ids_made_by_the_node_are_uuid7() -> None:
    made = [new_id() for _ in range(1_000)]
    assert len(set(made)) == 1_000
    assert all(uuid7_ms(text) > 1_600_000_000_000 for text in made)
    assert uuid7_ms("01890a5d-ac96-774b-bcce-b302099a8057") == 0x01890A5DAC96
    assert uuid7_ms("01890A5D-AC96-774B-BCCE-B302099A8057") == 0x01890A5DAC96
    for other in ("k1", "01890a5d-ac96-474b-bcce-b302099a8057", "01890a5dac96774bbcceb302099a8057", "x" * 36):
        assert uuid7_ms(other) == 0
