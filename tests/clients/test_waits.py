"""Tasks that wait: through the client, the fake, and a worker's handlers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hive_client import Conflict, InvalidRequest, StaleAttempt, SyncTaskContext, TaskContext, Wait

from tests.clients.running import async_test, raised, settled, until
from tests.clients.test_fake import Table
from tests.clients.test_worker import Bench


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="hive_client.worker")


async def comes_to(bench: Bench, status: str, task_id: str = "t1") -> None:
    """Let time pass until the task has that status, and the worker's slot is free."""
    while bench.status(task_id) != status or bench.worker.active:
        await bench.advance(0.1, 0.1)


@async_test
async def test_a_task_is_parked_found_answered_and_given_out_again() -> None:
    table = await Table().seated()
    await table.client.tasks.create(task_id="t1")
    await table.claim()
    parked = await table.client.tasks.park(
        "t1",
        agent_id="a1",
        attempt=1,
        wait_for={"kind": "approval", "name": "plan", "prompt": "Go?", "options": ["yes", "no"], "assignee": "ann"},
        checkpoint={"step": 2},
    )
    assert (parked.status, parked.tries, parked.agent_id) == ("waiting", 0, None)
    assert parked.waiting is not None
    assert (parked.waiting.name, parked.waiting.options, parked.waiting.agent_id) == ("plan", ["yes", "no"], "a1")
    assert (await table.client.agents.get("a1")).free_slots == 1
    for wanted in ("approval", "plan"):
        assert [task.task_id for task in (await table.client.tasks.list(waiting_for=wanted)).items] == ["t1"]
    assert (await table.client.tasks.list(waiting_for="event")).items == []
    assert (await table.client.tasks.explain("t1")).reasons[0].code == "waiting"
    await raised(table.client.tasks.complete("t1", agent_id="a1", attempt=1), StaleAttempt)
    table.clock.advance(3600)
    assert table.status() == "waiting"

    assert (await table.client.tasks.resume("t1", "plan", data={"ok": True}, actor="ann")).status == "pending"
    assert (await table.client.tasks.resume("t1", "plan", data={"ok": True}, actor="ann")).status == "pending"
    await raised(table.client.tasks.resume("t1", "plan", data=False, actor="bob"), Conflict)
    grant = await table.claim()
    assert grant.resume is not None
    assert (grant.attempt, grant.tries, grant.checkpoint) == (2, 1, {"step": 2})
    assert (grant.resume.name, grant.resume.data, grant.resume.actor) == ("plan", {"ok": True}, "ann")
    assert [answer.name for answer in grant.resumes] == ["plan"]


@async_test
async def test_an_answer_may_come_first_and_time_may_answer() -> None:
    table = await Table().seated()
    await table.client.tasks.create(task_id="t1")
    await raised(table.client.tasks.resume("t1"), Conflict)
    await table.client.tasks.resume("t1", "push", data=1)
    await table.claim()
    batch = await table.client.tasks.park_batch(
        "a1", [{"task_id": "t1", "attempt": 1, "for": {"kind": "event", "name": "push"}}, {"task_id": "none"}]
    )
    assert [item.status for item in batch.items] == [200, 404]
    assert table.status() == "pending"
    await table.claim()
    error = await raised(
        table.client.tasks.park("t1", agent_id="a1", attempt=2, wait_for={"kind": "time"}), InvalidRequest
    )
    assert error.errors[0]["path"] == "timeout_ms"
    await table.client.tasks.park("t1", agent_id="a1", attempt=2, wait_for={"kind": "time"}, timeout_ms=5_000)
    table.clock.advance(4.9)
    assert table.status() == "waiting"
    table.clock.advance(0.1)
    assert table.status() == "pending"
    grant = await table.claim()
    assert grant.resume is not None
    assert grant.resume.timed_out
    await table.client.tasks.park(
        "t1", agent_id="a1", attempt=3, wait_for={"kind": "event"}, timeout_ms=1_000, on_timeout="fail"
    )
    table.clock.advance(1)
    task = table.fake.task("t1")
    assert task.failure is not None
    assert (task.status, task.failure.reason) == ("failed", "timeout")


