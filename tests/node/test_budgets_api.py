"""Budgets over HTTP: what is shown, what can be set, and that who has none left waits, for offers and claims alike."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, running
from tests.node.harness import Answer, run, until


async def put(node: FleetNode, scope: str, budget_id: str, **limits: Any) -> Any:
    """Set a budget -> the budget."""
    answer = await node.ask("PUT", f"/api/budgets/{scope}/{budget_id}", limits)
    assert answer.status in (200, 201), answer
    return answer.json


async def budget(node: FleetNode, scope: str, budget_id: str) -> Any:
    answer = await node.get(f"/api/budgets/{scope}/{budget_id}")
    assert answer.status == 200, answer
    return answer.json


def ids(grants: list[Any]) -> list[str]:
    return [grant["task_id"] for grant in grants]


def usage(tokens: int, cost_usd: float = 0) -> dict[str, Any]:
    return {"input_tokens": tokens, "output_tokens": 0, "cost_usd": cost_usd}


def test_a_budget_is_made_shown_changed_reset_and_removed() -> None:
    async def scenario() -> None:
        async with running() as node:
            limits = {"max_tokens": 1_000, "max_cost_usd": 2.5, "reserve_tokens": 100, "reserve_cost_usd": 0.25}
            made = await node.ask("PUT", "/api/budgets/session/s1", limits)
            assert (made.status, made.headers["Location"]) == (201, "/api/budgets/session/s1")
            shown = made.json
            assert shown == {
                "scope": "session", "id": "s1", "project": "default", **limits,
                "spent": {"input_tokens": 0, "output_tokens": 0, "tokens": 0, "cost_usd": 0.0},
                "reserved": {"tokens": 0, "cost_usd": 0.0, "tasks": 0},
                "left": {"tokens": 1_000, "cost_usd": 2.5},
                "exceeded": False,
                "period_started_at": shown["created_at"], "created_at": shown["created_at"],
                "updated_at": shown["created_at"],
                "revision": shown["revision"], "created_revision": shown["revision"],
            }  # fmt: skip
            again = await node.ask("PUT", "/api/budgets/session/s1", limits)
            assert (again.status, again.json) == (200, shown), "the same again changes nothing"
            await node.submit("t1", session_id="s1")
            epoch = await node.register("a1")
            await node.claim("a1", epoch)
            held = await budget(node, "session", "s1")
            assert held["reserved"] == {"tokens": 100, "cost_usd": 0.25, "tasks": 1}
            assert held["left"] == {"tokens": 900, "cost_usd": 2.25}
            said = {"input_tokens": 30, "output_tokens": 12, "cost_usd": 0.125}
            await node.verb("complete", "t1", "a1", 1, usage=said)
            spent = await budget(node, "session", "s1")
            assert spent["spent"] == {**said, "tokens": 42}
            assert spent["left"] == {"tokens": 958, "cost_usd": 2.375}
            assert spent["revision"] == shown["revision"], "what is spent does not disturb who changes limits"
            await node.advance(5)
            fewer = await put(node, "session", "s1", max_cost_usd=1, if_revision=shown["revision"])
            assert (fewer["max_tokens"], fewer["reserve_tokens"], fewer["max_cost_usd"]) == (None, 0, 1.0)
            assert fewer["left"] == {"tokens": None, "cost_usd": 0.875}
            reset = (await node.post("/api/budgets/session/s1/reset")).json
            assert reset["spent"]["tokens"] == 0
            assert reset["period_started_at"] == reset["updated_at"] > reset["created_at"]
            gone = await node.ask("DELETE", "/api/budgets/session/s1")
            assert gone.status == 200
            assert {**gone.json, "revision": 0} == {"scope": "session", "id": "s1", "revision": 0, "deleted": True}
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/reset")):
                assert (await node.ask(method, f"/api/budgets/session/s1{path}")).json["code"] == "not_found"

    run(scenario())


def test_lists_by_scope_and_id_in_pages() -> None:
    async def scenario() -> None:
        async with running() as node:
            for scope, name in (("agent", "a1"), ("session", "s2"), ("project", "default"), ("session", "s1")):
                await put(node, scope, name, max_tokens=0 if name == "s2" else 9)
            await node.ask("PUT", "/api/budgets/session/theirs?project=other", {})
            for order, wanted in (
                ("asc", ["project/default", "session/s1", "session/s2", "agent/a1"]),
                ("desc", ["agent/a1", "session/s2", "session/s1", "project/default"]),
            ):
                for limit in (1, 2, 9):
                    found, cursor = [], ""
                    while True:
                        page = (await node.get(f"/api/budgets?order={order}&limit={limit}{cursor}")).json
                        found += [f"{item['scope']}/{item['id']}" for item in page["items"]]
                        if page["next_cursor"] is None:
                            break
                        cursor = f"&cursor={page['next_cursor']}"
                    assert found == wanted
            some = (await node.get("/api/budgets?scope=agent,project&fields=id")).json["items"]
            assert some == [{"id": "default"}, {"id": "a1"}]
            up = (await node.get("/api/budgets?exceeded=true&limit=1")).json
            assert [item["id"] for item in up["items"]] == ["s2"]
            other = (await node.get("/api/budgets?project=other")).json["items"]
            assert [(item["scope"], item["project"]) for item in other] == [("session", "other"), ("agent", None)]
            assert (await node.get("/api/budgets?project=nowhere")).json["code"] == "unknown_project"
            assert (await node.get("/api/budgets?scope=queue")).json["errors"][0]["path"] == "scope"
            assert (await node.get("/api/budgets?cursor=x")).json["code"] == "invalid_cursor"

    run(scenario())


@pytest.mark.parametrize(
    ("target", "body", "path"),
    [
        ("session/s1", {"max_tokens": -1}, "max_tokens"),
        ("session/s1", {"max_tokens": 1.5}, "max_tokens"),
        ("session/s1", {"max_tokens": 10**16}, "max_tokens"),
        ("session/s1", {"max_cost_usd": -0.1}, "max_cost_usd"),
        ("session/s1", {"max_cost_usd": "much"}, "max_cost_usd"),
        ("session/s1", {"reserve_tokens": None}, "reserve_tokens"),
        ("session/s1", {"reserve_cost_usd": -1}, "reserve_cost_usd"),
        ("session/s1", {"max_tokens": 1, "reserve_tokens": 2}, "reserve_tokens"),
        ("session/s1", {"max_cost_usd": 1, "reserve_cost_usd": 1.5}, "reserve_cost_usd"),
        ("session/s1", {"spent_tokens": 1}, "spent_tokens"),
        ("session/s1", {"if_revision": -1}, "if_revision"),
        ("queue/q", {}, "scope"),
        ("session/a%20b", {}, "budget_id"),
        ("project/other", {}, "budget_id"),
    ],
)
def test_what_is_no_budget_is_refused_and_changes_nothing(target: str, body: dict[str, Any], path: str) -> None:
    async def scenario() -> None:
        async with running() as node:
            answer = await node.ask("PUT", f"/api/budgets/{target}", body)
            assert (answer.status, answer.json["code"]) == (400, "invalid_request")
            assert answer.json["errors"][0]["path"] == path
            assert (await node.get("/api/budgets")).json["items"] == []
            for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/reset")):
                if path in ("scope", "budget_id"):
                    assert (await node.ask(method, f"/api/budgets/{target}{end}")).status == 400

    run(scenario())


def test_conditions_and_keys() -> None:
    async def scenario() -> None:
        async with running() as node:
            first = await put(node, "agent", "a1", max_tokens=5, if_revision=0)
            stale = await node.ask("PUT", "/api/budgets/agent/a1", {"max_tokens": 6, "if_revision": 0})
            assert (stale.status, stale.json["code"]) == (409, "conflict")
            assert stale.json["current"] == {"revision": first["revision"]}
            headers = {"Idempotency-Key": "k1"}
            await node.post("/api/budgets/agent/a1/reset", headers=headers)
            again = await node.post("/api/budgets/agent/a1/reset", headers=headers)
            assert again.headers["Idempotency-Replayed"] == "true"
            gone = {"Idempotency-Key": "k2"}
            await node.ask("DELETE", "/api/budgets/agent/a1", headers=gone)
            repeated = await node.ask("DELETE", "/api/budgets/agent/a1", headers=gone)
            assert (repeated.status, repeated.json["deleted"]) == (200, True)
            replayed = await node.post("/api/budgets/agent/a1/reset", headers=headers)
            assert (replayed.status, replayed.json["deleted"]) == (200, True)

    run(scenario())


def test_what_becomes_of_a_budget_is_watched() -> None:
    async def scenario() -> None:
        async with running() as node:
            await put(node, "session", "s1", max_cost_usd=0.5)
            await node.submit("t1", session_id="s1")
            await node.claim("a1", await node.register("a1"))
            await node.verb("complete", "t1", "a1", 1, usage=usage(1, 0.75))
            await put(node, "session", "s1", max_cost_usd=0.8)
            await node.post("/api/budgets/session/s1/reset")
            await node.ask("DELETE", "/api/budgets/session/s1")
            changes = (await node.get("/api/changes?from_revision=1&topics=budgets")).json["items"]
            told = [change for message in changes for change in message["changes"]]
            assert [change["type"] for change in told] == [
                "budget.created", "budget.exceeded", "budget.updated", "budget.restored", "budget.reset",
                "budget.deleted",
            ]  # fmt: skip
            assert {change["resource_id"] for change in told} == {"session/s1"}
            facts = (await node.get("/api/changes?from_revision=1&topics=session.s1&data=full")).json["items"]
            exceeded = next(
                change for message in facts for change in message["changes"] if change["type"] == "budget.exceeded"
            )
            assert (exceeded["data"]["spent_cost_usd"], exceeded["data"]["max_cost_usd"]) == (0.75, 0.5)

    run(scenario())


async def refused(node: FleetNode, task_id: str, epoch: int) -> Answer:
    answer = await node.post(f"/api/tasks/{task_id}/claim", {"agent_id": "a1", "epoch": epoch})
    assert answer.status == 409, answer
    return answer


@pytest.mark.parametrize(("scope", "name"), [("project", "default"), ("session", "s1")])
def test_who_has_no_budget_left_waits_and_goes_on_when_it_is_raised(scope: str, name: str) -> None:
    async def scenario() -> None:
        async with running() as node:
            await put(node, scope, name, max_tokens=10)
            for number in range(3):
                await node.submit(f"t{number}", session_id="s1")
            epoch = await node.register("a1", max_concurrent=9)
            assert ids(await node.claim("a1", epoch)) == ["t0"]
            await node.verb("complete", "t0", "a1", 1, usage=usage(11))
            assert await node.claim("a1", epoch, limit=9) == []
            answer = await refused(node, "t1", epoch)
            assert (answer.json["code"], answer.json["current"]["why"]) == ("conflict", "budget")
            assert answer.json["current"]["spent_tokens"] == 11
            poll = await node.poll("a1", epoch)
            assert not poll.done()
            explained = (await node.get("/api/tasks/t1/explain")).json
            assert [reason["code"] for reason in explained["reasons"]] == ["budget"]
            assert "11 tokens spent, of 10 tokens; raise max_tokens or reset" in explained["reasons"][0]["message"]
            await put(node, scope, name, max_tokens=20)
            assert ids((await poll)["offers"]) == ["t1", "t2"]
            assert [task["status"] for task in (await node.get("/api/tasks?order=asc")).json["items"]] == [
                "completed", "assigned", "assigned",
            ]  # fmt: skip

    run(scenario())


def test_who_is_without_budget_keeps_nobody_else_waiting() -> None:
    async def scenario() -> None:
        async with running() as node:
            await put(node, "session", "s1", max_tokens=0)
            await node.ask("PUT", "/api/budgets/project/poor?project=poor", {"max_tokens": 0})
            for number in range(3):
                await node.submit(f"s{number}", session_id="s1", priority=9)
                await node.post("/api/tasks?project=poor", {"task_id": f"p{number}", "priority": 9})
                await node.submit(f"t{number}", priority=1)
            epoch = await node.register("a1", max_concurrent=9, projects=["*"])
            poll = await node.poll("a1", epoch)
            assert ids((await poll)["offers"]) == ["t0", "t1", "t2"]

    run(scenario())


def test_an_agent_without_budget_gets_nothing_and_says_why() -> None:
    async def scenario() -> None:
        async with running() as node:
            await put(node, "agent", "a1", max_cost_usd=1, reserve_cost_usd=0.6)
            epoch = await node.register("a1", max_concurrent=9)
            for number in range(3):
                await node.submit(f"t{number}")
            poll = await node.poll("a1", epoch)
            assert ids((await poll)["offers"]) == ["t0"], "a second would reserve 1.20 of 1"
            await node.verb("accept", "t0", "a1", 1)
            answer = await refused(node, "t1", epoch)
            assert (answer.json["code"], answer.json["current"]["why"]) == ("agent_unavailable", "budget")
            assert await node.claim("a1", epoch) == []
            explained = (await node.get("/api/tasks/t1/explain")).json
            assert [reason["code"] for reason in explained["reasons"]] == ["budget"]
            assert explained["agents"]["filtered"] == {"budget": 1}
            waiting = asyncio.create_task(node.claim("a1", epoch, wait_ms=5_000))
            await until(lambda: node.leadership.claims_waiting == 1)
            await node.verb("complete", "t0", "a1", 1, usage=usage(1, 0.25))
            assert ids(await waiting) == ["t1"]
            poll = await node.poll("a1", epoch)
            assert not poll.done()
            await put(node, "agent", "a1")
            assert ids((await poll)["offers"]) == ["t2"]

    run(scenario())


def test_tasks_that_run_at_the_same_time_do_not_spend_the_same_twice() -> None:
    async def scenario() -> None:
        async with running() as node:
            await put(node, "project", "default", max_tokens=100, reserve_tokens=30)
            for number in range(6):
                await node.submit(f"t{number}")
            epoch = await node.register("a1", max_concurrent=9)
            poll = await node.poll("a1", epoch)
            assert ids((await poll)["offers"]) == ["t0", "t1", "t2"]
            for number in range(3):
                await node.verb("accept", f"t{number}", "a1", 1)
            explained = (await node.get("/api/tasks/t3/explain")).json["reasons"][0]
            assert explained["data"] == {
                "scope": "project", "id": "default", "max_tokens": 100, "spent_tokens": 0, "reserved_tokens": 90,
                "reserve_tokens": 30,
            }  # fmt: skip
            poll = await node.poll("a1", epoch, running=[{"task_id": f"t{n}", "attempt": 1} for n in range(3)])
            assert not poll.done()
            await node.verb("release", "t0", "a1", 1)
            assert len((await poll)["offers"]) == 1, "given back by whoever gives back the task"

    run(scenario())


def test_metrics_count_those_that_are_used_up() -> None:
    async def scenario() -> None:
        async with running() as node:
            await put(node, "session", "s1", max_tokens=0)
            await put(node, "session", "s2", max_tokens=1)
            await put(node, "agent", "a1")
            text = (await node.get("/metrics")).raw.decode()
            assert 'hive_budgets{scope="session"} 2.0' in text
            assert 'hive_budgets{scope="agent"} 1.0' in text
            assert 'hive_budgets_exceeded{scope="session"} 1.0' in text
            assert 'hive_budgets_exceeded{scope="project"} 0.0' in text

    run(scenario())


def test_a_leader_that_begins_anew_knows_all_budgets() -> None:
    async def scenario() -> None:
        async with running() as node:
            await put(node, "session", "s1", max_tokens=0)
            await put(node, "agent", "a2", max_tokens=0)
            for number in range(2):
                await node.submit(f"s{number}", session_id="s1")
            epoch = await node.register("a1", max_concurrent=9)
            poor = await node.register("a2")
            assert await node.claim("a1", epoch, limit=9) == []
            node.leadership.memory._start_over()
            assert await node.claim("a1", epoch, limit=9) == []
            await node.submit("t1")
            assert await node.claim("a2", poor) == []
            await node.ask("DELETE", "/api/budgets/session/s1")
            assert set(ids(await node.claim("a1", epoch, limit=9))) == {"s0", "s1", "t1"}

    run(scenario())


def test_a_session_without_budget_hides_no_other_task_of_its_concurrency_key() -> None:
    async def scenario() -> None:
        async with running() as node:
            await put(node, "session", "poor", max_tokens=0)
            for number in range(5):
                await node.submit(f"p{number}", session_id="poor", concurrency_key="repo", priority=9)
            await node.submit("r0", session_id="rich", concurrency_key="repo")
            await node.submit("r1", concurrency_key="repo")
            epoch = await node.register("a1", max_concurrent=9)
            for name in ("r0", "r1"):
                assert ids(await node.claim("a1", epoch, limit=9)) == [name], "one at a time"
                await node.verb("complete", name, "a1", 1)
            assert await node.claim("a1", epoch, limit=9) == []
            await node.advance(5)
            await put(node, "session", "poor", max_tokens=1)
            for number in range(5):
                assert ids(await node.claim("a1", epoch, limit=9)) == [f"p{number}"]
                await node.verb("complete", f"p{number}", "a1", 1)

    run(scenario())
