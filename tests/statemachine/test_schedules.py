"""Schedules in the state: creation, changes, deletion, limits, and that wrong ones change nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from statemachine import limits, machine, projects, schedule_record
from statemachine.audit import audit
from statemachine.commands import (
    CreateSchedule,
    Definition,
    DeleteSchedule,
    FireSchedule,
    NewTask,
    TriggerSchedule,
    UpdateSchedule,
)
from statemachine.schedule_record import Due, Schedule, ScheduleFilter
from tests.statemachine.harness import START_MS, Harness

MINUTE = 60_000
HOURLY = Definition(NewTask("", queue="q"), cron="0 * * * *")


@pytest.fixture
def h() -> Harness:
    return Harness()


def schedule_of(h: Harness, schedule_id: str = "s") -> Schedule:
    schedule = schedule_record.find(h.store, h.project_no(), schedule_id)
    assert schedule is not None
    return schedule


def create(h: Harness, schedule_id: str = "s", next_run_at: int | None = START_MS + MINUTE, **fields: Any) -> Schedule:
    definition = msgspec.structs.replace(HOURLY, **fields)
    assert h.item(CreateSchedule(schedule_id, definition, next_run_at)).status == 201
    return schedule_of(h, schedule_id)


def update(h: Harness, schedule: Schedule, definition: Definition, next_run_at: int | None) -> UpdateSchedule:
    return UpdateSchedule(schedule.schedule_id, definition, next_run_at, schedule.definition_revision)


def waiting(h: Harness) -> list[int]:
    return [due.at for due in schedule_record.due(h.store)]


def test_a_new_schedule_waits_for_its_first_run(h: Harness) -> None:
    schedule = create(h)
    assert (schedule.next_run_at, schedule.defined_at, schedule.runs) == (START_MS + MINUTE, START_MS, 0)
    assert (schedule.revision, schedule.definition_revision, schedule.created_revision) == (1, 1, 1)
    assert [(change.type, change.resource, change.resource_id) for change in h.changes] == [
        ("schedule.created", "schedule", "s")
    ]
    assert list(schedule_record.due(h.store, START_MS + MINUTE - 1)) == []
    assert list(schedule_record.due(h.store)) == [Due(START_MS + MINUTE, 1, schedule.number)]
    assert schedule_record.definition_of(h.store, 1, schedule) == HOURLY
    h.check()


def test_a_paused_one_waits_for_nothing(h: Harness) -> None:
    assert create(h, paused=True).next_run_at is None
    assert waiting(h) == []
    h.check()


def test_creating_again_the_same_is_no_change_and_other_content_is_refused(h: Harness) -> None:
    schedule = create(h)
    h.item(update(h, schedule, msgspec.structs.replace(HOURLY, cron="5 * * * *"), START_MS + 1))
    again = h.item(CreateSchedule("s", HOURLY, START_MS + 9 * MINUTE))
    assert (again.status, again.revision, machine.read_meta(h.store).revision) == (200, 2, 2)
    others: dict[str, Any] = {
        "task": NewTask("", queue="q", title="x"),
        "cron": "1 * * * *",
        "timezone": "Europe/Berlin",
        "overlap": "queue",
        "missed_runs": "run_all",
        "starting_deadline_ms": 1,
        "starts_at": 1,
        "ends_at": 1,
        "paused": True,
        "metadata": b"{}",
    }
    assert others.keys() | {"every_ms"} == set(Definition.__struct_fields__)
    for field, value in others.items():
        refusal = h.refusal(CreateSchedule("s", msgspec.structs.replace(HOURLY, **{field: value}), None))
        assert (refusal.code, (refusal.current or {})["schedule_id"]) == ("exists", "s"), field


def test_a_field_that_tasks_get_later_does_not_change_what_a_schedule_was_created_as() -> None:
    definition = msgspec.structs.replace(HOURLY, task=NewTask("", title="x"))
    with_default = msgspec.structs.replace(HOURLY, task=NewTask("", title="x", metadata=None, session_id=None))
    assert schedule_record.content_of(definition) == schedule_record.content_of(with_default)
    assert schedule_record.content_of(definition) != schedule_record.content_of(HOURLY)


WRONG: dict[str, Any] = {
    "task": [
        NewTask("t"),
        NewTask("", depends_on=("t",)),
        NewTask("", queue=""),
        NewTask("", queue="x" * 129),
        NewTask("", group_id="\0"),
        NewTask("", unique_key="x" * 129),
        NewTask("", payload=b'"' + b"x" * limits.SCHEDULE_TASK_BYTES_MAX + b'"'),
    ],
    "cron": [None],
    "every_ms": [1_000],
    "overlap": ["allow"],
    "missed_runs": [""],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_definition_changes_nothing(h: Harness, field: str, value: Any) -> None:
    wrong = msgspec.structs.replace(HOURLY, **{field: value})
    assert h.refusal(CreateSchedule("s", wrong, None)).code == "invalid_request"
    schedule = create(h)
    assert h.refusal(update(h, schedule, wrong, None)).code == "invalid_request"
    h.check()


def test_an_interval_has_a_shortest(h: Harness) -> None:
    short = Definition(NewTask(""), every_ms=limits.SCHEDULE_EVERY_MS_MIN - 1)
    assert h.refusal(CreateSchedule("s", short, None)).code == "invalid_request"
    h.item(CreateSchedule("s", msgspec.structs.replace(short, every_ms=limits.SCHEDULE_EVERY_MS_MIN), None))


@pytest.mark.parametrize("schedule_id", ["", "a b", "..", "batch", "x" * 101])
def test_odd_ids_are_refused(h: Harness, schedule_id: str) -> None:
    assert h.refusal(CreateSchedule(schedule_id, HOURLY, None)).code == "invalid_request"


def test_an_unknown_schedule_is_not_found(h: Harness) -> None:
    create(h)
    missing = [DeleteSchedule("x"), TriggerSchedule("x"), UpdateSchedule("x", None, None, 0), DeleteSchedule("\0")]
    assert {h.refusal(command).code for command in missing} == {"not_found"}
    assert h.item(FireSchedule("x", 1, START_MS, START_MS, 0, None)).status == 0
    assert h.refusal(DeleteSchedule("s"), project="nowhere").code == "unknown_project"


def test_a_change_of_times_takes_the_new_next_run_and_any_other_keeps_the_old(h: Harness) -> None:
    schedule = create(h)
    h.advance(10)
    other = msgspec.structs.replace(HOURLY, overlap="replace", metadata=b"{}")
    assert h.item(update(h, schedule, other, 7)).status == 200
    schedule = schedule_of(h)
    assert (schedule.next_run_at, schedule.defined_at) == (START_MS + MINUTE, START_MS)
    assert (schedule.definition_revision, schedule.updated_at) == (2, START_MS + 10)
    assert h.changes[0].data == {"fields": ["overlap", "metadata"]}
    h.item(update(h, schedule, msgspec.structs.replace(other, cron=None, every_ms=5_000), START_MS + 7))
    schedule = schedule_of(h)
    assert (schedule.next_run_at, schedule.defined_at, waiting(h)) == (START_MS + 7, START_MS + 10, [START_MS + 7])
    h.check()


def test_pause_and_resume(h: Harness) -> None:
    schedule = create(h)
    h.item(update(h, schedule, msgspec.structs.replace(HOURLY, paused=True), START_MS + 5))
    assert (schedule_of(h).next_run_at, waiting(h)) == (None, [])
    again = h.item(update(h, schedule_of(h), msgspec.structs.replace(HOURLY, paused=True), None))
    assert (again.status, again.revision) == (200, 2)
    h.item(update(h, schedule_of(h), HOURLY, START_MS + 2 * MINUTE))
    assert waiting(h) == [START_MS + 2 * MINUTE]
    h.check()


def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused(h: Harness) -> None:
    schedule = create(h)
    mine = update(h, schedule, msgspec.structs.replace(HOURLY, overlap="queue"), None)
    h.item(update(h, schedule, msgspec.structs.replace(HOURLY, overlap="replace"), None))
    refusal = h.refusal(mine)
    assert (refusal.code, (refusal.current or {})["base_revision"]) == ("conflict", 1)


def test_if_revision_is_about_the_definition_not_the_runs(h: Harness) -> None:
    schedule = create(h)
    h.advance(MINUTE)
    due = schedule.next_run_at
    assert due is not None
    h.item(FireSchedule("s", 1, due, due, 0, due + 1))
    assert schedule_of(h).revision == 2
    paused = msgspec.structs.replace(HOURLY, paused=True)
    for wanted in (0, 3):
        refusal = h.refusal(UpdateSchedule("s", paused, None, 1, if_revision=wanted))
        assert (refusal.code, "base_revision" in (refusal.current or {})) == ("conflict", False)
    assert h.item(UpdateSchedule("s", paused, None, 1, if_revision=1)).status == 200
    assert h.refusal(UpdateSchedule("s", HOURLY, None, 3, if_revision=2)).code == "conflict"


def test_deletion_leaves_nothing_but_the_tasks(h: Harness) -> None:
    create(h)
    h.item(TriggerSchedule("s"))
    assert h.item(DeleteSchedule("s")).status == 200
    assert h.changes[0].type == "schedule.deleted"
    assert [h.store.get(key) for key in (b"Y", b"i", b"V", b"v")] == [None] * 4
    assert not any(key[:1] in b"YiVv" for key in h.content())
    assert h.task("s:r2").status == "pending"
    assert h.refusal(DeleteSchedule("s")).code == "not_found"
    h.check()


def test_the_number_of_schedules_is_limited_exactly(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCHEDULES_MAX", 2)
    # In one entry, where counters are not written yet.
    outcomes = h.apply(*(h.frame(CreateSchedule(f"s{n}", HOURLY, None)) for n in range(3)))
    assert [outcome.refusal and outcome.refusal.code for outcome in outcomes] == [None, None, "queue_full"]
    h.item(DeleteSchedule("s0"))
    h.item(CreateSchedule("s3", HOURLY, None))
    project = projects.find(h.store, "default")
    assert project is not None
    assert project.schedules == 2
    h.check()


def test_a_creation_makes_its_project(h: Harness) -> None:
    assert h.item(CreateSchedule("s", HOURLY, None), project="fresh").status == 201
    assert [change.type for change in h.changes] == ["project.created", "schedule.created"]
    h.check()


def test_lists_filter_and_go_on_from_a_position(h: Harness) -> None:
    for number in range(4):
        create(h, f"s{number}", paused=number % 2 == 1)
    h.advance(5)
    create(h, "other", task=NewTask("", queue="w", type="k"))

    def ids(wanted: ScheduleFilter, **part: Any) -> list[str]:
        rows = schedule_record.scan(h.store, 1, wanted, **part)
        return [row[0].schedule_id for _, row in rows if row is not None]

    assert ids(ScheduleFilter()) == ["other", "s3", "s2", "s1", "s0"]
    assert ids(ScheduleFilter(paused=True), ascending=True) == ["s1", "s3"]
    assert ids(ScheduleFilter(queues=("w", "x"))) == ids(ScheduleFilter(types=("k",))) == ["other"]
    assert ids(ScheduleFilter(ids=("s0", "s2"))) == ["s2", "s0"]
    assert ids(ScheduleFilter(updated_since=START_MS + 5)) == ["other"]
    middle = schedule_of(h, "s1").number
    assert ids(ScheduleFilter(), after=middle) == ["s0"]
    assert ids(ScheduleFilter(), after=middle, ascending=True) == ["s2", "s3", "other"]


CORRUPTIONS: dict[str, Any] = {
    "next_run_at": 5,
    "number": 77,
    "schedule_id": "z",
    "runs": 3,
    "skipped": 2,
    "definition_revision": 99,
    "defined_at": 0,
    "open_tasks": (2, 1),
}


@pytest.mark.parametrize("field", CORRUPTIONS)
def test_a_wrong_record_is_found(h: Harness, field: str) -> None:
    schedule = create(h)
    wrong = msgspec.structs.replace(schedule, **{field: CORRUPTIONS[field]})
    h.store.apply([(schedule_record.key(1, schedule.number), msgspec.msgpack.encode(wrong))])
    assert audit(h.store) != []


def test_a_wrong_count_is_found(h: Harness) -> None:
    create(h)
    project = projects.find(h.store, "default")
    assert project is not None
    project.schedules = 2
    h.store.apply([(b"P" + (1).to_bytes(4, "big"), msgspec.msgpack.encode(project))])
    assert audit(h.store) != []
