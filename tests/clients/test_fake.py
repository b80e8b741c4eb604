"""The fake keeps the API's promises, so that a worker tested against it meets nothing new outside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hive_client import Client, InvalidRequest, StaleAttempt
from hive_client.models import Grant
from hive_client.testing import FakeHive, ManualClock

from tests.clients.running import async_test, raised, settled, until


class Table:
    """A fake, its clock, and one registered agent."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.fake = FakeHive(self.clock)
        self.client: Client = self.fake.client()
        self.epoch = 0

    async def seated(self, **agent: Any) -> Table:
        self.epoch = (await self.client.agents.register("a1", **agent)).epoch
        return self

    async def claim(self, task_id: str = "t1") -> Grant:
        return await self.client.tasks.claim_one(task_id, agent_id="a1", epoch=self.epoch)

    def status(self, task_id: str = "t1") -> str:
        return self.fake.task(task_id).status

    def poll(self, **options: Any) -> asyncio.Task[Any]:
        call = self.client.agents.heartbeat("a1", epoch=self.epoch, **{"wait_ms": 30_000, **options})
        return asyncio.create_task(call)


@async_test
async def test_a_lease_that_is_not_renewed_ends_the_attempt_and_fences_it_off() -> None:
    table = await Table().seated()
    await table.client.tasks.create(task_id="t1", lease_ms=10_000, max_attempts=2)
    await table.claim()
    table.clock.advance(9)
    await table.client.tasks.renew("t1", agent_id="a1", attempt=1)
    table.clock.advance(9)
    assert table.status() == "running"
    table.clock.advance(1)
    task = table.fake.task("t1")
    assert task.failure is not None
    assert (task.status, task.failure.reason) == ("scheduled", "lease_lost")
    await raised(table.client.tasks.complete("t1", agent_id="a1", attempt=1), StaleAttempt)
    table.clock.advance(1)
    assert table.status() == "pending"
    assert (await table.claim()).attempt == 2
    table.clock.advance(10)
    assert table.status() == "failed"


@async_test
async def test_run_timeout_and_deadline_are_kept() -> None:
    table = await Table().seated()
    await table.client.tasks.create(task_id="t1", run_timeout_ms=5000, max_attempts=1)
    await table.client.tasks.create(task_id="t2", deadline_in_ms=5000)
    await table.claim()
    table.clock.advance(5)
    task = table.fake.task("t1")
    assert task.failure is not None
    assert (task.status, task.failure.reason) == ("failed", "timeout")
    assert table.status("t2") == "expired"


@async_test
async def test_back_off_grows_and_delays_are_kept() -> None:
    table = await Table().seated()
    await table.client.tasks.create(task_id="t1", backoff={"initial_ms": 1000, "factor": 3, "max_ms": 2000})
    for wait in (1, 2):
        await table.claim()
        await table.client.tasks.fail("t1", agent_id="a1", attempt=table.fake.task("t1").attempt)
        table.clock.advance(wait - 0.1)
        assert table.status() == "scheduled"
        table.clock.advance(0.2)
        assert table.status() == "pending"
    await table.client.tasks.create(task_id="t2", delay_ms=500)
    assert table.status("t2") == "scheduled"


@async_test
async def test_the_open_poll_gets_offers_by_priority_and_only_what_fits() -> None:
    table = await Table().seated(capabilities=[{"name": "lint", "proficiency": 0.5}], max_concurrent=2)
    await table.client.tasks.create_batch(
        [
            {"task_id": "low", "priority": 1},
            {"task_id": "high", "priority": 9},
            {"task_id": "mid", "priority": 5},
            {"task_id": "expert", "priority": 9, "requires": [{"name": "lint", "min_proficiency": 0.9}]},
        ]
    )
    assert table.status("high") == "pending", "nobody polls"
    reply = await table.poll()
    assert [offer.task_id for offer in reply.offers] == ["high", "mid"]
    assert (await table.poll()).offers[0].attempt == 1, "an offer repeats"
    table.clock.advance(10.5)
    assert table.fake.task("high").status == "pending", "an offer ends"
    assert table.fake.task("high").tries == 0


@async_test
async def test_a_newer_poll_ends_the_older_one_empty() -> None:
    table = await Table().seated()
    older = table.poll()
    await settled()
    newer = table.poll()
    reply = await older
    assert (reply.offers, reply.held, reply.lost, reply.drain) == ([], [], [], False)
    await table.client.tasks.create(task_id="t1")
    assert [offer.task_id for offer in (await newer).offers] == ["t1"]


