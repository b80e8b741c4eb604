"""The leader and schedules: each due time once, over leader changes, outages, clock steps and changes on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from cluster.replica import NotCommittedError
from node.duties import schedules
from node.duties.clock import settle
from node.duties.duties import Duties
from node.duties.schedules import LOOK_MAX, runs
from node.recurrence import first_run_ms
from statemachine import limits, schedule_record, task_queries
from statemachine.commands import (
    CancelTask,
    CreateSchedule,
    Definition,
    DeleteSchedule,
    FireSchedule,
    NewTask,
    UpdateSchedule,
)
from statemachine.outcome import Outcome
from statemachine.schedule_record import Schedule
from tests.node.duties.fleet import FleetTest, fleet
from tests.node.harness import run

MINUTE, HOUR = 60_000, 3_600_000
MINUTELY = Definition(NewTask(""), cron="* * * * *", overlap="queue")
START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z, where a manual clock begins."""


def create(t: FleetTest, schedule_id: str = "s", definition: Definition = MINUTELY, **fields: Any) -> None:
    definition = msgspec.structs.replace(definition, **fields)
    t.do(CreateSchedule(schedule_id, definition, first_run_ms(definition, t.replica.now_ms())))


def schedule_of(t: FleetTest, schedule_id: str = "s") -> Schedule:
    with t.replica.view() as view:
        schedule = schedule_record.find(view, 1, schedule_id)
    assert schedule is not None
    return schedule


def made(t: FleetTest) -> list[str]:
    """All tasks, oldest first."""
    with t.replica.view() as view:
        wanted = task_queries.list_tasks(view, 1, task_queries.TaskFilter(), task_queries.Page(ascending=True))
        return [task.task_id for _, task in wanted if task is not None]


def expected(*minutes: int, schedule_id: str = "s") -> list[str]:
    return [f"{schedule_id}:{START_MS + minute * MINUTE}" for minute in minutes]


def test_it_fires_at_its_times_and_sleeps_between() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            create(t)
            await t.clock.advance(59.9)
            assert made(t) == []
            await t.clock.advance(0.2)
            assert made(t) == expected(1)
            revision = t.replica.revision
            await t.clock.advance(59.8)
            assert t.replica.revision == revision
            await t.clock.advance(0.2)
            assert made(t) == expected(1, 2)
            assert (schedule_of(t).runs, schedule_of(t).missed, schedule_of(t).skipped) == (2, 0, 0)

    run(scenario())


def test_an_earlier_one_wakes_the_sleeper() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            create(t, "late", cron="0 0 1 2 *")
            await settle()
            create(t, "soon", cron=None, every_ms=2_000)
            await t.clock.advance(2.1)
            assert made(t) == [f"soon:{START_MS + 2_000}"]
            t.do(
                UpdateSchedule(
                    "late", msgspec.structs.replace(MINUTELY, cron=None, every_ms=3_000), START_MS + 3_000, 1
                )
            )
            t.do(DeleteSchedule("soon"))
            await t.clock.advance(2)
            assert made(t)[1:] == [f"late:{START_MS + 3_000}"]

    run(scenario())


def test_a_new_leader_goes_on_where_the_old_one_was() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            create(t)
            for _ in range(6):
                await t.clock.advance(45)
                t.replica.follow()
                await t.clock.advance(5)
                t.replica.lead()
                await settle()
            assert made(t) == expected(1, 2, 3, 4, 5)
            assert schedule_of(t).missed == 0

    run(scenario())


def test_two_leaders_at_once_fire_once() -> None:
    """A deposed leader that has not noticed proposes as well: whatever the order, one of them is passed over."""

    async def scenario() -> None:
        async with fleet() as t:
            other = Duties(t.replica, t.clock, t.settings)
            create(t)
            await t.clock.advance(181)
            assert made(t) == expected(1, 2, 3)
            assert schedule_of(t).runs == 3
            other.close()

    run(scenario())


def test_many_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "FIRES_MAX", 3)

    async def scenario() -> None:
        async with fleet() as t:
            for number in range(10):
                create(t, f"s{number}")
            await t.clock.advance(60.1)
            assert made(t) == [name for number in range(10) for name in expected(1, schedule_id=f"s{number}")]

    run(scenario())


# --- outages ------------------------------------------------------------------------------------------------


async def outage(t: FleetTest, seconds: float) -> None:
    """Nobody leads, and the clocks go on."""
    t.replica.follow()
    await t.clock.advance(seconds)
    t.replica.lead()
    await settle()


