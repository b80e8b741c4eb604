"""Bad input of tasks and agents: 400 with the field's path, and nothing is proposed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, with_fleet

TASK_BODIES: list[tuple[Any, str]] = [
    ({"task_id": ""}, "task_id"),
    ({"task_id": "a/b"}, "task_id"),
    ({"task_id": ".."}, "task_id"),
    ({"task_id": "batch"}, "task_id"),
    ({"task_id": "x" * 129}, "task_id"),
    ({"task_id": 7}, "task_id"),
    ({"queue": "no spaces"}, "queue"),
    ({"type": ""}, "type"),
    ({"title": 5}, "title"),
    ({"title": "x" * 1_025}, "title"),
    ({"priority": 10}, "priority"),
    ({"priority": -1}, "priority"),
    ({"priority": "urgent"}, "priority"),
    ({"priority": 1.5}, "priority"),
    ({"priority": None}, "priority"),
    ({"requires": [{"name": "a", "min_proficiency": 1.5}]}, "requires[0].min_proficiency"),
    ({"requires": [{"min_proficiency": 1}]}, "requires[0].name"),
    ({"requires": [{"name": "a"}] * 33}, "requires"),
    ({"requires": [{"name": "a", "level": 1}]}, "requires[0].level"),
    ({"labels": []}, "labels"),
    ({"labels": {str(n): n for n in range(65)}}, "labels"),
    ({"labels": {"a": "x" * 300}}, "labels.a"),
    ({"depends_on": ["a b"]}, "depends_on[0]"),
    ({"depends_on": [f"t{n}" for n in range(1_001)]}, "depends_on"),
    ({"on_dependency_failure": "ignore"}, "on_dependency_failure"),
    ({"not_before": "tomorrow"}, "not_before"),
    ({"not_before": "2026-01-01T00:00:00"}, "not_before"),
    ({"not_before": 1_767_225_600}, "not_before"),
    ({"delay_ms": -1}, "delay_ms"),
    ({"delay_ms": 10**15}, "delay_ms"),
    ({"delay_ms": 1, "not_before": "2026-01-01T00:00:00Z"}, "delay_ms"),
    ({"deadline_in_ms": 0}, "deadline_in_ms"),
    ({"deadline_in_ms": 1, "deadline": "2026-01-01T00:00:00Z"}, "deadline_in_ms"),
    ({"expires_unstarted_ms": 0}, "expires_unstarted_ms"),
    ({"run_timeout_ms": -5}, "run_timeout_ms"),
    ({"lease_ms": 1}, "lease_ms"),
    ({"lease_ms": 10**12}, "lease_ms"),
    ({"max_attempts": 0}, "max_attempts"),
    ({"max_attempts": 10**6}, "max_attempts"),
    ({"backoff": {"factor": 0.5}}, "backoff.factor"),
    ({"backoff": {"jitter": 2}}, "backoff.jitter"),
    ({"backoff": {"initial_ms": -1}}, "backoff.initial_ms"),
    ({"unique_key": ""}, "unique_key"),
    ({"unique_key": "é" * 100}, "unique_key"),
    ({"unique_key": "a\0b"}, "unique_key"),
    ({"metadata": [1]}, "metadata"),
    ({"status": "completed"}, "status"),
    ([], ""),
]


@pytest.mark.parametrize(("body", "path"), TASK_BODIES)
def test_bad_task(body: Any, path: str) -> None:
    async def step(node: FleetNode) -> None:
        index = node.replica.index
        answer = await node.post("/api/tasks", body)
        assert (answer.status, answer.json["code"]) == (400, "invalid_request"), answer
        assert answer.json["errors"][0]["path"] == path
        batch = await node.post("/api/tasks/batch", {"items": [{}, body]})
        assert batch.status == 400
        assert batch.json["errors"][0]["path"] == (f"items[1].{path}" if path else "items[1]")
        assert node.replica.index == index

    with_fleet(step)


CALLS: list[tuple[str, str, Any, str]] = [
    ("POST", "/api/tasks/batch", {"items": []}, "items"),
    ("POST", "/api/tasks/batch", {}, "items"),
    ("POST", "/api/tasks/claim", {"agent_id": "a1"}, "epoch"),
    ("POST", "/api/tasks/claim", {"agent_id": "a1", "epoch": 1, "limit": 0}, "limit"),
    ("POST", "/api/tasks/claim", {"agent_id": "a1", "epoch": 1, "wait_ms": 60_001}, "wait_ms"),
    ("POST", "/api/tasks/claim", {"agent_id": "a1", "epoch": 1, "queues": ["a b"]}, "queues[0]"),
    ("POST", "/api/tasks/claim", {"agent_id": "a1", "epoch": 1, "lease_ms": 1}, "lease_ms"),
    ("POST", "/api/tasks/claim", {"agent_id": "a1", "epoch": -1}, "epoch"),
    ("POST", "/api/tasks/t1/accept", {"agent_id": "a1"}, "attempt"),
    ("POST", "/api/tasks/t1/accept", {"attempt": 1}, "agent_id"),
    ("POST", "/api/tasks/t1/progress", {"agent_id": "a1", "attempt": 1, "fraction": 1.5}, "fraction"),
    ("POST", "/api/tasks/t1/complete", {"agent_id": "a1", "attempt": "1"}, "attempt"),
    (
        "POST", "/api/tasks/t1/complete",
        {"agent_id": "a1", "attempt": 1, "usage": {"cost_usd": -1}}, "usage.cost_usd",
    ),
    (
        "POST", "/api/tasks/t1/complete",
        {"agent_id": "a1", "attempt": 1, "tasks": [{}, {"priority": 99}]}, "tasks[1].priority",
    ),
    (
        "POST", "/api/tasks/t1/complete",
        {"agent_id": "a1", "attempt": 1, "events": [{"type": "nonsense", "session_id": "s"}]}, "events[0].type",
    ),
    (
        "POST", "/api/tasks/t1/complete",
        {"agent_id": "a1", "attempt": 1, "events": [{"type": "custom.x"}]}, "events[0].session_id",
    ),
    ("POST", "/api/tasks/complete", {"agent_id": "a1", "items": [{"attempt": 1}]}, "items[0].task_id"),
    ("POST", "/api/tasks/accept", {"agent_id": "a1"}, "items"),
    ("POST", "/api/tasks/accept", {"items": [{"task_id": "t1", "attempt": 1}]}, "agent_id"),
    ("POST", "/api/tasks/accept", {"agent_id": "a1", "items": [{"task_id": "t1"}]}, "items[0].attempt"),
    (
        "POST", "/api/tasks/accept",
        {"agent_id": "a1", "items": [{"task_id": "t1", "attempt": 1, "lease_ms": 1}]}, "items[0].lease_ms",
    ),
    ("POST", "/api/tasks/t1/fail", {"agent_id": "a1", "attempt": 1, "retryable": "yes"}, "retryable"),
    ("POST", "/api/tasks/t1/fail", {"agent_id": "a1", "attempt": 1, "message": "x" * 5_000}, "message"),
    ("POST", "/api/tasks/t1/wait", {"agent_id": "a1", "attempt": 1}, "for"),
    ("POST", "/api/tasks/t1/wait", {"agent_id": "a1", "for": {"kind": "event"}}, "attempt"),
    ("POST", "/api/tasks/t1/wait", {"agent_id": "a1", "attempt": 1, "for": {}}, "for.kind"),
    ("POST", "/api/tasks/t1/wait", {"agent_id": "a1", "attempt": 1, "for": {"kind": "mood"}}, "for.kind"),
    ("POST", "/api/tasks/t1/wait", {"agent_id": "a1", "attempt": 1, "for": {"kind": "time"}}, "timeout_ms"),
    (
        "POST", "/api/tasks/t1/wait",
        {"agent_id": "a1", "attempt": 1, "for": {"kind": "event"}, "timeout_ms": 0}, "timeout_ms",
    ),
    (
        "POST", "/api/tasks/t1/wait",
        {"agent_id": "a1", "attempt": 1, "for": {"kind": "event"}, "on_timeout": "explode"}, "on_timeout",
    ),
    (
        "POST", "/api/tasks/t1/wait",
        {"agent_id": "a1", "attempt": 1, "for": {"kind": "approval", "options": "yes"}}, "for.options",
    ),
    (
        "POST", "/api/tasks/t1/wait",
        {"agent_id": "a1", "attempt": 1, "for": {"kind": "approval", "mood": 1}}, "for.mood",
    ),
    (
        "POST", "/api/tasks/wait",
        {"agent_id": "a1", "items": [{"task_id": "t1", "attempt": 1, "for": {"kind": "time"}}]}, "items[0].timeout_ms",
    ),
    ("POST", "/api/tasks/wait", {"agent_id": "a1", "items": []}, "items"),
    ("POST", "/api/tasks/t1/resume", {"name": ""}, "name"),
    ("POST", "/api/tasks/t1/resume", {"answer": 1}, "answer"),
    ("POST", "/api/tasks/resume", {"items": [{"name": "x"}]}, "items[0].task_id"),
    ("POST", "/api/tasks/retry", {"limit": 0}, "limit"),
    ("POST", "/api/tasks/retry", {"limit": 1, "rate_per_second": 0}, "rate_per_second"),
    ("POST", "/api/tasks/retry", {"limit": 1, "queue": "a b"}, "queue"),
    ("POST", "/api/tasks/retry", {"limit": 1, "status": "failed"}, "status"),
    ("PUT", "/api/tasks/t1/assign", {}, "agent_id"),
    ("PATCH", "/api/tasks/t1", {"priority": None}, "priority"),
    ("PATCH", "/api/tasks/t1", {"labels": 3}, "labels"),
    ("PATCH", "/api/tasks/t1", {"payload": {}}, "payload"),
    ("GET", "/api/tasks?status=done", None, "status"),
    ("GET", "/api/tasks?label=novalue", None, "label"),
    ("GET", "/api/tasks?colour=red", None, "colour"),
    ("GET", "/api/tasks?limit=0", None, "limit"),
    ("GET", "/api/tasks?fields=nothing", None, "fields"),
    ("GET", "/api/tasks/t1?until=later", None, "until"),
    ("GET", "/api/tasks/t1?wait_ms=-1", None, "wait_ms"),
    ("GET", "/api/tasks/a%20b", None, "task_id"),
    ("GET", "/api/groups/g?until=started", None, "until"),
    ("POST", "/api/agents", {"agent_id": "a b"}, "agent_id"),
    ("POST", "/api/agents", {"agent_id": "heartbeat"}, "agent_id"),
    ("POST", "/api/agents", {"max_concurrent": 0}, "max_concurrent"),
    ("POST", "/api/agents", {"max_concurrent": 1_001}, "max_concurrent"),
    ("POST", "/api/agents", {"capabilities": [{"name": "a", "proficiency": -0.1}]}, "capabilities[0].proficiency"),
    ("POST", "/api/agents", {"capabilities": [{"name": "a"}, {"name": "a"}]}, "capabilities[1].name"),
    ("POST", "/api/agents", {"capabilities": ["python"]}, "capabilities[0]"),
    ("POST", "/api/agents", {"projects": ["*", "a"]}, "projects[0]"),
    ("POST", "/api/agents", {"projects": ["a b"]}, "projects[0]"),
    ("POST", "/api/agents", {"hardware": "big"}, "hardware"),
    ("POST", "/api/agents", {"epoch": 3}, "epoch"),
    ("POST", "/api/agents/a1/heartbeat", {}, "epoch"),
    ("POST", "/api/agents/a1/heartbeat", {"epoch": 1, "wait_ms": 60_001}, "wait_ms"),
    ("POST", "/api/agents/a1/heartbeat", {"epoch": 1, "running": [{"task_id": "t"}]}, "running[0].attempt"),
    ("POST", "/api/agents/a1/heartbeat", {"epoch": 1, "metrics": []}, "metrics"),
    ("GET", "/api/agents?status=asleep", None, "status"),
    ("GET", "/api/agents?label=x", None, "label"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target", "body", "path"), CALLS)
def test_bad_call(method: str, target: str, body: Any, path: str) -> None:
    async def step(node: FleetNode) -> None:
        index = node.replica.index
        answer = await node.ask(method, target, body)
        assert (answer.status, answer.json["code"]) == (400, "invalid_request"), answer
        assert answer.json["errors"][0]["path"] == path
        assert node.replica.index == index

    with_fleet(step)


TOO_LARGE: list[tuple[str, Any, str]] = [
    ("/api/tasks", {"payload": "x" * (256 << 10)}, "payload_bytes_max"),
    ("/api/tasks", {"metadata": {"a": "x" * (16 << 10)}}, "metadata_bytes_max"),
    ("/api/tasks", {"description": "x" * (1 << 20)}, "request_bytes_max"),
    ("/api/tasks/batch", {"items": [{}] * 1_001}, "batch_items_max"),
    ("/api/tasks/t1/complete", {"agent_id": "a", "attempt": 1, "result": "x" * (256 << 10)}, "result_bytes_max"),
    ("/api/tasks/t1/release", {"agent_id": "a", "attempt": 1, "checkpoint": "x" * (64 << 10)}, "checkpoint_bytes_max"),
    ("/api/agents/a1/heartbeat", {"epoch": 1, "metrics": {"a": "x" * (16 << 10)}}, "metrics_bytes_max"),
    ("/api/tasks/t1/resume", {"data": "x" * (64 << 10)}, "resume_data_bytes_max"),
    (
        "/api/tasks/t1/wait",
        {"agent_id": "a", "attempt": 1, "for": {"kind": "event"}, "checkpoint": "x" * (64 << 10)},
        "checkpoint_bytes_max",
    ),
    (
        "/api/tasks/t1/wait",
        {"agent_id": "a", "attempt": 1, "for": {"kind": "approval", "options": ["x" * (16 << 10)]}},
        "wait_options_bytes_max",
    ),
]


@pytest.mark.parametrize(("target", "body", "limit_name"), TOO_LARGE)
def test_too_large(target: str, body: Any, limit_name: str) -> None:
    async def step(node: FleetNode) -> None:
        index = node.replica.index
        answer = await node.post(target, body)
        assert (answer.status, answer.json["code"]) == (413, "too_large"), answer.json["detail"]
        assert answer.json["limit_name"] == limit_name
        assert answer.json["limit_bytes"] > 0
        assert node.replica.index == index

    with_fleet(step)


def test_what_comes_later_is_not_enabled() -> None:
    async def step(node: FleetNode) -> None:
        for method, target in [
            ("GET", "/api/locks"),
            ("DELETE", "/api/locks/l1"),
            ("POST", "/api/locks"),
        ]:
            answer = await node.ask(method, target)
            assert (answer.status, answer.json["code"]) == (501, "not_enabled"), target

    with_fleet(step)
