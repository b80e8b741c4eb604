"""Runs of schedules: each due time once, whatever is proposed how often; overlaps; runs by hand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import limits, machine, schedule_record, task_record
from statemachine.commands import (
    CancelTask,
    CreateSchedule,
    Definition,
    DeleteSchedule,
    FireSchedule,
    NewTask,
    TriggerSchedule,
    UpdateSchedule,
)
from statemachine.outcome import Item
from statemachine.task_states import TaskState
from tests.statemachine.harness import START_MS, Harness
from tests.statemachine.test_schedules import HOURLY, MINUTE, create, schedule_of, update

FIRST = START_MS + MINUTE


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1", slots=200)
    return h


def fire_of(h: Harness, schedule_id: str = "s", *, missed: int = 0) -> FireSchedule:
    """What a leader proposes that believes the record."""
    schedule = schedule_of(h, schedule_id)
    due = schedule.next_run_at
    assert due is not None
    return FireSchedule(schedule_id, schedule.definition_revision, due, due, missed, due + MINUTE)


def run_next(h: Harness) -> Item:
    """Let the next due time come, and fire."""
    command = fire_of(h)
    h.time_ms = max(h.time_ms, command.due_ms)
    return h.item(command)


def status(h: Harness, number: int) -> str:
    """The status of the task of the n-th due time."""
    return str(h.task(f"s:{FIRST + number * MINUTE}").status)


def test_a_due_time_becomes_a_task(h: Harness) -> None:
    task = NewTask("", queue="q", title="x", payload=b"[1]", delay_ms=500, deadline_in_ms=9_000, priority=8)
    create(h, task=task)
    command = fire_of(h)
    h.advance(MINUTE + 3)
    item = h.item(command)
    made = h.task(f"s:{FIRST}")
    assert (made.title, made.payload, made.priority, made.queue, made.status) == ("x", b"[1]", 8, "q", "scheduled")
    assert (made.not_before, made.deadline) == (h.time_ms + 500, h.time_ms + 9_000)
    schedule = schedule_of(h)
    assert (schedule.next_run_at, schedule.last_run_at, schedule.runs) == (FIRST + MINUTE, FIRST, 1)
    assert (schedule.last_task_id, schedule.revision, schedule.updated_at) == (f"s:{FIRST}", item.revision, h.time_ms)
    created, fired = h.changes
    assert (created.type, created.revision, fired.type, fired.revision) == (
        "task.created",
        item.revision,
        "schedule.fired",
        item.revision,
    )
    assert fired.data == {
        "due_at": FIRST,
        "missed": 0,
        "next_run_at": FIRST + MINUTE,
        "task_id": f"s:{FIRST}",
    }
    h.check()


def test_the_same_proposal_twice_fires_once(h: Harness) -> None:
    create(h, overlap="queue")
    command = fire_of(h)
    h.advance(2 * MINUTE)
    first, second = h.apply(h.frame(command), h.frame(command))
    assert (first.items[0].status, second.items[0].status) == (200, 0)
    before, revision = h.content(), machine.read_meta(h.store).revision
    assert h.item(command).status == 0
    assert (h.content(), machine.read_meta(h.store).revision, h.changes) == (before, revision, ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("definition_revision", 9),
        ("due_ms", FIRST - 1),
        ("run_ms", FIRST - 1),
        ("run_ms", FIRST + 1),
        ("next_ms", FIRST),
        ("missed", -1),
        ("schedule_id", "other"),
    ],
)
def test_what_does_not_hold_is_passed_over(h: Harness, field: str, value: object) -> None:
    create(h)
    command = fire_of(h)
    h.advance(MINUTE)
    before = h.content()
    assert h.item(msgspec.structs.replace(command, **{field: value})).status == 0
    assert h.content() == before
    assert h.item(command).status == 200


def test_too_early_by_the_entrys_time(h: Harness) -> None:
    create(h)
    command = fire_of(h)
    h.advance(MINUTE - 1)
    assert h.item(command).status == 0
    h.advance(1)
    assert h.item(command).status == 200


def test_a_change_while_a_run_is_on_its_way_comes_first(h: Harness) -> None:
    schedule = create(h)
    command = fire_of(h)
    h.advance(MINUTE)
    h.item(update(h, schedule, msgspec.structs.replace(HOURLY, metadata=b"{}"), None))
    assert h.item(command).status == 0
    # The due time stays, for the times of the runs did not change.
    assert h.item(fire_of(h)).status == 200
    late = fire_of(h)
    h.item(update(h, schedule_of(h), msgspec.structs.replace(HOURLY, paused=True), None))
    h.advance(MINUTE)
    assert h.item(late).status == 0
    assert schedule_of(h).runs == 1
    h.check()


def test_a_deleted_schedule_does_not_fire(h: Harness) -> None:
    create(h)
    command = fire_of(h)
    h.advance(MINUTE)
    h.item(DeleteSchedule("s"))
    assert h.item(command).status == 0
    create(h, next_run_at=FIRST)
    assert h.item(command).status == 0


def test_nothing_is_due_before_it_was_defined(h: Harness) -> None:
    create(h, next_run_at=START_MS - 5)
    command = fire_of(h)
    assert h.item(command).status == 0
    passed = msgspec.structs.replace(command, run_ms=None)
    assert h.item(passed).status == 200
    schedule = schedule_of(h)
    assert (schedule.next_run_at, schedule.runs, schedule.missed) == (START_MS - 5 + MINUTE, 0, 0)
    assert h.changes == ()
    h.check()


def test_a_due_time_does_not_come_again_after_a_change(h: Harness) -> None:
    create(h)
    run_next(h)
    # The edge that reckoned this next run had a clock a little behind.
    h.item(update(h, schedule_of(h), msgspec.structs.replace(HOURLY, cron="* * * * *"), FIRST))
    assert h.item(fire_of(h)).status == 0
    assert schedule_of(h).runs == 1


def test_missed_runs_are_counted(h: Harness) -> None:
    create(h)
    command = fire_of(h)
    h.advance(5 * MINUTE)
    run = FIRST + 3 * MINUTE
    h.item(msgspec.structs.replace(command, run_ms=run, missed=3, next_ms=run + MINUTE))
    schedule = schedule_of(h)
    assert (schedule.missed, schedule.runs, schedule.last_run_at) == (3, 1, run)
    command = msgspec.structs.replace(fire_of(h), run_ms=None, missed=1)
    h.item(command)
    schedule = schedule_of(h)
    assert (schedule.missed, schedule.runs, schedule.skipped) == (4, 1, 0)
    assert schedule.last_skip == schedule_record.Skip(run + MINUTE, "missed")
    (change,) = h.changes
    assert (change.type, (change.data or {})["reason"]) == ("schedule.skipped", "missed")
    h.check()


def test_the_last_run_leaves_nothing_to_wait_for(h: Harness) -> None:
    create(h)
    command = fire_of(h)
    h.advance(MINUTE)
    h.item(msgspec.structs.replace(command, next_ms=None))
    assert schedule_of(h).next_run_at is None
    assert list(schedule_record.due(h.store)) == []
    h.check()


# --- overlap ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "running", "scheduled"])
def test_skip_while_the_last_run_has_not_ended(h: Harness, state: str) -> None:
    create(h, task=NewTask("", delay_ms=86_400_000) if state == "scheduled" else NewTask(""))
    run_next(h)
    if state == "running":
        h.claim(f"s:{FIRST}")
    run_next(h)
    schedule = schedule_of(h)
    assert (schedule.runs, schedule.skipped) == (1, 1)
    assert schedule.last_skip == schedule_record.Skip(FIRST + MINUTE, "overlap")
    assert (h.changes[-1].type, (h.changes[-1].data or {})["reason"]) == ("schedule.skipped", "overlap")
    assert task_record.find(h.store, 1, f"s:{FIRST + MINUTE}") is None
    h.check()


def test_skip_goes_on_when_the_last_run_has_ended(h: Harness) -> None:
    create(h)
    run_next(h)
    h.run(f"s:{FIRST}")
    run_next(h)
    h.item(CancelTask(f"s:{FIRST + MINUTE}"))
    run_next(h)
    assert (schedule_of(h).runs, schedule_of(h).skipped) == (3, 0)
    assert len(schedule_of(h).open_tasks) == 1
    h.check()


def test_queue_runs_one_after_the_other(h: Harness) -> None:
    create(h, overlap="queue")
    for _ in range(3):
        run_next(h)
    assert [status(h, n) for n in range(3)] == ["pending", "blocked", "blocked"]
    # One that is called off lets nobody go before the first has ended.
    h.item(CancelTask(f"s:{FIRST + MINUTE}"))
    assert [status(h, n) for n in range(3)] == ["pending", "cancelled", "blocked"]
    h.fail(f"s:{FIRST}", "a1", h.claim(f"s:{FIRST}"), retryable=False)
    assert [status(h, n) for n in range(3)] == ["failed", "cancelled", "pending"]
    h.run(f"s:{FIRST + 2 * MINUTE}")
    run_next(h)
    assert status(h, 3) == "pending"
    h.check()


def test_a_queue_that_does_not_keep_up_is_bounded(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCHEDULE_OPEN_RUNS_MAX", 3)
    create(h, overlap="queue")
    for _ in range(5):
        run_next(h)
    schedule = schedule_of(h)
    assert (schedule.runs, schedule.skipped, len(schedule.open_tasks)) == (3, 2, 3)
    assert schedule.last_skip == schedule_record.Skip(FIRST + 4 * MINUTE, "queue_full")
    h.check()


def test_replace_cancels_what_has_not_ended(h: Harness) -> None:
    create(h, overlap="queue")
    run_next(h)
    run_next(h)
    h.claim(f"s:{FIRST}")
    definition = msgspec.structs.replace(HOURLY, overlap="replace")
    h.item(UpdateSchedule("s", definition, None, schedule_of(h).definition_revision))
    item = run_next(h)
    assert [status(h, n) for n in range(3)] == ["cancelled", "cancelled", "pending"]
    assert {change.revision for change in h.changes} == {item.revision}
    assert [change.type for change in h.changes].count("task.cancelled") == 2
    assert h.task(f"s:{FIRST}").holder_no != 0, "its agent confirms first"
    h.check()


def test_a_unique_key_that_another_task_holds_skips_the_run_and_cancels_nothing(h: Harness) -> None:
    create(h, overlap="replace", task=NewTask("", unique_key="k"))
    run_next(h)
    run_next(h)
    assert [status(h, n) for n in range(2)] == ["cancelled", "pending"]
    h.item(CancelTask(f"s:{FIRST + MINUTE}"))
    h.submit("other", unique_key="k")
    create(h, "free", overlap="replace")
    run_next(h)
    schedule = schedule_of(h)
    assert schedule.last_skip == schedule_record.Skip(FIRST + 2 * MINUTE, "unique_key")
    assert (schedule.runs, schedule.skipped) == (2, 1)
    h.check()


def test_a_refused_run_cancels_nothing(h: Harness) -> None:
    create(h, overlap="replace")
    run_next(h)
    h.submit(f"s:{FIRST + MINUTE}", title="taken")
    before = h.task(f"s:{FIRST}")
    run_next(h)
    assert h.task(f"s:{FIRST}") == before
    assert schedule_of(h).last_skip == schedule_record.Skip(FIRST + MINUTE, "exists")
    run_next(h)
    assert status(h, 2) == "pending"
    h.check()


# --- by hand ------------------------------------------------------------------------------------------------


def test_a_run_by_hand(h: Harness) -> None:
    create(h, paused=True)
    h.advance(7)
    item = h.item(TriggerSchedule("s"))
    assert (item.status, item.resource_id, item.revision) == (201, "s:r3", 3)
    assert h.task("s:r3").status == "pending"
    schedule = schedule_of(h)
    assert (schedule.runs, schedule.last_run_at, schedule.last_task_id) == (1, h.time_ms, "s:r3")
    assert (schedule.next_run_at, schedule.revision) == (None, 3)
    assert [change.type for change in h.changes] == ["task.created", "schedule.fired"]
    assert (h.changes[-1].data or {})["triggered"] is True
    h.check()


def test_a_run_by_hand_keeps_to_the_overlap_policy_unless_told_otherwise(h: Harness) -> None:
    create(h)
    h.item(TriggerSchedule("s"))
    refusal = h.refusal(TriggerSchedule("s"))
    assert (refusal.code, refusal.current) == ("conflict", {"task_id": "s:r3", "status": "pending", "attempt": 0})
    assert h.item(TriggerSchedule("s", "queue")).resource_id == "s:r4"
    assert (h.task("s:r3").status, h.task("s:r4").status) == ("pending", "blocked")
    h.item(TriggerSchedule("s", "replace"))
    assert [h.task(f"s:r{n}").status for n in (3, 4, 5)] == ["cancelled", "cancelled", "pending"]
    assert h.refusal(TriggerSchedule("s", "allow")).code == "invalid_request"
    h.check()


def test_a_run_by_hand_does_not_move_the_next_one(h: Harness) -> None:
    create(h, overlap="queue")
    h.item(TriggerSchedule("s"))
    assert schedule_of(h).next_run_at == FIRST
    run_next(h)
    assert (schedule_of(h).runs, status(h, 0)) == (2, "blocked")
    h.check()


# --- whatever happens ---------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fire"), st.integers(0, 3)),
        st.tuples(st.just("again"), st.integers(0, 5)),
        st.tuples(st.just("time"), st.integers(1, 3 * MINUTE)),
        st.tuples(st.just("patch"), st.sampled_from(["skip", "queue", "replace", "pause", "resume"])),
        st.tuples(st.just("trigger"), st.sampled_from([None, "queue", "replace"])),
        st.tuples(st.just("end"), st.integers(0, 5)),
    ),
    max_size=25,
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(STEPS)
def test_no_due_time_fires_twice(steps: list[tuple[str, object]]) -> None:
    """Several leaders propose what they once believed, while the schedule is changed and its tasks end."""
    h = Harness()
    h.register("a1", slots=50)
    create(h)
    proposed: list[FireSchedule] = []
    fired: list[int] = []
    for kind, value in steps:
        schedule = schedule_of(h)
        if kind == "time":
            h.advance(int(str(value)))
        elif kind == "fire" and schedule.next_run_at is not None:
            command = fire_of(h, missed=int(str(value)))
            proposed.append(command)
            h.item(command)
        elif kind == "again" and proposed:
            h.item(proposed[int(str(value)) % len(proposed)])
        elif kind == "patch":
            definition = schedule_record.definition_of(h.store, 1, schedule)
            if value in ("pause", "resume"):
                definition = msgspec.structs.replace(definition, paused=value == "pause")
            else:
                definition = msgspec.structs.replace(definition, overlap=str(value))
            h.item(update(h, schedule, definition, h.time_ms - h.time_ms % MINUTE + MINUTE))
        elif kind == "trigger":
            h.do(TriggerSchedule("s", None if value is None else str(value)))
        elif kind == "end" and schedule.last_task_id is not None:
            h.do(CancelTask(schedule.last_task_id))
        data = [c.data or {} for c in h.changes if c.type in ("schedule.fired", "schedule.skipped")]
        fired += [item["due_at"] for item in data if "triggered" not in item]
        h.check()
    assert fired == sorted(set(fired))


def test_a_run_is_bounded_however_much_depends_on_what_it_replaces(h: Harness) -> None:
    h.item(CreateSchedule("s", Definition(NewTask(""), every_ms=MINUTE, overlap="replace"), FIRST))
    run_next(h)
    for number in range(300):
        h.submit(f"d{number}", depends_on=(f"s:{FIRST}",), on_dependency_failure="cancel")
    run_next(h)
    ended = [h.task(f"d{number}").status for number in range(300)].count(TaskState.CANCELLED)
    assert 0 < ended <= limits.SIDE_EFFECTS_MAX
    h.check()
