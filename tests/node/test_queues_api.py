"""Queues over HTTP: what is shown, what can be set, and that limits hold for offers and claims alike."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, running
from tests.node.harness import run, until

STATES = (
    "blocked", "scheduled", "pending", "assigned", "running", "waiting", "completed", "failed", "cancelled", "expired",
)  # fmt: skip


async def patch(node: FleetNode, queue: str, **values: Any) -> Any:
    """Set something of a queue -> the queue."""
    answer = await node.ask("PATCH", f"/api/queues/{queue}", values)
    assert answer.status == 200, answer
    return answer.json


async def queue(node: FleetNode, name: str) -> Any:
    answer = await node.get(f"/api/queues/{name}")
    assert answer.status == 200, answer
    return answer.json


def ids(grants: list[Any]) -> list[str]:
    return [grant["task_id"] for grant in grants]


def test_a_queue_is_there_as_soon_as_a_task_names_it() -> None:
    async def scenario() -> None:
        async with running() as node:
            assert (await node.get("/api/queues")).json == {"items": [], "next_cursor": None}
            assert (await node.get("/api/queues/q")).status == 404
            task = await node.submit("t1", queue="q")
            await node.submit("t2", queue="q", depends_on=["t1"])
            await node.advance(3)
            shown = await queue(node, "q")
            assert shown["counts"] == dict.fromkeys(STATES, 0) | {"pending": 1, "blocked": 1}
            assert shown["oldest_pending_at"] == task["created_at"]
            assert shown["oldest_pending_age_ms"] == 3_000
            assert (shown["paused"], shown["max_running"], shown["rate_per_second"]) == (False, None, None)
            epoch = await node.register("a1")
            await node.claim("a1", epoch)
            await node.verb("complete", "t1", "a1", 1)
            shown = await queue(node, "q")
            assert shown["counts"]["completed"] == 1
            assert shown["counts"]["pending"] == 1, "t2 became free"
            assert (await node.get("/api/queues?project=nowhere")).status == 404

    run(scenario())


def test_a_list_by_name_in_pages() -> None:
    async def scenario() -> None:
        async with running() as node:
            for name in ("b", "a.pending", "c", "a"):
                await node.submit(f"t-{name}", queue=name)
            await patch(node, "empty", paused=True)
            found, cursor = [], ""
            while True:
                page = (await node.get(f"/api/queues?limit=2{cursor}")).json
                found += [item["name"] for item in page["items"]]
                if page["next_cursor"] is None:
                    break
                cursor = f"&cursor={page['next_cursor']}"
            assert found == ["a", "a.pending", "b", "c", "empty"]
            down = (await node.get("/api/queues?order=desc&limit=2&fields=name,paused")).json
            assert down["items"] == [{"name": "empty", "paused": True}, {"name": "c", "paused": False}]
            wrong = await node.get(f"/api/queues?order=desc&cursor={down['next_cursor']}x")
            assert wrong.json["code"] == "invalid_cursor"

    run(scenario())


def test_settings_are_set_lifted_and_watched() -> None:
    async def scenario() -> None:
        async with running() as node:
            first = await patch(node, "q", paused=True, max_running=3, rate_per_second=2.5, max_running_per_key=2)
            values = {"paused": True, "max_running": 3, "rate_per_second": 2.5, "max_running_per_key": 2}
            assert {name: first[name] for name in values} == values
            second = await patch(node, "q", max_running=None, rate_per_second=None, if_revision=first["revision"])
            assert (second["paused"], second["max_running"], second["rate_per_second"]) == (True, None, None)
            assert second["revision"] > first["revision"]
            assert second["created_revision"] == first["created_revision"]
            again = await patch(node, "q", paused=True)
            assert again["revision"] == second["revision"], "nothing changed"
            changes = (await node.get("/api/changes?from_revision=1&topics=queue.q,queues&data=full")).json
            changes = changes["items"]
            last = changes[-1]["changes"][0]
            assert (last["type"], last["resource"], last["resource_id"]) == ("queue.updated", "queue", "q")
            assert last["data"]["paused"] is True

    run(scenario())


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"paused": "yes"}, "paused"),
        ({"paused": None}, "paused"),
        ({"max_running": -1}, "max_running"),
        ({"max_running": 1.5}, "max_running"),
        ({"rate_per_second": 0}, "rate_per_second"),
        ({"rate_per_second": -2}, "rate_per_second"),
        ({"rate_per_second": 1e9}, "rate_per_second"),
        ({"max_running_per_key": 0}, "max_running_per_key"),
        ({"max_running_per_key": None}, "max_running_per_key"),
        ({"limit": 1}, "limit"),
    ],
)
def test_bad_settings_change_nothing(body: dict[str, Any], path: str) -> None:
    async def scenario() -> None:
        async with running() as node:
            answer = await node.ask("PATCH", "/api/queues/q", body)
            assert answer.status == 400
            assert answer.json["errors"][0]["path"] == path
            assert (await node.get("/api/queues")).json["items"] == []
            assert (await node.ask("PATCH", "/api/queues/a%20b", {"paused": True})).status == 400
            stale = await node.ask("PATCH", "/api/queues/q", {"paused": True, "if_revision": 7})
            assert (stale.status, stale.json["code"]) == (409, "conflict")

    run(scenario())


def test_a_queue_that_nobody_has_set_is_changed_by_the_revision_it_shows() -> None:
    async def scenario() -> None:
        async with running() as node:
            assert (await node.ask("POST", "/api/tasks", {"task_id": "t1", "queue": "q"})).status == 201
            shown = (await node.get("/api/queues/q")).json
            assert shown["revision"] > 0
            wrong = await node.ask("PATCH", "/api/queues/q", {"paused": True, "if_revision": shown["revision"] + 9})
            assert (wrong.status, wrong.json["code"]) == (409, "conflict")
            assert wrong.json["current"]["revision"] == shown["revision"]
            changed = await patch(node, "q", paused=True, if_revision=shown["revision"])
            assert changed["revision"] > shown["revision"]

    run(scenario())


def test_pause_keeps_offers_and_claims_back_and_resume_lets_them_go() -> None:
    async def scenario() -> None:
        async with running() as node:
            await patch(node, "q", paused=True)
            await node.submit("t1", queue="q")
            epoch = await node.register("a1", max_concurrent=2)
            assert await node.claim("a1", epoch) == []
            answer = await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch})
            assert (answer.status, answer.json["code"]) == (409, "conflict")
            assert answer.json["current"]["why"] == "queue_paused"
            answer = await node.ask("PUT", "/api/tasks/t1/assign", {"agent_id": "a1"})
            assert (answer.status, answer.json["current"]["why"]) == (409, "queue_paused")
            explained = (await node.get("/api/tasks/t1/explain")).json
            assert [reason["code"] for reason in explained["reasons"]] == ["queue_paused"]
            assert "'q' is paused" in explained["reasons"][0]["message"]
            poll = await node.poll("a1", epoch)
            assert not poll.done()
            await patch(node, "q", paused=False)
            assert ids((await poll)["offers"]) == ["t1"]

    run(scenario())


def test_max_running_holds_for_offers_and_claims_together() -> None:
    async def scenario() -> None:
        async with running() as node:
            await patch(node, "q", max_running=2)
            for number in range(4):
                await node.submit(f"t{number}", queue="q")
            await node.submit("free", queue="other")
            epoch = await node.register("a1", max_concurrent=9)
            assert ids(await node.claim("a1", epoch, limit=9)) == ["t0", "t1", "free"]
            explained = (await node.get("/api/tasks/t2/explain")).json["reasons"][0]
            assert (explained["code"], explained["data"]) == (
                "queue_limit",
                {"queue": "q", "held": 2, "max_running": 2},
            )
            poll = await node.poll("a1", epoch, running=[{"task_id": "t0", "attempt": 1}])
            assert not poll.done()
            await node.verb("complete", "t0", "a1", 1)
            assert ids((await poll)["offers"]) == ["t2"]
            assert (await queue(node, "q"))["held"] == 2
            await node.verb("accept", "t2", "a1", 1)
            waiting = await node.poll("a1", epoch)
            assert not waiting.done()
            await patch(node, "q", max_running=None)
            assert ids((await waiting)["offers"]) == ["t3"]

    run(scenario())


def test_rate_lets_through_what_time_allows() -> None:
    async def scenario() -> None:
        async with running() as node:
            await patch(node, "q", rate_per_second=2)
            for number in range(6):
                await node.submit(f"t{number}", queue="q")
            epoch = await node.register("a1", max_concurrent=9)
            assert ids(await node.claim("a1", epoch, limit=9)) == ["t0", "t1"]
            answer = await node.post("/api/tasks/t2/claim", {"agent_id": "a1", "epoch": epoch})
            assert (answer.status, answer.json["code"], answer.json["retry"]) == (429, "rate_limited", "safe")
            explained = (await node.get("/api/tasks/t2/explain")).json["reasons"][0]
            assert explained["code"] == "rate_limit"
            assert explained["data"]["rate_per_second"] == 2
            await node.advance(1)
            assert ids(await node.claim("a1", epoch, limit=9)) == ["t2", "t3"]
            poll = await node.poll("a1", epoch)
            assert not poll.done()
            await node.advance(0.6)
            assert ids((await poll)["offers"]) == ["t4"]

    run(scenario())


def test_a_claim_that_waits_gets_what_the_rate_lets_through() -> None:
    async def scenario() -> None:
        async with running() as node:
            await patch(node, "q", rate_per_second=5)
            epoch = await node.register("a1", max_concurrent=20)
            for number in range(7):
                await node.submit(f"t{number}", queue="q")
            assert len(await node.claim("a1", epoch, limit=20)) == 5
            claim = asyncio.create_task(node.claim("a1", epoch, limit=20, wait_ms=5_000))
            await until(lambda: node.leadership.claims_waiting == 1)
            await node.advance(0.2)
            assert ids(await claim) == ["t5"]

    run(scenario())


def test_one_at_a_time_under_a_concurrency_key() -> None:
    async def scenario() -> None:
        async with running() as node:
            for number in range(4):
                await node.submit(f"t{number}", concurrency_key="repo")
            await node.submit("urgent", concurrency_key="repo", priority=9)
            await node.submit("free", concurrency_key="other")
            epoch = await node.register("a1", max_concurrent=9)
            assert ids(await node.claim("a1", epoch, limit=9)) == ["urgent", "free"]
            explained = (await node.get("/api/tasks/t0/explain")).json["reasons"][0]
            assert explained["code"] == "concurrency_key"
            assert explained["data"]["tasks"] == ["urgent"]
            for done, follows in (("urgent", "t0"), ("t0", "t1")):
                await node.verb("complete", done, "a1", 1)
                assert ids(await node.claim("a1", epoch, limit=9)) == [follows], "in order of age"
            await patch(node, "default", max_running_per_key=3)
            assert ids(await node.claim("a1", epoch, limit=9)) == ["t2", "t3"]

    run(scenario())


def test_one_that_nobody_can_do_hides_no_other_of_its_key() -> None:
    async def scenario() -> None:
        async with running() as node:
            for number in range(40):
                await node.submit(f"gpu{number}", concurrency_key="repo", requires=[{"name": "gpu"}])
            await node.submit("plain", concurrency_key="repo")
            await node.submit("docs", concurrency_key="repo", requires=[{"name": "docs"}])
            epoch = await node.register("a1", max_concurrent=9, capabilities=[{"name": "docs", "proficiency": 1}])
            assert ids(await node.claim("a1", epoch, limit=9)) == ["plain"]
            reasons = (await node.get("/api/tasks/docs/explain")).json["reasons"]
            assert [reason["code"] for reason in reasons] == ["concurrency_key"]
            await node.verb("complete", "plain", "a1", 1)
            reasons = (await node.get("/api/tasks/gpu0/explain")).json["reasons"]
            assert [reason["code"] for reason in reasons] == ["no_agent_capability"]
            assert ids(await node.claim("a1", epoch, limit=9)) == ["docs"]

    run(scenario())


def test_a_long_backlog_of_one_key_hides_nobody() -> None:
    async def scenario() -> None:
        async with running() as node:
            items = [{"task_id": f"t{n}", "concurrency_key": "repo"} for n in range(900)]
            answer = await node.post("/api/tasks/batch", {"items": items})
            assert answer.status == 200
            await node.submit("last", concurrency_key="other")
            epoch = await node.register("a1", max_concurrent=9)
            assert ids(await node.claim("a1", epoch, limit=9)) == ["t0", "last"]
            assert len(node.leadership.memory.pending) == 0, "the others stay in the state"

    run(scenario())


def test_one_project_with_a_backlog_does_not_delay_the_first_task_of_another() -> None:
    async def scenario() -> None:
        async with running() as node:
            items = [{"task_id": f"t{n}", "priority": 9} for n in range(600)]
            await node.post("/api/tasks/batch?project=big", {"items": items})
            epoch = await node.register("a1", max_concurrent=20, projects=["*"])
            poll = await node.poll("a1", epoch)
            first = [(grant["project"], grant["task_id"]) for grant in (await poll)["offers"]]
            assert first == [("big", f"t{n}") for n in range(20)]
            await node.post("/api/tasks?project=small", {"task_id": "s1", "priority": 1})
            for number in range(2):
                body = {"agent_id": "a1", "attempt": 1}
                await node.post(f"/api/tasks/t{number}/complete?project=big", body)
            poll = await node.poll("a1", epoch)
            await until(lambda: node.leadership.memory.holdings.get(("small", "s1")) is not None)
            await poll

    run(scenario())


def test_queues_in_the_metrics_are_the_longest() -> None:
    async def scenario() -> None:
        async with running() as node:
            await node.submit("t1", queue="q")
            await node.advance(5)
            text = (await node.get("/metrics")).raw.decode()
            assert 'hive_queue_pending_tasks{project="default",queue="q"} 1.0' in text
            assert 'hive_queue_oldest_pending_age_seconds{project="default",queue="q"} 5.0' in text

    run(scenario())


def test_a_leader_that_begins_anew_knows_limits_keys_and_sessions() -> None:
    async def scenario() -> None:
        async with running() as node:
            await patch(node, "q", max_running=1)
            await patch(node, "closed", paused=True)
            epoch = await node.register("a1", max_concurrent=9)
            for number in range(2):
                await node.submit(f"q{number}", queue="q")
                await node.submit(f"k{number}", concurrency_key="repo")
                await node.submit(f"c{number}", queue="closed")
            assert ids(await node.claim("a1", epoch, limit=9)) == ["q0", "k0"]
            for number in range(30):
                await node.submit(f"long{number}", session_id="long")
            await node.submit("short", session_id="short")
            node.leadership.memory._start_over()
            assert set(ids(await node.claim("a1", epoch, limit=2))) == {"long0", "short"}
            await node.verb("complete", "q0", "a1", 1)
            await node.verb("complete", "k0", "a1", 1)
            granted = ids(await node.claim("a1", epoch, limit=4))
            assert {"q1", "k1"} <= set(granted)
            assert not any(name.startswith("c") for name in granted)

    run(scenario())
