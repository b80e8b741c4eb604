"""The worker against the fake: it does the work once, and stops when the work is no longer its own."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hive_client import (
    Completion,
    NonRetryable,
    RateLimited,
    Reject,
    StaleAttempt,
    Stop,
    SyncTaskContext,
    TaskContext,
    Worker,
)
from hive_client.errors import InvalidRequest, UnknownProject
from hive_client.testing import FakeHive, ManualClock
from hive_client.wire import Reply

from tests.clients.running import async_test, raised, settled, until

Handler = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="hive_client.worker")


class Bench:
    """One fake, one clock for both sides, one worker."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.fake = FakeHive(self.clock)
        self.client = self.fake.client()
        self.worker = Worker(self.client, agent_id="a1", handle_signals=False, **options)
        self.running: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def at_work(self, handler: Handler) -> AsyncIterator[Bench]:
        self.worker.default(handler)
        self.running = asyncio.create_task(self.worker.run())
        await until(self.worker.registered.is_set)
        try:
            yield self
        finally:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)

    async def advance(self, seconds: float, step: float = 1.0) -> None:
        """Time passes evenly, with everybody getting their turns."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            await settled()

    def status(self, task_id: str = "t1") -> str:
        return self.fake.task(task_id).status

    def count(self, verb: str) -> int:
        return sum(seen.path.endswith(f"/{verb}") for seen in self.fake.requests)


class Held:
    """An async handler that works until it is let go, and notes how it ended."""

    def __init__(self, result: Any = "done") -> None:
        self.contexts: list[TaskContext] = []
        self.go = asyncio.Event()
        self.cancelled = 0
        self._result = result

    async def __call__(self, context: TaskContext) -> Any:
        self.contexts.append(context)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self._result


@async_test
async def test_a_task_is_done_with_its_result_its_usage_and_its_follow_ups() -> None:
    async def handler(context: TaskContext) -> Any:
        if context.task.task_id != "t1":
            return context.dependencies["t1"].result
        await context.session_append("custom.step", {"n": context.payload["n"]})
        usage = {"input_tokens": 5}
        follow_up = {"task_id": "t2", "depends_on": ["t1"]}
        return Completion({"n": 2}, usage=usage, tasks=[follow_up], events=[{"type": "custom.end"}])

    async with Bench().at_work(handler) as bench:
        await bench.client.sessions.create(session_id="s1")
        await bench.client.tasks.create(task_id="t1", session_id="s1", payload={"n": 1})
        await until(lambda: len(bench.fake.tasks()) == 2 and bench.status("t2") == "completed")
        assert bench.fake.task("t2").result == {"n": 2}
        task = bench.fake.task("t1")
        assert task.usage is not None
        assert (task.usage.input_tokens, task.attempt, task.tries) == (5, 1, 1)
        events = [e async for e in bench.client.sessions.iterate_events("s1")]
        assert [(e.type, e.actor, e.correlation_id) for e in events] == [
            ("custom.step", "a1", "t1"),
            ("custom.end", None, None),
        ]


@async_test
async def test_handlers_are_chosen_by_type_and_what_nobody_handles_is_declined() -> None:
    bench = Bench(max_concurrent=3)

    @bench.worker.task("outline")
    async def outline(context: TaskContext) -> str:
        return "outlined"

    running = asyncio.create_task(bench.worker.run())
    await bench.client.tasks.create_batch([{"task_id": "t1", "type": "outline"}, {"task_id": "t2", "type": "lint"}])
    await until(lambda: bench.status("t1") == "completed" and bench.count("release") >= 1)
    assert bench.fake.task("t1").result == "outlined"
    assert (bench.status("t2"), bench.fake.task("t2").tries) == ("pending", 0)
    bench.worker.drain()
    await running
    with pytest.raises(ValueError, match="handler for 'outline'"):
        bench.worker.task("outline")(outline)
    await raised(Worker(bench.client, handle_signals=False).run(), ValueError)


FAILURES: list[tuple[Exception, str, str, str]] = [
    (ValueError("bad"), "scheduled", "error", "ValueError: bad"),
    (NonRetryable("never"), "failed", "error", "never"),
    (Reject("not mine"), "pending or scheduled", "rejected", "not mine"),
    (RateLimited("429"), "pending or scheduled", "rate_limited", "429"),
]


@pytest.mark.parametrize(
    ("error", "status", "reason", "text"), FAILURES, ids=["error", "non_retryable", "reject", "limit"]
)
@async_test
async def test_what_a_handler_raises_decides_whether_it_is_tried_again(
    error: Exception, status: str, reason: str, text: str
) -> None:
    async def handler(context: TaskContext) -> None:
        raise error

    async with Bench().at_work(handler) as bench:
        await bench.client.tasks.create(task_id="t1", max_attempts=2)
        await until(lambda: bench.fake.task("t1").failure is not None)
        task = bench.fake.task("t1")
        assert task.failure is not None
        assert (task.failure.reason, task.failure.message) == (reason, text)
        assert task.status in status
        await bench.advance(5)
        assert bench.status() == "failed"
        assert bench.fake.task("t1").tries == (1 if status == "failed" else 2)


@async_test
async def test_a_result_that_is_not_json_or_is_refused_fails_the_task_for_good() -> None:
    async def handler(context: TaskContext) -> Any:
        return object() if context.task.task_id == "t1" else "too much"

    async with Bench(max_concurrent=2).at_work(handler) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: bench.status("t1") == "failed")
        bench.fake.faults.refuse("too_large", "/complete", limit_name="result_bytes_max", limit_bytes=262144)
        await bench.client.tasks.create(task_id="t2")
        await until(lambda: bench.status("t2") == "failed")
        bench.fake.faults.refuse("not_found", "/complete")  # an event for a session that does not exist, say
        await bench.client.tasks.create(task_id="t3")
        await until(lambda: bench.status("t3") == "failed")
        failures = [bench.fake.task(name).failure for name in ("t1", "t2")]
        assert failures[0] is not None
        assert failures[1] is not None
        assert "not JSON" in failures[0].message
        assert "too_large" in failures[1].message


@async_test
async def test_no_more_than_max_concurrent_run_at_once() -> None:
    held = Held()
    async with Bench(max_concurrent=3).at_work(held) as bench:
        await bench.client.tasks.create_batch([{"task_id": f"t{n}"} for n in range(8)])
        await until(lambda: len(held.contexts) == 3)
        await settled()
        assert (len(held.contexts), bench.worker.active) == (3, 3)
        held.go.set()
        await until(lambda: all(task.status == "completed" for task in bench.fake.tasks()))
        assert [task.attempt for task in bench.fake.tasks()] == [1] * 8


@async_test
async def test_long_work_keeps_its_lease_through_heartbeats() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1", lease_ms=3000)
        await until(lambda: held.contexts)
        await bench.advance(30, step=0.5)
        assert (bench.status(), bench.fake.task("t1").attempt) == ("running", 1)
        held.go.set()
        await until(lambda: bench.status() == "completed")


@async_test
async def test_a_lost_answer_to_complete_is_asked_for_again_under_the_same_key() -> None:
    async def handler(context: TaskContext) -> str:
        return "once"

    async with Bench().at_work(handler) as bench:
        # Longer than one call lasts, so that the worker itself must ask again.
        bench.fake.faults.lose_reply("/complete", times=60)
        bench.fake.faults.lose_reply("/accept")
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: bench.status() == "running")
        while bench.worker.active:
            await bench.advance(0.5, step=0.5)
        assert bench.status() == "completed"
        keys = [seen.key for seen in bench.fake.requests if seen.path.endswith("/complete")]
        assert (len(keys), len(set(keys))) == (61, 1)
        revisions = [c["type"] for m in bench.fake.world.messages for c in m["changes"]]
        assert revisions.count("task.completed") == revisions.count("task.started") == 1


@async_test
async def test_a_cancelled_task_is_stopped_at_once_and_confirmed() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        await bench.client.tasks.cancel("t1")
        await until(lambda: bench.worker.active == 0)
        assert (held.cancelled, held.contexts[0].stop_reason) == (1, Stop.CANCELLED)
        assert held.contexts[0].cancelled.is_set()
        assert (bench.count("release"), bench.count("complete")) == (1, 0)
        agent = await bench.client.agents.get("a1")
        assert agent.free_slots == 1
        await raised(held.contexts[0].progress(0.5), StaleAttempt)
        await raised(held.contexts[0].session_append("custom.step", session_id="s1"), StaleAttempt)
        assert (bench.count("progress"), bench.count("events")) == (0, 0), "it is not even sent"


@async_test
async def test_a_fenced_off_attempt_is_stopped_at_once_and_says_nothing_more() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        # Somebody ends the attempt behind the worker's back.
        await bench.client.tasks.fail("t1", agent_id="a1", attempt=1, retryable=False)
        await bench.advance(6)
        assert (held.cancelled, held.contexts[0].stop_reason) == (1, Stop.LOST)
        assert (bench.count("complete"), bench.count("release")) == (0, 0)


@async_test
async def test_a_handler_that_reports_progress_when_fenced_is_stopped() -> None:
    errors: list[BaseException] = []
    go = asyncio.Event()

    async def handler(context: TaskContext) -> str:
        await go.wait()
        errors.append(await raised(context.progress(0.5, checkpoint={"at": 1}), StaleAttempt))
        await asyncio.Event().wait()
        return "never"

    async with Bench().at_work(handler) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: bench.status() == "running")
        bench.fake.exchange = _late(bench.fake, "/heartbeat", asyncio.Event())  # type: ignore[method-assign]  # a slow line, for one route
        await bench.advance(6)  # from here on no heartbeat says anything
        await bench.client.tasks.fail("t1", agent_id="a1", attempt=1, retryable=False)
        go.set()
        await until(lambda: errors and bench.worker.active == 0)
        assert bench.count("complete") == 0


@async_test
async def test_without_contact_the_handler_is_stopped_before_the_lease_is_over() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1", lease_ms=20_000)
        await until(lambda: held.contexts)
        last_sent = bench.clock.monotonic()
        bench.fake.faults.down = True
        while not held.cancelled:
            await bench.advance(0.5, step=0.5)
            assert bench.clock.monotonic() < last_sent + 20.0, "the server may have given the task away by now"
        # A fifth of the lease, at most two seconds, is the margin.
        assert bench.clock.monotonic() >= last_sent + 17.5
        assert held.contexts[0].stop_reason is Stop.LEASE_RUN_OUT
        bench.fake.faults.down = False
        held.go.set()
        await settled()
        assert bench.count("complete") == 0


@async_test
async def test_a_finished_result_is_not_sent_after_the_lease_ran_out() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1", lease_ms=5000)
        await until(lambda: held.contexts)
        bench.fake.faults.down = True
        held.go.set()  # the report begins, and nobody answers
        await bench.advance(6, step=0.25)
        bench.fake.faults.down = False
        await bench.advance(3, step=0.25)
        assert bench.count("complete") == 1, "only the next attempt's result is sent"
        assert bench.fake.task("t1").attempt == 2


@async_test
async def test_an_operators_drain_lets_work_finish_brings_none_and_can_be_lifted() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        await bench.client.agents.drain("a1")
        await until(lambda: not bench.worker.wants_offers())
        held.go.set()
        await until(lambda: bench.status() == "completed")
        await bench.client.tasks.create(task_id="t2")
        await bench.advance(10)
        assert bench.status("t2") == "pending"
        assert not (bench.running is None or bench.running.done())
        held.go.clear()
        await bench.client.agents.undrain("a1")
        await bench.advance(5)
        assert bench.status("t2") == "running", "the first heartbeat that hears of it polls again"
        await bench.advance(55)
        task = bench.fake.task("t2")
        assert (task.status, task.attempt) == ("running", 1), "the drain's own time limit is void with it"
        held.go.set()
        await until(lambda: bench.status("t2") == "completed")


@async_test
async def test_an_operators_drain_hands_back_with_the_checkpoint_what_takes_too_long() -> None:
    held = Held()
    async with Bench(drain_timeout_s=20, exit_when_drained=True).at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        bench.fake.faults.refuse("invalid_request", "/progress")  # the server does not have it, the worker does
        await raised(held.contexts[0].progress(0.4, checkpoint={"line": 40}), InvalidRequest)
        await bench.client.agents.drain("a1")
        await until(lambda: not bench.worker.wants_offers())
        await bench.advance(19)
        assert bench.status() == "running"
        await bench.advance(2)
        task = bench.fake.task("t1")
        assert (task.status, held.contexts[0].stop_reason) == ("pending", Stop.DRAINED)
        assert task.progress is not None
        assert task.progress.checkpoint == {"line": 40}
        assert bench.running is not None
        await bench.running


@async_test
async def test_stopping_finishes_what_runs_and_takes_nothing_new() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        bench.worker.drain()
        await bench.client.tasks.create(task_id="t2")
        await bench.advance(10)
        held.go.set()
        assert bench.running is not None
        await bench.running
        assert (bench.status("t1"), bench.status("t2")) == ("completed", "pending")


@async_test
async def test_asked_twice_to_stop_it_hands_back_at_once() -> None:
    held = Held()
    async with Bench(drain_timeout_s=3600).at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        bench.worker.drain()
        await settled()
        assert bench.status() == "running"
        bench.worker.drain()
        assert bench.running is not None
        await bench.running
        assert (bench.status(), held.cancelled) == ("pending", 1)


@async_test
async def test_sigterm_drains() -> None:
    held = Held()
    bench = Bench()
    bench.worker._handle_signals = True
    async with bench.at_work(held):
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: not bench.worker.wants_offers())
        held.go.set()
        assert bench.running is not None
        await bench.running
        assert bench.status() == "completed"


@async_test
async def test_an_agent_that_is_unknown_registers_again_and_goes_on() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        first = bench.worker.epoch
        bench.fake.forget_agent("a1")
        await until(lambda: bench.count("agents") == 2)
        await bench.client.tasks.create(task_id="t1")
        held.go.set()
        await until(lambda: bench.status() == "completed")
        assert bench.worker.epoch == first, "a new entry begins with the first epoch again"


@async_test
async def test_an_agent_whose_epoch_is_stale_drops_its_work_and_takes_its_id_back() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1", backoff={"initial_ms": 60_000})
        await until(lambda: held.contexts)
        await bench.client.agents.register("a1", instance_id="another process")
        await until(lambda: bench.worker.epoch == 3 and held.cancelled)
        assert (held.cancelled, held.contexts[0].stop_reason) == (1, Stop.LOST)
        assert bench.count("complete") == 0


@async_test
async def test_work_stops_before_the_id_is_taken_back_and_not_after() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.agents.register("a1", instance_id="a first thief")
        await until(lambda: bench.worker.epoch == 3)
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        await bench.client.agents.register("a1", instance_id="a second thief")
        await until(lambda: held.cancelled)
        assert bench.worker.epoch == 3, "the second time it waits before it registers again"


@async_test
async def test_two_processes_with_one_id_do_not_fight_without_pause() -> None:
    async with Bench().at_work(Held()) as bench:
        for thief in range(4):
            await bench.client.agents.register("a1", instance_id=f"thief {thief}")
            await settled()
        epoch = bench.worker.epoch
        await settled()
        assert bench.worker.epoch == epoch, "after the first times it waits"
        await bench.advance(10)
        assert bench.worker.epoch > epoch


@async_test
async def test_it_waits_for_a_cluster_that_is_not_up_yet_but_not_for_a_project_that_does_not_exist() -> None:
    bench = Bench()
    bench.fake.faults.down = True
    bench.worker.default(Held())
    running = asyncio.create_task(bench.worker.run())
    await bench.advance(60)
    assert not bench.worker.registered.is_set()
    bench.fake.faults.down = False
    await bench.advance(10)
    assert bench.worker.registered.is_set()
    bench.worker.drain()
    await running
    elsewhere = Worker(bench.client.in_project("nowhere"), handle_signals=False)
    elsewhere.default(Held())
    await raised(elsewhere.run(), UnknownProject)
    bench.fake.faults.refuse("invalid_request", "/api/agents")
    invalid = Worker(bench.client, handle_signals=False)
    invalid.default(Held())
    await raised(invalid.run(), InvalidRequest)


@async_test
async def test_an_offer_that_repeats_while_it_is_being_accepted_is_taken_once_and_without_spinning() -> None:
    held = Held()
    async with Bench(max_concurrent=2).at_work(held) as bench:
        bench.fake.faults.refuse("overloaded", "/accept", retry_after_ms=5000)
        await bench.client.tasks.create(task_id="t1")
        await bench.advance(0.9, step=0.1)
        assert bench.count("heartbeat") == 1, "it gives the accept a moment first"
        await bench.advance(0.2, step=0.1)
        before = bench.count("heartbeat")
        assert before > 1
        await settled(1000)
        assert bench.count("heartbeat") == before
        await bench.advance(6, step=0.1)
        assert (len(held.contexts), bench.count("accept"), bench.worker.active) == (1, 2, 1)


@async_test
async def test_an_offer_that_comes_while_draining_is_declined() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        # The answer with the offer is under way when the drain begins, so only its repetition is seen.
        bench.fake.exchange = _late(bench.fake, "/heartbeat", asyncio.Event(), times=1)  # type: ignore[method-assign]  # a slow line, for one route
        await bench.client.tasks.create(task_id="t0")
        await until(lambda: bench.status("t0") == "assigned")
        await bench.client.agents.drain("a1")
        bench.worker._heed_drain(True)
        bench.worker._pulse.kick()
        await bench.advance(6)
        assert (len(held.contexts), bench.count("accept"), bench.count("release")) == (0, 0, 1)


@async_test
async def test_answers_that_come_at_once_do_not_make_it_spin() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        await bench.client.agents.drain("a1")  # every answer comes at once from now on
        await settled()
        before = bench.count("heartbeat")
        await settled(1000)
        assert bench.count("heartbeat") <= before + 1


@async_test
async def test_a_lease_shorter_than_the_open_poll_is_renewed_although_the_poll_does_not_list_it() -> None:
    held = Held()
    async with Bench(max_concurrent=2).at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        answered = asyncio.Event()
        bench.fake.exchange = _late(bench.fake, "/t2/accept", answered)  # type: ignore[method-assign]  # a slow line, for one route
        await bench.client.tasks.create(task_id="t2", lease_ms=4000)
        await bench.advance(1.5, step=0.1)
        answered.set()
        await bench.advance(20, step=0.1)
        assert (bench.status("t2"), bench.fake.task("t2").attempt) == ("running", 1)


def _late(fake: FakeHive, path_end: str, answered: asyncio.Event, times: int = 1000) -> Callable[..., Any]:
    """The fake's exchange, but the first answers for one path are held up on their way back."""
    exchange = fake.exchange
    left = [times]

    async def slow(method: str, target: str, headers: Any, body: bytes | None) -> Reply:
        reply = await exchange(method, target, headers, body)
        if target.endswith(path_end) and left[0] > 0:
            left[0] -= 1
            await answered.wait()
        return reply

    return slow


