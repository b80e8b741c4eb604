"""API.md section 6 for tasks and agents: what a watcher hears of a life, under which topics, and how much of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, with_fleet

RETRY_AT_ONCE = {"initial_ms": 0, "jitter": 0}


async def changes(node: FleetNode, query: str = "topics=tasks") -> list[dict[str, Any]]:
    page = (await node.get(f"/api/changes?from_revision=1&limit=1000&{query}")).json
    return [change for item in page["items"] for change in item["changes"]]


async def lives(node: FleetNode) -> None:
    """One task through most of what can happen to a task, and one that is cancelled."""
    await node.post("/api/sessions", {"session_id": "s1", "user": "ada"})
    epoch = await node.register("a1")
    labels = {"group_id": "g1", "queue": "q1", "session_id": "s1", "backoff": RETRY_AT_ONCE}
    await node.submit("t1", **labels, payload={"secret": 1}, metadata={"m": 1}, description="long")
    await node.submit("t2", depends_on=["t1"])
    claim = {"agent_id": "a1", "epoch": epoch}
    await node.ask("PUT", "/api/tasks/t1/assign", {"agent_id": "a1"})
    await node.verb("accept", "t1", "a1", 1)
    await node.verb("progress", "t1", "a1", 1, checkpoint={"p": 1})
    await node.verb("release", "t1", "a1", 1)
    await node.post("/api/tasks/t1/claim", claim)
    await node.verb("wait", "t1", "a1", 2, **{"for": {"kind": "approval"}})
    await node.post("/api/tasks/t1/resume", {"data": "yes", "actor": "ada"})
    await node.post("/api/tasks/t1/claim", claim)
    await node.verb("fail", "t1", "a1", 3, reason="flaky")
    await node.advance(0.1)
    await node.ask("PATCH", "/api/tasks/t1", {"priority": 9})
    await node.post("/api/tasks/t1/claim", claim)
    await node.verb("complete", "t1", "a1", 4, result={"secret": 2})
    await node.ask("DELETE", "/api/tasks/t2")


# Every transition has a type of its own, in order, each with from, to, attempt and agent.
def test_types_of_a_life() -> None:
    async def step(node: FleetNode) -> None:
        await lives(node)
        of_t1 = await changes(node, "topics=task.t1&data=summary")
        assert [change["type"] for change in of_t1] == [
            "task.created", "task.assigned", "task.started", "task.progress", "task.released", "task.started",
            "task.waiting", "task.resumed", "task.started", "task.scheduled", "task.pending", "task.updated",
            "task.started", "task.completed",
        ]  # fmt: skip
        started = [change["data"] for change in of_t1 if change["type"] == "task.started"]
        assert [(data["from"], data["to"], data["attempt"]) for data in started] == [
            ("assigned", "running", 1), ("pending", "running", 2), ("pending", "running", 3), ("pending", "running", 4),
        ]  # fmt: skip
        assert {change["resource"] for change in of_t1} == {"task"}
        assert all(
            set(change) == {"id", "type", "project", "resource", "resource_id", "source", "correlation_id", "data"}
            for change in of_t1
        )
        of_t2 = [change["type"] for change in await changes(node, "topics=task.t2")]
        assert of_t2 == ["task.created", "task.pending", "task.cancelled"]

    with_fleet(step)


# Each topic hears what belongs to it.
@pytest.mark.parametrize(
    ("topic", "heard", "not_heard"),
    [
        ("tasks", {("task", "t1"), ("task", "t2")}, {("agent", "a1"), ("session", "s1")}),
        ("task.t2", {("task", "t2")}, {("task", "t1")}),
        ("queue.q1", {("task", "t1")}, {("task", "t2")}),
        ("queue.default", {("task", "t2")}, {("task", "t1")}),
        ("group.g1", {("task", "t1")}, {("task", "t2")}),
        ("session.s1", {("task", "t1"), ("session", "s1")}, {("task", "t2")}),
        ("agent.a1", {("task", "t1"), ("agent", "a1")}, {("task", "t2")}),
        ("agents", {("agent", "a1")}, {("task", "t1")}),
        ("sessions", {("session", "s1")}, {("task", "t1")}),
        ("user.ada", {("session", "s1")}, {("task", "t1")}),
        ("task.t2,agents", {("task", "t2"), ("agent", "a1")}, {("task", "t1")}),
        ("*", {("task", "t1"), ("task", "t2"), ("agent", "a1"), ("session", "s1")}, set()),
    ],
)
def test_topics(topic: str, heard: set[tuple[str, str]], not_heard: set[tuple[str, str]]) -> None:
    async def step(node: FleetNode) -> None:
        await lives(node)
        found = {(change["resource"], change["resource_id"]) for change in await changes(node, f"topics={topic}")}
        assert heard <= found
        assert not found & not_heard

    with_fleet(step)


# data: none, a summary without payload and result, or all of it.
def test_how_much_is_told() -> None:
    async def step(node: FleetNode) -> None:
        await lives(node)
        nothing = await changes(node, "topics=task.t1&data=none")
        assert {change["data"] for change in nothing} == {None}
        summary = (await changes(node, "topics=task.t1&data=summary"))[-1]["data"]
        full = (await changes(node, "topics=task.t1&data=full"))[-1]["data"]
        assert (full["payload"], full["result"], full["metadata"]) == ({"secret": 1}, {"secret": 2}, {"m": 1})
        assert (summary["payload"], summary["result"]) == (None, None)
        assert (summary["status"], summary["task_id"], summary["queue"]) == ("completed", "t1", "q1")
        assert "secret" not in str(summary)

    with_fleet(step)


# One message per revision: all that a completion does is in one, and so is an atomic batch; a plain one has one each.
def test_a_revision_is_one_message() -> None:
    async def step(node: FleetNode) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        epoch = await node.register("a1")
        await node.submit("t1", session_id="s1")
        await node.submit("t2", depends_on=["t1"])
        await node.claim("a1", epoch)
        done = await node.verb("complete", "t1", "a1", 1, tasks=[{"task_id": "t3"}], events=[{"type": "custom.done"}])
        atomic = (await node.post("/api/tasks/batch", {"items": [{}, {}], "atomic": True})).json["revision"]
        plain = (await node.post("/api/tasks/batch", {"items": [{}, {}]})).json["revision"]
        page = (await node.get("/api/changes?from_revision=1")).json
        by_revision = {item["revision"]: [change["type"] for change in item["changes"]] for item in page["items"]}
        assert len(by_revision) == len(page["items"])
        assert sorted(by_revision[done.json["revision"]]) == [
            "event.appended", "task.completed", "task.created", "task.pending",
        ]  # fmt: skip
        assert by_revision[atomic] == ["task.created"] * 2
        assert (by_revision[plain], by_revision[plain - 1]) == (["task.created"], ["task.created"])
        assert plain == atomic + 2

    with_fleet(step)


# Agents: registered, and each change of status.
def test_types_of_an_agent() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.post("/api/agents/a1/drain")
        await node.ask("DELETE", "/api/agents/a1/drain")
        await node.advance(16)
        await node.beat("a1", epoch)
        await node.advance(0.1)
        await node.ask("DELETE", "/api/agents/a1")
        told = [(change["type"], (change["data"] or {}).get("to")) for change in await changes(node, "topics=agent.a1")]
        assert told == [
            ("agent.registered", None),
            ("agent.status_changed", "draining"),
            ("agent.status_changed", "online"),
            ("agent.status_changed", "offline"),
            ("agent.status_changed", "online"),
            ("agent.deleted", None),
        ]

    with_fleet(step)


# Section 1: a repeat under its key has status, ids, attempt and revision of the first, other fields as they are now.
@pytest.mark.parametrize("verb", ["complete", "fail", "release", "wait"])
def test_a_verb_repeated_under_its_key(verb: str) -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1", backoff={"initial_ms": 60_000, "jitter": 0})
        await node.claim("a1", epoch)
        rest = {"for": {"kind": "event"}} if verb == "wait" else {}
        body, key = {"agent_id": "a1", "attempt": 1, **rest}, {"Idempotency-Key": "k"}
        first = await node.post(f"/api/tasks/t1/{verb}", body, headers=key)
        assert first.status == 200
        if verb != "complete":
            await node.post("/api/tasks/t1/resume", {"name": "event"})
            await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch})
        again = await node.post(f"/api/tasks/t1/{verb}", body, headers=key)
        assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
        assert (again.json["attempt"], again.json["revision"]) == (1, first.json["revision"])
        assert again.json["status"] == ("completed" if verb == "complete" else "running"), "as it is now"
        other = await node.post(f"/api/tasks/t1/{verb}", {**body, "attempt": 2}, headers=key)
        assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")

    with_fleet(step)