@async_test
async def test_failed_tasks_are_redriven_by_filter() -> None:
    table = await Table().seated()
    for number, queue in enumerate(("q", "q", "r")):
        await table.client.tasks.create(task_id=f"t{number}", queue=queue)
        await table.claim(f"t{number}")
        await table.client.tasks.fail(f"t{number}", agent_id="a1", attempt=1, retryable=False)
    assert (await table.client.tasks.retry_many(queue="none", limit=10)).retried == 0
    done = await table.client.tasks.retry_many(queue="q", reason="error", limit=1)
    assert (done.retried, done.more) == (1, False)
    assert [table.status(f"t{number}") for number in range(3)] == ["pending", "failed", "failed"]
    assert (await table.client.tasks.retry_many(limit=10)).retried == 2


@async_test
async def test_a_handler_waits_twice_and_begins_anew_each_time() -> None:
    begun: list[Any] = []

    async def handler(context: TaskContext) -> Any:
        begun.append(context.checkpoint)
        try:
            plan = await context.wait_for_approval("plan", prompt="This plan?", checkpoint="planned")
            push = await context.wait_for_event("push", timeout_s=60)
        except Exception:  # noqa: BLE001 - what a careless handler does: a wait must get through it
            return "swallowed"
        return [plan.data, push.data, push.timed_out, sorted(context.answers)]

    async with Bench().at_work(handler) as bench:
        await bench.client.tasks.create(task_id="t1", max_attempts=1)
        await comes_to(bench, "waiting")
        waiting = bench.fake.task("t1").waiting
        assert waiting is not None
        assert (waiting.kind, waiting.name, waiting.prompt) == ("approval", "plan", "This plan?")
        await bench.client.tasks.resume("t1", "plan", data="yes")
        await comes_to(bench, "waiting")
        assert bench.fake.task("t1").attempt == 2
        await comes_to(bench, "completed")
        assert bench.fake.task("t1").result == ["yes", None, True, ["plan", "push"]]
        assert begun == [None, "planned", "planned"]
        assert bench.count("wait") == 2


@async_test
async def test_a_thread_waits_and_so_does_a_task_group() -> None:
    def plain(context: SyncTaskContext) -> Any:
        if context.task.task_id == "time":
            return context.wait_for_time(30, "pause").timed_out
        return context.wait_for_approval(options=["a", "b"]).data

    async with Bench().at_work(plain) as bench:
        await bench.client.tasks.create(task_id="t1")
        await comes_to(bench, "waiting")
        await bench.client.tasks.resume("t1", data="b")
        await comes_to(bench, "completed")
        assert bench.fake.task("t1").result == "b"
        await bench.client.tasks.create(task_id="time")
        await comes_to(bench, "waiting", "time")
        await comes_to(bench, "completed", "time")

    async def grouped(context: TaskContext) -> Any:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(context.wait_for("event", "x"))
        return waiting.result().data

    async with Bench().at_work(grouped) as bench:
        await bench.client.tasks.create(task_id="t1")
        await comes_to(bench, "waiting")
        await bench.client.tasks.resume("t1", "x", data=1)
        await comes_to(bench, "completed")


@async_test
async def test_a_wait_that_cannot_be_said_or_is_refused_fails_the_task() -> None:
    async def handler(context: TaskContext) -> Any:
        if context.task.task_id == "t1":
            raise Wait("approval", checkpoint=object())
        raise Wait("mood")

    async with Bench().at_work(handler) as bench:
        for task_id in ("t1", "t2"):
            await bench.client.tasks.create(task_id=task_id)
            await comes_to(bench, "failed", task_id)
        failures = [bench.fake.task(task_id).failure for task_id in ("t1", "t2")]
        assert failures[0] is not None
        assert failures[1] is not None
        assert "not JSON" in failures[0].message
        assert "was refused" in failures[1].message


@async_test
async def test_what_was_said_last_goes_with_what_is_handed_back() -> None:
    notes: list[str | None] = []
    hold = asyncio.Event()

    async def handler(context: TaskContext) -> Any:
        notes.append(context.note)
        await context.progress(0.5, "tests are red", checkpoint={"done": 1})
        await hold.wait()

    async with Bench(drain_timeout_s=1.0).at_work(handler) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: bench.fake.task("t1").progress is not None)
        await settled()
        bench.worker.drain()
        await comes_to(bench, "pending")
        task = bench.fake.task("t1")
        assert task.progress is not None
        assert (task.progress.message, task.progress.checkpoint) == ("tests are red", {"done": 1})
        assert notes == [None]