@async_test
async def test_a_heartbeat_renews_what_it_lists_and_names_what_is_lost() -> None:
    table = await Table().seated(max_concurrent=3)
    await table.client.tasks.create_batch([{"task_id": name, "lease_ms": 10_000} for name in ("t1", "t2", "t3")])
    for name in ("t1", "t2", "t3"):
        await table.claim(name)
    await table.client.tasks.fail("t3", agent_id="a1", attempt=1)
    table.clock.advance(6)
    listed = [{"task_id": "t1", "attempt": 1}, {"task_id": "t3", "attempt": 1}]
    reply = await table.poll(wait_ms=0, running=listed)
    assert [(entry.task_id, entry.lease_remaining_ms) for entry in reply.held] == [("t1", 10_000), ("t2", 4000)]
    assert [entry.task_id for entry in reply.lost] == ["t3"]
    table.clock.advance(6)
    assert (table.status("t1"), table.status("t2")) == ("running", "scheduled")


@pytest.mark.parametrize(("policy", "status"), [("block", "blocked"), ("cancel", "cancelled"), ("run", "pending")])
@async_test
async def test_dependents_follow_their_policy(policy: str, status: str) -> None:
    table = await Table().seated()
    await table.client.tasks.create(task_id="t1")
    await table.client.tasks.create(task_id="t2", depends_on=["t1"], on_dependency_failure=policy)
    assert table.status("t2") == "blocked"
    await table.claim()
    await table.client.tasks.fail("t1", agent_id="a1", attempt=1, retryable=False)
    assert table.status("t2") == status


@async_test
async def test_a_unique_key_is_held_until_its_task_has_ended() -> None:
    table = await Table().seated()
    first = await table.client.tasks.create(unique_key="k", title="x")
    assert (await table.client.tasks.create(unique_key="k", title="y")).task_id == first.task_id
    await table.client.tasks.cancel(first.task_id)
    assert (await table.client.tasks.create(unique_key="k", title="y")).task_id != first.task_id


@async_test
async def test_a_cancelled_task_keeps_its_slot_until_it_is_confirmed() -> None:
    table = await Table().seated()
    await table.client.tasks.create(task_id="t1")
    await table.claim()
    await table.client.tasks.cancel("t1")
    assert (await table.client.agents.get("a1")).free_slots == 0
    reply = await table.poll()
    assert [(entry.task_id, entry.attempt) for entry in reply.cancel] == [("t1", 1)]
    await table.client.tasks.release("t1", agent_id="a1", attempt=1)
    assert (await table.client.agents.get("a1")).free_slots == 1


@async_test
async def test_a_fence_header_lets_nothing_old_through() -> None:
    table = await Table().seated()
    await table.client.tasks.create(task_id="t1")
    await table.client.sessions.create(session_id="s1")
    await table.claim()
    await table.client.sessions.append("s1", type="custom.a", fence="task/t1/1")
    await table.client.tasks.release("t1", agent_id="a1", attempt=1)
    await raised(table.client.sessions.append("s1", type="custom.b", fence="task/t1/1"), StaleAttempt)
    assert (await table.client.sessions.get("s1")).last_seq == 1


@async_test
async def test_bad_input_is_refused_naming_the_field_and_changes_nothing() -> None:
    table = await Table().seated()
    before = table.fake.world.revision
    bad: list[tuple[dict[str, Any], str]] = [
        ({"colour": "red"}, "colour"),
        ({"priority": 10}, "priority"),
        ({"title": ""}, "title"),
        ({"delay_ms": -1}, "delay_ms"),
        ({"not_before": "tomorrow"}, "not_before"),
        ({"depends_on": ["nowhere"]}, "depends_on[0]"),
        ({"max_attempts": 0}, "max_attempts"),
    ]
    for body, path in bad:
        error = await raised(table.client.tasks.create(**body), InvalidRequest)
        assert error.errors[0]["path"] == path
    assert table.fake.world.revision == before


@async_test
async def test_two_writes_under_one_key_at_the_same_time_are_one() -> None:
    table = await Table().seated()
    await table.client.tasks.create(task_id="t1")
    body: dict[str, Any] = {"agent_id": "a1", "epoch": table.epoch, "wait_ms": 5000, "idempotency_key": "k"}
    calls = [asyncio.create_task(table.client.tasks.claim(**body)) for _ in range(2)]
    grants = [(await call).items for call in calls]
    assert [[grant.attempt for grant in page] for page in grants] == [[1], [1]]
    assert table.fake.task("t1").attempt == 1


@async_test
async def test_waiting_for_work_ends_when_work_comes() -> None:
    table = await Table().seated()
    waiting = asyncio.create_task(table.client.tasks.claim(agent_id="a1", epoch=table.epoch, wait_ms=5000))
    await until(lambda: table.clock.sleepers)
    await table.client.tasks.create(task_id="t1")
    assert [grant.task_id for grant in (await waiting).items] == ["t1"]


@async_test
async def test_the_clock_wakes_sleepers_in_the_order_of_their_times() -> None:
    clock, woken = ManualClock(0), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    sleepers = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2, 9)]
    await settled()
    clock.advance(3)
    await settled()
    assert (woken, clock.monotonic(), clock.sleepers) == ([1, 2, 3], 3, 1)
    sleepers[3].cancel()