@async_test
async def test_a_plain_function_works_in_a_thread_with_the_same_context() -> None:
    threads: list[str] = []

    def handler(context: SyncTaskContext) -> Any:
        threads.append(threading.current_thread().name)
        context.progress(0.5, "half", checkpoint={"n": 1})
        context.session_append("custom.step")
        return context.payload["n"] + 1

    async with Bench().at_work(handler) as bench:
        await bench.client.sessions.create(session_id="s1")
        await bench.client.tasks.create(task_id="t1", session_id="s1", payload={"n": 1})
        await until(lambda: bench.status() == "completed")
        task = bench.fake.task("t1")
        assert task.progress is not None
        assert (task.result, task.progress.fraction, task.progress.checkpoint) == (2, 0.5, {"n": 1})
        assert threads[0].startswith("hive-a1")


@async_test
async def test_a_thread_is_told_to_stop_keeps_its_slot_until_it_does_and_its_result_is_not_sent() -> None:
    started, release = threading.Event(), threading.Event()
    seen: list[Any] = []

    def handler(context: SyncTaskContext) -> str:
        started.set()
        told = context.cancelled.wait(30)
        seen.append((told, context.stop_reason))
        release.wait(30)
        return "too late"

    async with Bench().at_work(handler) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(started.is_set)
        await bench.client.tasks.cancel("t1")
        await until(lambda: seen)
        await settled()
        assert (seen, bench.worker.active, bench.count("release")) == ([(True, Stop.CANCELLED)], 1, 0)
        assert bench.worker.running() == [], "a stopped attempt's lease is not renewed"
        release.set()
        await until(lambda: bench.worker.active == 0)
        assert (bench.count("release"), bench.count("complete")) == (1, 0)


