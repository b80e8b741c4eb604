"""Locks on paths over HTTP: what can be asked for, who is let in, what is said of those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, with_fleet

SRC = [{"path": "src/**"}]


def ids(grants: list[Any]) -> list[str]:
    return [grant["task_id"] for grant in grants]


def test_they_are_shown_as_asked_for() -> None:
    async def step(node: FleetNode) -> None:
        locks = [{"path": "src/*.py"}, {"path": "docs/**", "exclusive": False}]
        whole = [{"path": "src/*.py", "exclusive": True}, {"path": "docs/**", "exclusive": False}]
        assert (await node.submit("t1", locks=locks))["locks"] == whole
        assert (await node.task("t1"))["locks"] == whole
        assert (await node.submit("t2"))["locks"] == []
        epoch = await node.register("a1")
        (grant,) = await node.claim("a1", epoch)
        assert grant["locks"] == whole
        again = await node.post("/api/tasks", {"task_id": "t1", "locks": locks})
        assert again.status == 200
        other = await node.post("/api/tasks", {"task_id": "t1", "locks": locks[:1]})
        assert (other.status, other.json["code"]) == (409, "exists")
        listed = (await node.get("/api/tasks?ids=t1")).json["items"]
        assert listed[0]["locks"] == whole

    with_fleet(step)


def test_a_claim_by_name_is_told_who_holds_them() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        await node.submit("t1", locks=SRC)
        await node.submit("t2", locks=[{"path": "src/a.py", "exclusive": False}])
        await node.submit("t3", locks=[{"path": "docs"}])
        assert ids(await node.claim("a1", epoch, limit=9)) == ["t1", "t3"]
        holders = [{"task_id": "t1", "path": "src/**", "exclusive": True, "agent_id": "a1"}]
        for refused in (
            await node.post("/api/tasks/t2/claim", {"agent_id": "a1", "epoch": epoch}),
            await node.ask("PUT", "/api/tasks/t2/assign", {"agent_id": "a1"}),
        ):
            assert (refused.status, refused.json["code"]) == (409, "lock_held")
            assert refused.json["holders"] == holders
            assert refused.json["current"]["status"] == "pending"
        explained = (await node.get("/api/tasks/t2/explain")).json
        (reason,) = explained["reasons"]
        assert reason["code"] == "lock_held"
        assert reason["data"] == {"path": "src/a.py", "exclusive": False, "held_by": holders}
        await node.verb("complete", "t1", "a1", 1)
        assert (await node.get("/api/tasks/t2/explain")).json["reasons"] == []
        assert ids(await node.claim("a1", epoch, limit=9)) == ["t2"]

    with_fleet(step)


def test_offers_come_when_they_are_let_go() -> None:
    async def step(node: FleetNode) -> None:
        epochs = [await node.register(f"a{n}") for n in range(2)]
        await node.submit("t1", locks=SRC)
        assert ids(await node.claim("a0", epochs[0])) == ["t1"]
        await node.submit("t2", locks=SRC)
        await node.submit("t3", locks=[{"path": "src/b.py"}])
        poll = await node.poll("a1", epochs[1])
        assert not poll.done()
        data = (await node.get("/api/tasks/t3/explain")).json["reasons"]
        assert [reason["code"] for reason in data] == ["lock_held", "lock_held"]
        assert data[1]["data"]["behind"] == "t2"
        await node.verb("complete", "t1", "a0", 1)
        assert ids((await poll)["offers"]) == ["t2"]
        assert len(node.leadership.memory.pending.locks) <= 1

    with_fleet(step)


def test_who_comes_first_and_waits_is_named() -> None:
    """A task whose own locks are free is not left without a reason."""

    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        await node.submit("t1", locks=[{"path": "a"}])
        assert ids(await node.claim("a1", epoch)) == ["t1"]
        await node.submit("t2", locks=[{"path": "**"}])
        await node.submit("t3", locks=[{"path": "b"}])
        assert await node.claim("a1", epoch, limit=9) == []
        (reason,) = (await node.get("/api/tasks/t3/explain")).json["reasons"]
        assert (reason["code"], reason["data"]["behind"]) == ("lock_held", "t2")
        by_name = await node.post("/api/tasks/t3/claim", {"agent_id": "a1", "epoch": epoch})
        assert by_name.status == 200, "by name nobody stands in a line"

    with_fleet(step)


def test_waiting_and_cancelled_tasks_keep_them() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        await node.submit("t1", locks=SRC)
        await node.submit("t2", locks=SRC)
        await node.claim("a1", epoch)
        await node.verb("wait", "t1", "a1", 1, **{"for": {"kind": "approval", "name": "plan"}})
        assert await node.claim("a1", epoch) == []
        await node.post("/api/tasks/t1/resume", {"name": "plan"})
        assert ids(await node.claim("a1", epoch, limit=9)) == ["t1"]
        assert await node.claim("a1", epoch) == []
        await node.ask("DELETE", "/api/tasks/t1")
        assert await node.claim("a1", epoch) == []
        await node.verb("release", "t1", "a1", 2)
        assert ids(await node.claim("a1", epoch, limit=9)) == ["t2"]

    with_fleet(step)


def test_a_task_that_is_put_off_after_a_wait_keeps_them() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        await node.submit("t1", locks=SRC)
        await node.submit("t2", locks=SRC)
        await node.claim("a1", epoch)
        await node.verb("wait", "t1", "a1", 1, **{"for": {"kind": "approval", "name": "plan"}})
        await node.post("/api/tasks/t1/resume", {"name": "plan"})
        at = "2100-01-01T00:00:00Z"
        assert (await node.ask("PATCH", "/api/tasks/t1", {"not_before": at})).json["status"] == "scheduled"
        revision = node.replica.revision
        assert await node.claim("a1", epoch) == []
        assert node.replica.revision == revision
        assert node.leadership.memory.pending.locks.holds(("default", "t1"))

    with_fleet(step)


def test_a_leader_that_begins_anew_knows_who_holds_what() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        for number, path in enumerate(("a", "b", "c")):
            await node.submit(f"t{number}", locks=[{"path": path}])
            await node.submit(f"next{number}", locks=[{"path": f"[{path}]"}])
        assert ids(await node.claim("a1", epoch, limit=9)) == ["t0", "t1", "t2"]
        for task_id in ("t0", "t1"):
            await node.verb("wait", task_id, "a1", 1, **{"for": {"kind": "approval", "name": "plan"}})
        await node.post("/api/tasks/t1/resume", {"name": "plan"})
        node.leadership.memory._start_over()
        index = node.replica.index
        assert ids(await node.claim("a1", epoch, limit=9)) == ["t1"], "the one that was resumed"
        assert node.replica.index == index + 1, "nothing was proposed in vain"
        await node.verb("complete", "t2", "a1", 1)
        assert ids(await node.claim("a1", epoch, limit=9)) == ["next2"]

    with_fleet(step)


def test_a_million_could_wait_for_one_file() -> None:
    """Whoever needs it costs nothing while it is taken, and hides nobody."""

    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        for batch in range(2):
            items = [{"task_id": f"t{batch}-{n}", "locks": [{"path": "hot"}]} for n in range(1_000)]
            assert (await node.post("/api/tasks/batch", {"items": items})).status == 200
        await node.submit("cold", locks=[{"path": "cold"}])
        await node.submit("plain")
        granted: list[str] = []
        while len(granted) < 3:
            granted += ids(await node.claim("a1", epoch, limit=9))
        assert sorted(granted) == ["cold", "plain", "t0-0"]
        await node.verb("complete", "t0-0", "a1", 1)
        assert ids(await node.claim("a1", epoch, limit=9)) == ["t0-1"]

    with_fleet(step)


@pytest.mark.parametrize(
    ("locks", "path"),
    [
        ([{"path": ""}], "locks[0].path"),
        ([{"path": "ok"}, {"path": "/etc"}], "locks[1].path"),
        ([{"path": "a/../b"}], "locks[0].path"),
        ([{"path": "a[b"}], "locks[0].path"),
        ([{"path": "a\u0000"}], "locks[0].path"),
        ([{"path": "é" * 200}], "locks[0].path"),
        ([{"path": "x" * 257}], "locks[0].path"),
        ([{"path": "*a" * 17}], "locks[0].path"),
        ([{"exclusive": True}], "locks[0].path"),
        ([{"path": "a", "exclusive": "yes"}], "locks[0].exclusive"),
        ([{"path": "a", "mode": "x"}], "locks[0].mode"),
        ([{"path": str(n)} for n in range(33)], "locks"),
        ("src", "locks"),
        (["src"], "locks[0]"),
    ],
)
def test_bad_locks_are_refused(locks: object, path: str) -> None:
    async def step(node: FleetNode) -> None:
        index = node.replica.index
        one = await node.post("/api/tasks", {"locks": locks})
        assert (one.status, one.json["code"]) == (400, "invalid_request")
        assert one.json["errors"][0]["path"] == path
        many = await node.post("/api/tasks/batch", {"items": [{}, {"locks": locks}]})
        assert (many.status, many.json["errors"][0]["path"]) == (400, f"items[1].{path}")
        assert node.replica.index == index

    with_fleet(step)


def test_a_schedule_can_ask_for_them() -> None:
    async def step(node: FleetNode) -> None:
        made = await node.post("/api/schedules", {"schedule_id": "s", "every_ms": 60_000, "task": {"locks": SRC}})
        assert made.status == 201, made
        assert made.json["task"]["locks"] == [{"path": "src/**", "exclusive": True}]
        run = await node.post("/api/schedules/s/trigger", {})
        assert run.json["locks"] == [{"path": "src/**", "exclusive": True}]

    with_fleet(step)


def test_follow_ups_can_ask_for_them_and_may_be_refused() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        await node.submit("t1", locks=SRC)
        await node.claim("a1", epoch)
        bad = await node.verb("complete", "t1", "a1", 1, tasks=[{"locks": [{"path": "/"}]}])
        assert (bad.status, bad.json["errors"][0]["path"]) == (400, "tasks[0].locks[0].path")
        done = await node.verb("complete", "t1", "a1", 1, tasks=[{"task_id": "t2", "locks": SRC}])
        assert done.status == 200
        assert ids(await node.claim("a1", epoch, limit=9)) == ["t2"]

    with_fleet(step)
