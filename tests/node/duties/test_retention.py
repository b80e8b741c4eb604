"""The leader's sweep: what it proposes, what it passes over, and when it comes again."""

from __future__ import annotations

import asyncio

from node.duties.clock import settle
from node.duties.retention import KEPT_PAUSE_MS, Retention
from node.duties.settings import DutySettings
from statemachine import machine, task_queries, task_record
from statemachine.commands import AppendEvents, CancelTask, CreateSession, NewEvent, UpdateSession
from tests.node.duties.fleet import FleetTest, fleet

SETTINGS = DutySettings(
    ended_tasks_kept_ms=10_000, ended_sessions_kept_ms=10_000, retention_interval_ms=1_000, removed_per_batch=4
)


def left(t: FleetTest) -> list[str]:
    with t.replica.view() as view:
        found = [task_record.get(view, ended.project_no, ended.number) for _, ended in task_queries.ended(view)]
    return [task.task_id for task in found if task is not None]


def cancel(t: FleetTest, *task_ids: str) -> None:
    for task_id in task_ids:
        t.do(CancelTask(task_id))


def test_a_sweep_removes_what_is_old_in_small_batches() -> None:
    async def scenario() -> None:
        async with fleet(SETTINGS) as t:
            names = [f"t{number:02}" for number in range(11)]
            t.submit(*names, "young")
            cancel(t, *names)
            await t.clock.advance(5)
            cancel(t, "young")
            await t.clock.advance(4)
            assert len(left(t)) == 12
            await t.clock.advance(2)
            assert left(t) == ["young"]
            await t.clock.advance(6)
            assert left(t) == []
            with t.replica.view() as view:
                assert machine.read_meta(view).tasks_ended == 0

    asyncio.run(scenario())


def test_what_must_stay_is_passed_over_and_makes_the_next_sweep_later() -> None:
    async def scenario() -> None:
        async with fleet(SETTINGS) as t:
            names = [f"x{number}" for number in range(6)]
            t.submit(*names)
            t.submit("late", depends_on=tuple(names), on_dependency_failure="block")
            t.submit("free")
            cancel(t, *names, "free")
            sweep = Retention(SETTINGS)
            now_ms = t.replica.now_ms() + 20_000
            with t.replica.view() as view:
                first, second = sweep.next(view, now_ms), sweep.next(view, now_ms)
            assert (first.frames, first.again_ms) == ([], None)
            assert len(second.frames) == 1
            assert second.again_ms == 1_000 + 6 * KEPT_PAUSE_MS
            await t.clock.advance(20)
            assert left(t) == names
            cancel(t, "late")
            await t.clock.advance(20)
            assert left(t) == []

    asyncio.run(scenario())


def test_long_sessions_go_one_after_the_other() -> None:
    async def scenario() -> None:
        async with fleet(SETTINGS) as t:
            for number in range(3):
                t.do(CreateSession(f"s{number}"))
                events = tuple(NewEvent(f"{number}-{position}", "custom.x") for position in range(300))
                t.do(AppendEvents(f"s{number}", events))
                t.do(UpdateSession(f"s{number}", ("status",), status="completed"))
            await t.clock.advance(12)
            await settle()
            assert [key for key, _ in t.replica.store.scan(b"J", b"K")] == []
            assert [key for key, _ in t.replica.store.scan(b"E", b"F")] == []

    asyncio.run(scenario())


def test_with_zeros_everything_is_kept() -> None:
    async def scenario() -> None:
        forever = DutySettings(ended_tasks_kept_ms=0, ended_tasks_kept_max=0, retention_interval_ms=1_000)
        async with fleet(forever) as t:
            t.submit("t1")
            cancel(t, "t1")
            await t.clock.advance(3_600)
            assert left(t) == ["t1"]

    asyncio.run(scenario())