@async_test
async def test_a_thread_that_was_fenced_off_but_still_runs_leaves_no_room_for_another() -> None:
    started, release = threading.Event(), threading.Event()

    def handler(context: SyncTaskContext) -> str:
        started.set()
        release.wait(30)
        return "too late"

    async with Bench().at_work(handler) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(started.is_set)
        await bench.client.tasks.fail("t1", agent_id="a1", attempt=1, retryable=False)
        await bench.client.tasks.create(task_id="t2")
        await bench.advance(6)
        # The server counts the slot as free and offers; the worker knows better.
        assert (bench.worker.active, bench.count("accept")) == (1, 1)
        assert bench.count("release") >= 1
        release.set()
        await until(lambda: bench.worker.active == 0)
        await bench.advance(10)
        await until(lambda: bench.status("t2") == "completed")
        assert bench.status("t1") == "failed"


@async_test
async def test_the_next_attempt_gets_the_checkpoint_of_the_last() -> None:
    checkpoints: list[Any] = []

    async def handler(context: TaskContext) -> str:
        checkpoints.append(context.checkpoint)
        if context.checkpoint is None:
            await context.progress(checkpoint={"line": 7})
            raise ValueError("broken off")
        return "done"

    async with Bench().at_work(handler) as bench:
        await bench.client.tasks.create(task_id="t1")
        await bench.advance(3)
        await until(lambda: bench.status() == "completed")
        assert checkpoints == [None, {"line": 7}]


