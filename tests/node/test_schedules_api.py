"""Schedules over HTTP, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from node.api.schedule_bodies import MADE_BY_RUNS, ScheduleBody
from node.api.schedule_views import ScheduledTask, ScheduleView
from node.api.task_bodies import TaskBody
from statemachine import limits
from tests.node.harness import START_MS, Answer, Node, with_node

PATH = "/api/schedules"
MINUTE = 60_000


def body(**fields: Any) -> dict[str, Any]:
    return {"schedule_id": "s", "cron": "*/5 * * * *", "task": {"queue": "q", "payload": {"n": 1}}, **fields}


async def fire(node: Node, delta_ms: int) -> None:
    """Let time pass, and wake the leader by a schedule that is never due."""
    node.time.advance(delta_ms)
    await node.post(PATH, {"every_ms": 1_000, "starts_at": "9000-01-01T00:00:00Z", "task": {}})


async def tasks(node: Node) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await node.get("/api/tasks?order=asc")).json["items"]
    return items


def test_creation_shows_every_field() -> None:
    async def test(node: Node) -> None:
        made = await node.post(PATH, body(metadata={"k": [1]}))
        assert (made.status, made.headers["Location"]) == (201, "/api/schedules/s")
        at = "2026-01-01T00:00:00.000Z"
        assert made.json == {
            "schedule_id": "s",
            "project": "default",
            "cron": "*/5 * * * *",
            "every_ms": None,
            "timezone": "UTC",
            "task": {
                "queue": "q",
                "type": "task",
                "title": None,
                "description": None,
                "payload": {"n": 1},
                "priority": 5,
                "requires": [],
                "labels": {},
                "on_dependency_failure": "block",
                "group_id": None,
                "delay_ms": None,
                "deadline_in_ms": None,
                "expires_unstarted_ms": None,
                "run_timeout_ms": None,
                "lease_ms": 60_000,
                "max_attempts": 3,
                "backoff": {"initial_ms": 1_000, "factor": 2.0, "max_ms": 60_000, "jitter": 0.2},
                "unique_key": None,
                "concurrency_key": None,
                "locks": [],
                "session_id": None,
                "metadata": None,
            },
            "overlap": "skip",
            "missed_runs": "skip",
            "starting_deadline_ms": None,
            "starts_at": None,
            "ends_at": None,
            "paused": False,
            "metadata": {"k": [1]},
            "next_run_at": "2026-01-01T00:05:00.000Z",
            "last_run_at": None,
            "last_task_id": None,
            "last_skipped": None,
            "runs": 0,
            "skipped": 0,
            "missed": 0,
            "created_at": at,
            "updated_at": at,
            "revision": 1,
            "created_revision": 1,
            "definition_revision": 1,
            "upcoming": [f"2026-01-01T00:{minute:02}:00.000Z" for minute in (5, 10, 15, 20, 25)],
        }
        assert (await node.get(f"{PATH}/s")).json == made.json
        again = await node.post(PATH, body(metadata={"k": [1]}))
        assert (again.status, again.json) == (200, made.json)
        other = await node.post(PATH, body())
        assert (other.status, other.json["code"], other.json["current"]["schedule_id"]) == (409, "exists", "s")

    with_node(test)


def test_what_a_task_can_be_told_a_schedule_can_tell() -> None:
    """A field that tasks get later is either shown here, or said to be made by the runs."""
    told = set(TaskBody.__struct_fields__) - set(MADE_BY_RUNS)
    assert told <= set(ScheduledTask.__struct_fields__)
    assert set(ScheduleBody.__struct_fields__) <= set(ScheduleView.__struct_fields__)


def test_an_id_is_made_when_none_is_given() -> None:
    async def test(node: Node) -> None:
        made = await node.post(PATH, {"every_ms": 90_000, "task": {}})
        assert made.status == 201
        assert len(made.json["schedule_id"]) == 36
        assert made.json["next_run_at"] == "2026-01-01T00:01:30.000Z"

    with_node(test)


def test_a_dry_run_makes_nothing() -> None:
    async def test(node: Node) -> None:
        shown = await node.post(f"{PATH}?dry_run=true", body(cron="30 2 * * *", timezone="Europe/Berlin"))
        assert (shown.status, shown.json["revision"]) == (200, 0)
        assert shown.json["upcoming"] == [f"2026-01-{day:02}T01:30:00.000Z" for day in range(1, 6)]
        assert (await node.get(f"{PATH}/s")).status == 404
        ended = await node.post(f"{PATH}?dry_run=true", body(ends_at="2025-01-01T00:00:00Z"))
        assert (ended.json["upcoming"], ended.json["next_run_at"]) == ([], None)
        paused = await node.post(f"{PATH}?dry_run=true", body(paused=True))
        assert paused.json["upcoming"] == []
        assert (await node.post(f"{PATH}?dry_run=true", body(cron="x"))).status == 400
        assert node.replica.revision == 0

    with_node(test)


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("cron", {"cron": "61 * * * *"}),
    ("cron", {"cron": "* * * * * *"}),
    ("cron", {"cron": "0 0 30 2 *"}),
    ("cron", {"cron": ""}),
    ("cron", {"cron": "*" * 257}),
    ("cron", {"cron": None}),
    ("cron", {"cron": 5}),
    ("every_ms", {"every_ms": 5_000}),
    ("every_ms", {"cron": None, "every_ms": 999}),
    ("every_ms", {"cron": None, "every_ms": 1.5}),
    ("timezone", {"timezone": "Mars/Olympus_Mons"}),
    ("timezone", {"timezone": "../UTC"}),
    ("timezone", {"cron": None, "every_ms": 5_000, "timezone": "Europe/Berlin"}),
    ("overlap", {"overlap": "allow"}),
    ("missed_runs", {"missed_runs": "run_some"}),
    ("starting_deadline_ms", {"starting_deadline_ms": 0}),
    ("starts_at", {"starts_at": "tomorrow"}),
    ("ends_at", {"starts_at": "2026-02-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}),
    ("paused", {"paused": "yes"}),
    ("metadata", {"metadata": []}),
    ("schedule_id", {"schedule_id": "batch"}),
    ("schedule_id", {"schedule_id": "a b"}),
    ("schedule_id", {"schedule_id": "x" * 101}),
    ("task", {"task": None}),
    ("task.queue", {"task": {"queue": "a b"}}),
    ("task.priority", {"task": {"priority": 10}}),
    ("task.nonsense", {"task": {"nonsense": 1}}),
    ("task.task_id", {"task": {"task_id": "t"}}),
    ("task.depends_on", {"task": {"depends_on": ["t"]}}),
    ("task.not_before", {"task": {"not_before": "2026-02-01T00:00:00Z"}}),
    ("task.deadline", {"task": {"deadline": "1970-01-01T00:00:00Z"}}),
    ("task.unique_key", {"task": {"unique_key": "x" * 120 + "\u00e9" * 8}}),
    ("nonsense", {"nonsense": 1}),
]


@pytest.mark.parametrize(("path", "fields"), WRONG, ids=[f"{path}-{n}" for n, (path, _) in enumerate(WRONG)])
def test_what_is_wrong_is_named_and_changes_nothing(path: str, fields: dict[str, Any]) -> None:
    async def test(node: Node) -> None:
        answer = await node.post(PATH, body(**fields))
        assert (answer.status, answer.json["code"]) == (400, "invalid_request"), answer
        assert answer.json["errors"][0]["path"] == path
        assert node.replica.revision == 0
        if path != "schedule_id":
            await node.post(PATH, body())
            patch = {"task": {}, **fields} if path == "task" else fields
            answer = await node.ask("PATCH", f"{PATH}/s", patch)
            if fields != {"every_ms": 5_000}:  # in a patch it takes the place of cron
                assert (answer.status, answer.json["errors"][0]["path"]) == (400, path), answer
                assert node.replica.revision == 1

    with_node(test)


def test_a_task_that_is_missing_or_too_large() -> None:
    async def test(node: Node) -> None:
        missing = await node.post(PATH, {"cron": "* * * * *"})
        assert (missing.status, missing.json["errors"][0]["path"]) == (400, "task")
        large = await node.post(PATH, body(task={"payload": "x" * limits.SCHEDULE_TASK_BYTES_MAX}))
        assert (large.status, large.json["limit_name"], large.json["limit_bytes"]) == (
            413,
            "schedule_task_bytes_max",
            limits.SCHEDULE_TASK_BYTES_MAX,
        )
        locks = await node.post(PATH, body(task={"locks": [{"path": "/a"}]}))
        assert (locks.status, locks.json["errors"][0]["path"]) == (400, "task.locks[0].path")
        assert node.replica.revision == 0

    with_node(test)


def test_lists_have_pages_and_filters() -> None:
    async def test(node: Node) -> None:
        for number in range(5):
            await node.post(PATH, body(schedule_id=f"s{number}", paused=number == 3, task={"queue": f"q{number % 2}"}))
        first = (await node.get(f"{PATH}?limit=2")).json
        assert [item["schedule_id"] for item in first["items"]] == ["s4", "s3"]
        assert "upcoming" not in first["items"][0]
        rest = (await node.get(f"{PATH}?limit=9&cursor={first['next_cursor']}")).json
        assert ([item["schedule_id"] for item in rest["items"]], rest["next_cursor"]) == (["s2", "s1", "s0"], None)

        async def ids(query: str) -> list[str]:
            return [item["schedule_id"] for item in (await node.get(f"{PATH}?order=asc&{query}")).json["items"]]

        assert await ids("paused=true") == ["s3"]
        assert await ids("paused=false&queue=q1") == ["s1"]
        assert await ids("ids=s4,s0") == ["s0", "s4"]
        assert await ids("type=other") == []
        assert await ids("updated_since=2026-01-01T00:00:00.001Z") == []
        trimmed = (await node.get(f"{PATH}?ids=s0&fields=schedule_id,next_run_at")).json["items"]
        assert trimmed == [{"schedule_id": "s0", "next_run_at": "2026-01-01T00:05:00.000Z"}]
        wrong = await node.get(f"{PATH}?limit=2&paused=true&cursor={first['next_cursor']}")
        assert (wrong.status, wrong.json["code"]) == (400, "invalid_cursor")
        assert (await node.get(f"{PATH}?paused=maybe")).status == 400
        assert (await node.get(f"{PATH}?project=nowhere")).json["code"] == "unknown_project"

    with_node(test)


def test_runs_are_seen_in_the_schedule_the_tasks_and_the_feed() -> None:
    async def test(node: Node) -> None:
        await node.post(PATH, body())
        await fire(node, 5 * MINUTE)
        (task,) = await tasks(node)
        assert (task["task_id"], task["queue"], task["payload"]) == (f"s:{START_MS + 5 * MINUTE}", "q", {"n": 1})
        await fire(node, 5 * MINUTE)
        shown = (await node.get(f"{PATH}/s")).json
        assert (shown["runs"], shown["skipped"], shown["missed"]) == (1, 1, 0)
        assert shown["last_run_at"] == "2026-01-01T00:05:00.000Z"
        assert shown["last_task_id"] == task["task_id"]
        assert shown["last_skipped"] == {"due_at": "2026-01-01T00:10:00.000Z", "reason": "overlap"}
        assert shown["next_run_at"] == shown["upcoming"][0] == "2026-01-01T00:15:00.000Z"
        assert shown["definition_revision"] == 1 < shown["revision"]
        feed = (await node.get("/api/changes?from_revision=1&topics=schedule.s")).json["items"]
        changes = [change for message in feed for change in message["changes"]]
        assert [change["type"] for change in changes] == ["schedule.created", "schedule.fired", "schedule.skipped"]
        fired = changes[1]
        assert (fired["resource"], fired["resource_id"], fired["source"]) == ("schedule", "s", "system")
        assert fired["data"]["due_at"] == "2026-01-01T00:05:00.000Z"
        assert fired["data"]["task_id"] == task["task_id"]
        assert fired["data"]["schedule_id"] == "s"
        everything = (await node.get("/api/changes?from_revision=1&topics=schedules&data=full")).json["items"]
        assert json.dumps(everything).count('"schedule.created"') == 3

    with_node(test)


def test_pause_resume_and_patch() -> None:
    async def test(node: Node) -> None:
        await node.post(PATH, body(metadata={"a": 1, "b": 2}))
        paused = await node.post(f"{PATH}/s/pause")
        assert (paused.status, paused.json["paused"], paused.json["next_run_at"], paused.json["upcoming"]) == (
            200,
            True,
            None,
            [],
        )
        assert (await node.post(f"{PATH}/s/pause")).json == paused.json
        await fire(node, 12 * MINUTE)
        assert await tasks(node) == []
        resumed = (await node.post(f"{PATH}/s/resume")).json
        assert (resumed["paused"], resumed["next_run_at"], resumed["missed"]) == (False, "2026-01-01T00:15:00.000Z", 0)
        patch = {"metadata": {"a": None, "c": 3}, "overlap": "queue", "task": {"title": "new"}}
        patched = (await node.ask("PATCH", f"{PATH}/s", patch)).json
        assert (patched["metadata"], patched["overlap"]) == ({"b": 2, "c": 3}, "queue")
        assert (patched["task"]["title"], patched["task"]["payload"], patched["task"]["queue"]) == (
            "new",
            None,
            "default",
        )
        every = (await node.ask("PATCH", f"{PATH}/s", {"every_ms": 7 * MINUTE, "metadata": None})).json
        assert (every["cron"], every["every_ms"], every["metadata"]) == (None, 7 * MINUTE, None)
        zoned = (await node.ask("PATCH", f"{PATH}/s", {"cron": "0 9 * * *", "timezone": "Asia/Kolkata"})).json
        assert (zoned["cron"], zoned["every_ms"]) == ("0 9 * * *", None)
        assert zoned["next_run_at"] == "2026-01-01T03:30:00.000Z"
        back = (await node.ask("PATCH", f"{PATH}/s", {"every_ms": 5_000})).json
        assert (back["timezone"], back["cron"]) == ("UTC", None)
        neither = await node.ask("PATCH", f"{PATH}/s", {"every_ms": None})
        assert (neither.status, neither.json["errors"][0]["path"]) == (400, "cron")
        unchanged = await node.ask("PATCH", f"{PATH}/s", {})
        assert (unchanged.status, unchanged.json["revision"]) == (200, back["revision"])

    with_node(test)


def test_if_revision_is_about_what_the_user_saw() -> None:
    async def test(node: Node) -> None:
        await node.post(PATH, body())
        await fire(node, 5 * MINUTE)
        for wrong in (0, 99):
            answer = await node.ask("PATCH", f"{PATH}/s", {"paused": True, "if_revision": wrong})
            assert (answer.status, answer.json["code"]) == (409, "conflict")
            assert answer.json["current"]["definition_revision"] == 1
        # Runs in between do not matter.
        assert (await node.ask("PATCH", f"{PATH}/s", {"overlap": "queue", "if_revision": 1})).status == 200
        assert (await node.ask("PATCH", f"{PATH}/s", {"overlap": "skip", "if_revision": 1})).status == 409

    with_node(test)


def test_trigger_makes_a_task_now() -> None:
    async def test(node: Node) -> None:
        await node.post(PATH, body(paused=True))
        made = await node.post(f"{PATH}/s/trigger")
        assert (made.status, made.json["task_id"], made.json["status"]) == (201, "s:r2", "pending")
        assert made.headers["Location"] == "/api/tasks/s:r2"
        refused = await node.post(f"{PATH}/s/trigger", {})
        assert (refused.status, refused.json["code"]) == (409, "conflict")
        assert refused.json["current"] == {"task_id": "s:r2", "status": "pending", "attempt": 0}
        queued = await node.post(f"{PATH}/s/trigger", {"overlap": "queue"})
        assert (queued.status, queued.json["status"], queued.json["depends_on"]) == (201, "blocked", ["s:r2"])
        wrong = await node.post(f"{PATH}/s/trigger", {"overlap": "both"})
        assert (wrong.status, wrong.json["errors"][0]["path"]) == (400, "overlap")
        assert (await node.get(f"{PATH}/s")).json["last_task_id"] == queued.json["task_id"]

    with_node(test)


def test_deletion_leaves_the_tasks() -> None:
    async def test(node: Node) -> None:
        await node.post(PATH, body())
        await node.post(f"{PATH}/s/trigger")
        gone = await node.ask("DELETE", f"{PATH}/s")
        assert (gone.status, gone.json) == (200, {"schedule_id": "s", "revision": 3, "deleted": True})
        for answer in (
            await node.get(f"{PATH}/s"),
            await node.ask("DELETE", f"{PATH}/s"),
            await node.ask("PATCH", f"{PATH}/s", {"paused": True}),
            await node.post(f"{PATH}/s/pause"),
            await node.post(f"{PATH}/s/trigger"),
        ):
            assert (answer.status, answer.json["code"]) == (404, "not_found")
        assert [task["task_id"] for task in await tasks(node)] == ["s:r2"]

    with_node(test)


def test_repeats_under_a_key_change_nothing_twice() -> None:
    async def test(node: Node) -> None:
        async def twice(method: str, path: str, sent: dict[str, Any] | None, key: str) -> tuple[Answer, Answer]:
            first = await node.ask(method, path, sent, headers={"Idempotency-Key": key})
            again = await node.ask(method, path, sent, headers={"Idempotency-Key": key})
            assert (again.status, again.headers.get("Idempotency-Replayed")) == (first.status, "true")
            return first, again

        await twice("POST", PATH, body(), "k1")
        first, again = await twice("POST", f"{PATH}/s/trigger", {}, "k2")
        assert first.json["task_id"] == again.json["task_id"]
        await twice("POST", f"{PATH}/s/pause", None, "k3")
        await twice("PATCH", f"{PATH}/s", {"metadata": {"a": 1}}, "k4")
        first, again = await twice("DELETE", f"{PATH}/s", None, "k5")
        assert first.json == again.json
        assert node.replica.revision == 5
        replayed = await node.ask("PATCH", f"{PATH}/s", {"metadata": {"a": 1}}, headers={"Idempotency-Key": "k4"})
        assert (replayed.status, replayed.json["deleted"]) == (200, True)

    with_node(test)


def test_a_write_makes_the_project() -> None:
    async def test(node: Node) -> None:
        made = await node.post(f"{PATH}?project=fresh", body())
        assert (made.status, made.json["project"]) == (201, "fresh")
        assert (await node.get(f"{PATH}/s")).status == 404
        assert (await node.get(f"{PATH}/s?project=fresh")).status == 200

    with_node(test)


def test_the_metric() -> None:
    async def test(node: Node) -> None:
        await node.post(PATH, body())
        await node.post(f"{PATH}?project=other", body())
        assert b"\nhive_schedules 2.0\n" in (await node.get("/metrics")).raw

    with_node(test)
