"""The fencing rule: who does not hold a task at its current attempt changes nothing, and hears how things stand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, with_fleet

VERBS = ("accept", "renew", "progress", "complete", "fail", "release")
SITUATIONS = ("other agent", "old attempt", "future attempt", "pending", "completed", "cancelled", "failed")


async def _prepare(node: FleetNode, situation: str) -> tuple[str, int]:
    """Bring task t1 into a situation -> (agent, attempt) of a caller that does not hold it."""
    epoch = await node.register("a1")
    await node.register("a2")
    await node.submit("t1", max_attempts=2)
    if situation == "pending":
        return "a1", 0
    await node.claim("a1", epoch)
    if situation == "other agent":
        return "a2", 1
    if situation == "future attempt":
        return "a1", 2
    if situation == "old attempt":
        await node.verb("release", "t1", "a1", 1)
        await node.post("/api/tasks/t1/claim", {"agent_id": "a2", "epoch": epoch + 1})
        return "a1", 1
    if situation == "completed":
        await node.verb("complete", "t1", "a1", 1)
        return "a2", 1
    if situation == "failed":
        await node.verb("fail", "t1", "a1", 1, retryable=False)
        return "a2", 1
    await node.ask("DELETE", "/api/tasks/t1")
    return "a1", 1


@pytest.mark.parametrize("situation", SITUATIONS)
def test_who_does_not_hold_it_changes_nothing(situation: str) -> None:
    async def step(node: FleetNode) -> None:
        agent_id, attempt = await _prepare(node, situation)
        before, revision = await node.task("t1"), node.replica.revision
        for verb in VERBS:
            if (situation, verb) in {("cancelled", "release"), ("old attempt", "release")}:
                continue  # its confirmation; and what it won already
            for fields in ({}, {"checkpoint": {"x": 1}}) if verb == "progress" else ({},):
                answer = await node.verb(verb, "t1", agent_id, attempt, **fields)
                assert (answer.status, answer.json["code"]) == (409, "stale_attempt"), verb
                current = answer.json["current"]
                assert {name: current[name] for name in ("status", "attempt", "agent_id")} == {
                    name: before[name] for name in ("status", "attempt", "agent_id")
                }
                assert "granted_at" in current
        assert node.replica.revision == revision
        assert await node.task("t1") == before

    with_fleet(step)


@pytest.mark.parametrize("verb", ["complete", "fail", "release"])
def test_repeating_a_won_verb_is_answered_again(verb: str) -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        first = await node.verb(verb, "t1", "a1", 1)
        again = await node.verb(verb, "t1", "a1", 1)
        assert (first.status, again.status) == (200, 200)
        assert again.json["revision"] == first.json["revision"]
        assert node.replica.revision == first.json["revision"]

    with_fleet(step)


def test_old_epoch_is_refused_by_every_verb() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        for verb in VERBS:
            answer = await node.verb(verb, "t1", "a1", 1, epoch=epoch + 7)
            assert (answer.status, answer.json["code"]) == (409, "stale_epoch"), verb
            assert answer.json["current"] == {"epoch": epoch}
        claim = await node.post("/api/tasks/claim", {"agent_id": "a1", "epoch": epoch + 7})
        assert (claim.status, claim.json["code"]) == (409, "stale_epoch")
        named = await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch + 7})
        assert (named.status, named.json["code"]) == (409, "stale_epoch")
        unknown = await node.post("/api/tasks/claim", {"agent_id": "nobody", "epoch": 1})
        assert (unknown.status, unknown.json["code"]) == (404, "not_found")

    with_fleet(step)


def test_unknown_task_is_not_found() -> None:
    async def step(node: FleetNode) -> None:
        await node.register("a1")
        for verb in VERBS:
            answer = await node.verb(verb, "nowhere", "a1", 1)
            assert (answer.status, answer.json["code"]) == (404, "not_found"), verb

    with_fleet(step)


def test_hive_fence_guards_any_write() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        fence = {"Hive-Fence": "task/t1/1"}
        assert (await node.post("/api/tasks", {"task_id": "x1"}, headers=fence)).status == 201
        await node.verb("release", "t1", "a1", 1)
        late = await node.post("/api/tasks", {"task_id": "x2"}, headers=fence)
        assert (late.status, late.json["code"]) == (409, "stale_attempt")
        assert (await node.get("/api/tasks/x2")).status == 404

    with_fleet(step)


def test_batches_of_verbs_decide_item_by_item() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=4)
        for number in range(4):
            await node.submit(f"t{number}")
        await node.claim("a1", epoch, limit=4)

        async def say(verb: str, *items: dict[str, Any], **fields: Any) -> Any:
            answer = await node.post(f"/api/tasks/{verb}", {"agent_id": "a1", "items": list(items), **fields})
            assert answer.status == 200, answer
            return answer.json

        renewed = await say("renew", {"task_id": "t0", "attempt": 1}, {"task_id": "t1", "attempt": 9}, odd=1)
        assert renewed["durable"] is False
        assert renewed["warnings"] == ["odd"]
        assert [item["status"] for item in renewed["items"]] == [200, 409]
        assert renewed["items"][0]["body"]["lease_remaining_ms"] == 60_000
        assert renewed["items"][1]["code"] == "stale_attempt"
        progress = await say(
            "progress",
            {"task_id": "t0", "attempt": 1, "fraction": 0.5},
            {"task_id": "t1", "attempt": 1, "checkpoint": [1]},
            {"task_id": "t2", "attempt": 5, "checkpoint": [1]},
            {"task_id": "t3", "attempt": 5, "fraction": 0.5},
        )
        assert [item["status"] for item in progress["items"]] == [200, 200, 409, 409]
        assert [item["body"]["durable"] for item in progress["items"][:2]] == [False, True]
        assert (await node.task("t1"))["progress"]["checkpoint"] == [1]
        done = await say("complete", {"task_id": "t0", "attempt": 1, "result": 1}, {"task_id": "t1", "attempt": 2})
        assert [(item["id"], item["status"]) for item in done["items"]] == [("t0", 200), ("t1", 409)]
        assert done["items"][1]["current"]["attempt"] == 1
        failed = await say("fail", {"task_id": "t1", "attempt": 1, "message": "m"}, {"task_id": "nope", "attempt": 1})
        assert [item["status"] for item in failed["items"]] == [200, 404]
        released = await say("release", {"task_id": "t2", "attempt": 1, "checkpoint": {"p": 1}})
        assert released["items"][0]["status"] == 200
        stale = await node.post(
            "/api/tasks/complete", {"agent_id": "a1", "epoch": epoch + 1, "items": [{"task_id": "t3", "attempt": 1}]}
        )
        assert (stale.status, stale.json["code"]) == (409, "stale_epoch")

    with_fleet(step)


def test_unknown_fields_of_verbs_are_named() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        for verb in ("renew", "progress", "complete"):
            await node.submit(f"t-{verb}")
        await node.claim("a1", epoch, limit=3)
        for verb in ("renew", "progress", "complete"):
            answer = await node.verb(verb, f"t-{verb}", "a1", 1, novel={"a": 1})
            assert (answer.status, answer.json["warnings"]) == (200, ["novel"]), verb
        refused = await node.post("/api/tasks/t1/accept", {"agent_id": "a1", "attempt": 1, "novel": 1})
        assert (refused.status, refused.json["errors"][0]["path"]) == (400, "novel")

    with_fleet(step)