@pytest.mark.parametrize(
    ("policy", "deadline_ms", "fired", "missed"),
    [
        ("skip", None, [180], 2),
        ("skip", 29_000, [], 3),
        ("run_once", None, [180], 2),
        ("run_all", None, [60, 120, 180], 0),
        ("run_all", 120_000, [120, 180], 1),
        ("run_all", 1_000, [], 3),
        ("run_once", 1_000, [], 3),
    ],
)
def test_runs_that_were_missed(policy: str, deadline_ms: int | None, fired: list[int], missed: int) -> None:
    """Down from 00:30 to 03:30 o'clock, in hours for minutes: due at 1:00, 2:00 and 3:00."""

    async def scenario() -> None:
        async with fleet() as t:
            create(t, missed_runs=policy, starting_deadline_ms=deadline_ms)
            await t.clock.advance(30)
            await outage(t, 180)
            assert made(t) == [f"s:{START_MS + second * 1_000}" for second in fired]
            schedule = schedule_of(t)
            assert (schedule.runs, schedule.missed, schedule.skipped) == (len(fired), missed, 0)
            assert schedule.next_run_at == START_MS + 240_000
            await t.clock.advance(31)
            assert schedule_of(t).runs == len(fired) + 1

    run(scenario())


@pytest.mark.parametrize(("policy", "count"), [("skip", 0), ("run_once", 1), ("run_all", 1)])
def test_a_nightly_run_during_a_long_outage(policy: str, count: int) -> None:
    async def scenario() -> None:
        async with fleet() as t:
            create(t, cron="0 2 * * *", missed_runs=policy)
            await t.clock.advance(HOUR / 1000)
            await outage(t, 9 * HOUR / 1000)
            schedule = schedule_of(t)
            assert (schedule.runs, schedule.missed) == (count, 1 - count)
            assert schedule.next_run_at == START_MS + 26 * HOUR

    run(scenario())


@pytest.mark.parametrize("definition", [MINUTELY, msgspec.structs.replace(MINUTELY, cron=None, every_ms=MINUTE)])
@pytest.mark.parametrize(("policy", "count"), [("run_once", 1), ("run_all", limits.SCHEDULE_MADE_UP_RUNS_MAX)])
def test_far_behind_the_latest_are_made_up_for(definition: Definition, policy: str, count: int) -> None:
    """Three days of minutes: more than one step looks at, and every single run is accounted for."""

    async def scenario() -> None:
        async with fleet() as t:
            create(t, definition=definition, missed_runs=policy)
            await outage(t, 3 * 24 * HOUR / 1000)
            await t.clock.advance(1)
            total = 3 * 24 * 60
            assert total > 4 * LOOK_MAX
            schedule = schedule_of(t)
            assert (schedule.runs, schedule.missed) == (count, total - count)
            assert made(t) == expected(*range(total - count + 1, total + 1))
            assert schedule.next_run_at == START_MS + (total + 1) * MINUTE

    run(scenario())


