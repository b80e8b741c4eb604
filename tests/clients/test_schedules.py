"""``client.schedules`` against the fake, directly and over HTTP, and the fake's own runs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hive_client import Conflict, Exists, InvalidRequest, NotFound
from hive_client.testing import FakeHive, ManualClock, calendar

from tests.clients.running import async_test, raised
from tests.clients.test_nouns import both_ways, opened

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z, where the fake's time begins."""


@both_ways
@async_test
async def test_a_schedule_is_created_found_changed_and_deleted(way: str) -> None:
    async with opened(way) as (_, client):
        made = await client.schedules.create(
            schedule_id="s", cron="0 2 * * *", task={"type": "report"}, metadata={"a": 1}
        )
        assert (made.cron, made.task["type"], made.paused, made.definition_revision) == (
            "0 2 * * *",
            "report",
            False,
            1,
        )
        assert made.upcoming[:2] == [datetime(2026, 1, day, 2, tzinfo=UTC) for day in (1, 2)]
        assert made.next_run_at == made.upcoming[0]
        again = await client.schedules.create(
            schedule_id="s", cron="0 2 * * *", task={"type": "report"}, metadata={"a": 1}
        )
        assert again.reply is not None
        assert again.reply.status == 200
        await raised(client.schedules.create(schedule_id="s", cron="1 2 * * *", task={}), Exists)
        paused = await client.schedules.pause("s")
        assert (paused.paused, paused.next_run_at, paused.upcoming) == (True, None, [])
        assert (await client.schedules.resume("s")).next_run_at == made.next_run_at
        changed = await client.schedules.update("s", {"every_ms": 90_000}, if_revision=3)
        assert (changed.cron, changed.every_ms) == (None, 90_000)
        await raised(client.schedules.update("s", {"paused": True}, if_revision=3), Conflict)
        assert (await client.schedules.get("s")).updated_at is not None
        assert (await client.schedules.delete("s")).raw["deleted"] is True
        await raised(client.schedules.get("s"), NotFound)


@both_ways
@async_test
async def test_a_preview_makes_nothing(way: str) -> None:
    async with opened(way) as (_, client):
        shown = await client.schedules.preview(cron="*/30 9 * * MON-FRI", timezone="Europe/Berlin", task={})
        assert [f"{at:%m-%d %H:%M}" for at in shown.upcoming] == [
            "01-01 08:00",
            "01-01 08:30",
            "01-02 08:00",
            "01-02 08:30",
            "01-05 08:00",
        ]
        assert (await client.schedules.list()).items == []


@both_ways
@async_test
async def test_lists_and_runs_by_hand(way: str) -> None:
    async with opened(way) as (_, client):
        for number in range(5):
            await client.schedules.create(
                schedule_id=f"s{number}", every_ms=3_600_000, task={"queue": "q"}, paused=number == 2
            )
        assert [s.schedule_id async for s in client.schedules.iterate(page_size=2, order="asc")] == [
            f"s{number}" for number in range(5)
        ]
        assert [s.schedule_id for s in (await client.schedules.list(paused=True, queue="q")).items] == ["s2"]
        assert [s.schedule_id for s in (await client.schedules.list(ids=["s1", "s4"])).items] == ["s4", "s1"]
        task = await client.schedules.trigger("s2")
        assert (task.status, task.queue) == ("pending", "q")
        assert (await raised(client.schedules.trigger("s2"), Conflict)).current["task_id"] == task.task_id
        assert (await client.schedules.trigger("s2", overlap="queue")).status == "blocked"
        assert (await client.schedules.trigger("s2", overlap="replace")).status == "pending"
        assert (await client.tasks.get(task.task_id)).status == "cancelled"
        assert (await client.schedules.get("s2")).runs == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "* * * *"},
        {"cron": "60 * * * *"},
        {"cron": "*/0 * * * *"},
        {"cron": "x * * * *"},
        {"every_ms": 5},
        {},
        {"cron": "* * * * *", "every_ms": 5_000},
        {"cron": "* * * * *", "timezone": "Mars/Olympus_Mons"},
        {"cron": "* * * * *", "overlap": "allow"},
        {"cron": "* * * * *", "nonsense": 1},
        {"cron": "* * * * *", "task": {"task_id": "t"}},
        {"cron": "* * * * *", "task": {"priority": 99}},
    ],
)
@async_test
async def test_the_fake_refuses_what_the_server_refuses(fields: dict[str, object]) -> None:
    fake = FakeHive(ManualClock())
    client = fake.client()
    await raised(client.schedules.create(**{"task": {}, **fields}), InvalidRequest)  # type: ignore[arg-type]  # wrong on purpose
    assert fake.world.revision == 0


@async_test
async def test_the_fake_runs_them_when_its_clock_is_moved() -> None:
    clock = ManualClock()
    fake = FakeHive(clock)
    client = fake.client()
    await client.schedules.create(schedule_id="s", every_ms=60_000, task={"title": "x"})
    clock.advance(59)
    assert fake.tasks() == []
    clock.advance(1)
    (task,) = fake.tasks()
    assert (task.task_id, task.title, task.status) == (f"s:{START_MS + 60_000}", "x", "pending")
    clock.advance(60)
    shown = await client.schedules.get("s")
    assert (shown.runs, shown.skipped, shown.missed) == (1, 1, 0)
    assert shown.last_skipped is not None
    assert (shown.last_skipped.reason, len(fake.tasks())) == ("overlap", 1)
    await client.tasks.cancel(task.task_id)
    clock.advance(300)
    shown = await client.schedules.get("s")
    assert (shown.runs, shown.missed) == (2, 4)
    feed = await client.changes.list(from_revision=1, topics="*")
    kinds = [change.type for message in feed.items for change in message.changes]
    assert [kind for kind in kinds if kind.startswith("schedule.")] == [
        "schedule.created",
        "schedule.fired",
        "schedule.skipped",
        "schedule.fired",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 13 * 5", ["01-02 00:00", "01-09 00:00", "01-13 00:00"]),
        ("0 0 */10 * 5", ["05-01 00:00", "07-31 00:00", "08-21 00:00"]),
        ("10-30/10,45 3 1 FEB,3 *", ["02-01 03:10", "02-01 03:20", "02-01 03:30"]),
        ("0 0 * * 7", ["01-04 00:00", "01-11 00:00", "01-18 00:00"]),
    ],
)
def test_the_fakes_calendar(text: str, expected: list[str]) -> None:
    times = calendar.due_after(text, "UTC", datetime(2026, 1, 1, tzinfo=UTC))
    assert [f"{at:%m-%d %H:%M}" for at, _ in zip(times, expected, strict=False)] == expected