@async_test
async def test_an_agent_of_two_projects_keeps_tasks_of_one_id_apart() -> None:
    held = Held()
    async with Bench(max_concurrent=2, projects=["*"]).at_work(held) as bench:
        other = bench.client.in_project("p2")
        await bench.client.tasks.create(task_id="t1")
        await other.tasks.create(task_id="t1")
        await until(lambda: len(held.contexts) == 2)
        await other.tasks.cancel("t1")
        await until(lambda: held.cancelled == 1)
        stopped = [context.task.project for context in held.contexts if context.stop_reason is not None]
        assert stopped == ["p2"]
        held.go.set()
        await until(lambda: bench.status() == "completed")
        assert bench.fake.task("t1", "p2").status == "cancelled"


@async_test
async def test_progress_without_checkpoint_survives_a_lost_node_and_travels_with_the_heartbeat() -> None:
    held = Held()
    async with Bench().at_work(held) as bench:
        await bench.client.tasks.create(task_id="t1")
        await until(lambda: held.contexts)
        bench.fake.faults.refuse("overloaded", "/progress", times=1000)
        reporting = asyncio.create_task(held.contexts[0].progress(0.7, "nearly"))
        while not reporting.done():
            await bench.advance(5)
        await reporting
        await bench.advance(10)
        progress = bench.fake.task("t1").progress
        assert progress is not None
        assert (progress.fraction, progress.message) == (0.7, "nearly")