def test_many_far_behind_catch_up_in_entries_of_bounded_size() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            for number in range(12):
                create(t, f"s{number}", missed_runs="run_all", overlap="replace")
            propose = t.replica.propose
            sizes: list[int] = []

            async def measured(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
                sizes.append(len(frames))
                return await propose(frames, timeout_s, term)

            t.replica.propose = measured  # type: ignore[method-assign]  # to look at what passes
            await outage(t, 200 * MINUTE / 1000)
            await t.clock.advance(MINUTE / 1000)
            assert limits.SCHEDULE_MADE_UP_RUNS_MAX <= max(sizes) < 2 * limits.SCHEDULE_MADE_UP_RUNS_MAX
            assert {schedule_of(t, f"s{number}").runs for number in range(12)} == {101}
            assert {schedule_of(t, f"s{number}").missed for number in range(12)} == {100}

    run(scenario())


def test_a_schedule_that_ends() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            create(t, starts_at=START_MS + 90_000, ends_at=START_MS + 4 * MINUTE)
            await t.clock.advance(600)
            assert made(t) == expected(2, 3, 4)
            assert schedule_of(t).next_run_at is None

    run(scenario())


# --- the clock, and other people ------------------------------------------------------------------------------


def test_a_clock_that_is_set_forward_and_back() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            create(t)
            await t.clock.advance(61)
            wall_ms, offset = t.clock.now_ms, 0
            t.replica.now_ms = lambda: wall_ms() + offset
            offset = 2 * MINUTE
            await t.clock.advance(12)
            assert (schedule_of(t).runs, schedule_of(t).missed) == (2, 1)
            offset = 0
            # The cluster's time does not go back; what was due then is not due again.
            await t.clock.advance(100)
            assert made(t) == expected(1, 3)
            await t.clock.advance(70)
            assert made(t) == expected(1, 3, 4)

    run(scenario())


def test_an_entry_whose_time_is_behind_the_leaders_clock_is_tried_again() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            create(t)
            propose = t.replica.propose
            held_back: list[int] = []

            async def slow(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
                if not held_back:
                    now_ms = t.replica.now_ms
                    held_back.append(now_ms())
                    t.replica.now_ms = lambda: START_MS + MINUTE - 1
                    try:
                        return await propose(frames, timeout_s, term)
                    finally:
                        t.replica.now_ms = now_ms
                return await propose(frames, timeout_s, term)

            t.replica.propose = slow  # type: ignore[method-assign]  # an entry that is stamped late
            await t.clock.advance(60.01)
            assert (len(held_back), made(t)) == (1, [])
            await t.clock.advance(0.2)
            assert made(t) == expected(1)

    run(scenario())


def test_while_nothing_can_be_written_runs_wait_and_are_then_late() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            create(t)
            propose = t.replica.propose

            async def refuse(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
                raise NotCommittedError("read_only", "a node is short of disk space")

            t.replica.propose = refuse  # type: ignore[method-assign]  # a full disk
            await t.clock.advance(150)
            assert made(t) == []
            t.replica.propose = propose  # type: ignore[method-assign]  # there is space again
            await t.clock.advance(1)
            assert made(t) == expected(2)
            assert schedule_of(t).missed == 1

    run(scenario())


def test_a_change_while_a_run_is_on_its_way() -> None:
    """The proposal is made of what was seen; what is in the log by then decides."""

    async def scenario() -> None:
        async with fleet() as t:
            create(t)
            propose = t.replica.propose

            async def overtaken(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
                t.replica.propose = propose  # type: ignore[method-assign]  # only once
                five = msgspec.structs.replace(MINUTELY, cron="*/5 * * * *")
                t.do(UpdateSchedule("s", five, first_run_ms(five, t.replica.now_ms()), 1))
                return await propose(frames, timeout_s, term)

            t.replica.propose = overtaken  # type: ignore[method-assign]  # somebody is quicker
            await t.clock.advance(240)
            assert made(t) == []
            await t.clock.advance(61)
            assert made(t) == expected(5)

    run(scenario())


def test_what_this_version_cannot_reckon_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with fleet() as t:
            strange = msgspec.structs.replace(MINUTELY, timezone="Mars/Olympus_Mons")
            t.do(CreateSchedule("mars", strange, START_MS + 30_000))
            create(t, "earth")
            await t.clock.advance(121)
            assert made(t) == expected(1, 2, schedule_id="earth")
            assert caplog.text.count("schedule mars of project default cannot run here") == 1
            t.do(UpdateSchedule("mars", MINUTELY, START_MS + 3 * MINUTE, 1))
            await t.clock.advance(60)
            assert expected(3, schedule_id="mars")[0] in made(t)

    run(scenario())


def test_overlap_is_judged_by_what_has_become_of_the_last_run() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            create(t, overlap="skip")
            await t.clock.advance(121)
            assert (made(t), schedule_of(t).skipped) == (expected(1), 1)
            t.do(CancelTask(*expected(1)))
            await t.clock.advance(60)
            assert made(t) == expected(1, 3)

    run(scenario())


def test_due_before_it_was_defined_is_neither_run_nor_missed() -> None:
    record = Schedule("s", 1, b"", 0, 1, 100, 1, 1, defined_at=START_MS + 90_000, next_run_at=START_MS + MINUTE)
    (only,) = runs(record, MINUTELY, START_MS + 95_000)
    assert only == FireSchedule("s", 1, START_MS + MINUTE, None, 0, START_MS + 2 * MINUTE)
    every = msgspec.structs.replace(MINUTELY, missed_runs="run_all")
    (fire,) = runs(record, every, START_MS + 125_000)
    assert fire == FireSchedule("s", 1, START_MS + MINUTE, START_MS + 2 * MINUTE, 0, START_MS + 3 * MINUTE)
    assert runs(msgspec.structs.replace(record, next_run_at=None), every, START_MS) == []
