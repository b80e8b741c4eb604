"""Writes without a command in the log: their headers count as those of every other write."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, with_fleet
from tests.node.test_conventions import refused

HELD = {"agent_id": "a1", "attempt": 1}
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("/api/agents/a1/heartbeat", {"epoch": 1}),
    ("/api/tasks/t1/renew", HELD),
    ("/api/tasks/t1/progress", {**HELD, "fraction": 0.5}),
    ("/api/tasks/renew", {"agent_id": "a1", "items": [{"task_id": "t1", "attempt": 1}]}),
    ("/api/tasks/progress", {"agent_id": "a1", "items": [{"task_id": "t1", "attempt": 1, "fraction": 0.5}]}),
    ("/api/tasks/claim", {"agent_id": "a1", "epoch": 1, "queues": ["empty"]}),
    ("/api/cluster/snapshot", {}),
    ("/api/cluster/transfer-leadership", {}),
    ("/api/cluster/members", {"node_id": "n4", "peer_address": "10.0.0.4:7401", "http_address": "10.0.0.4:7400"}),
    ("/api/cluster/members/n4/promote", {}),
]


@pytest.mark.parametrize(("path", "body"), WRITES)
def test_a_stale_fence_is_refused(path: str, body: dict[str, Any]) -> None:
    async def step(node: FleetNode) -> None:
        assert await node.register("a1") == 1
        await node.submit("t1")
        assert len(await node.claim("a1", 1)) == 1
        revision = node.replica.revision
        for fence, code, current in (
            ("task/t1/2", "stale_attempt", 1),
            ("agent/a1/7", "stale_epoch", 1),
            ("lock/l1/1", "stale_token", None),
        ):
            answer = await node.post(path, body, headers={"Hive-Fence": fence})
            refused(answer, code)
            if current is not None:
                assert current in answer.json["current"].values()
        refused(await node.post(path, body, headers={"Hive-Fence": "t1"}), "invalid_request", "Hive-Fence")
        refused(await node.post(path, body, headers={"Idempotency-Key": ""}), "invalid_request", "Idempotency-Key")
        assert (await node.task("t1"))["progress"]["fraction"] is None
        assert node.replica.revision == revision

    with_fleet(step)


def test_a_current_fence_passes() -> None:
    async def step(node: FleetNode) -> None:
        await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", 1)
        for fence in ("task/t1/1", "agent/a1/1"):
            for path, body in WRITES[:6]:
                answer = await node.post(path, body, headers={"Hive-Fence": fence})
                assert answer.status == 200, answer

    with_fleet(step)


def test_a_keyed_claim_that_another_node_answered_is_not_told_that_there_is_nothing() -> None:
    async def step(node: FleetNode) -> None:
        await node.register("a1")
        body, key = {"agent_id": "a1", "epoch": 1}, {"Idempotency-Key": "k1"}
        barrier = node.replica.read_barrier
        first: list[Any] = []

        async def catch_up(timeout_s: float) -> None:
            await barrier(timeout_s)
            if not first:  # what this node hears of only now: the same request, answered elsewhere
                await node.submit("t1")
                first.append(await node.post("/api/tasks/claim", body, headers=key))

        node.replica.read_barrier = catch_up  # type: ignore[method-assign]  # a node whose state is behind
        again = await node.post("/api/tasks/claim", body, headers=key)
        assert [grant["task_id"] for grant in first[0].json["items"]] == ["t1"]
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json["items"][0]["attempt"] == first[0].json["items"][0]["attempt"]
        assert [grant["task_id"] for grant in again.json["items"]] == ["t1"]

    with_fleet(step)


def test_an_unknown_project_is_named() -> None:
    async def step(node: FleetNode) -> None:
        await node.register("a1")
        for path, body in WRITES[1:6]:
            refused(await node.post(path + "?project=nowhere", body), "unknown_project")

    with_fleet(step)
