from __future__ import annotations

from tests.ops.command_line import Stage, on_stage


def test_create_show_pause_resume_trigger_and_delete() -> None:
    async def scenario(stage: Stage) -> None:
        made = await stage.document(
            "schedule", "create", "--schedule-id", "nightly", "--cron", "0 2 * * *", "--timezone", "Europe/Berlin",
            "--task", '{"lease_ms": 5000, "type": "old"}', "--type", "report", "--payload", '{"n": 1}',
            "--priority", "7", "--overlap", "queue", "--missed-runs", "run_once", "--metadata", '{"a": 1}',
        )  # fmt: skip
        assert (made["schedule_id"], made["timezone"], made["overlap"]) == ("nightly", "Europe/Berlin", "queue")
        assert made["task"] == {"lease_ms": 5000, "type": "report", "payload": {"n": 1}, "priority": 7}
        assert len(made["upcoming"]) == 5
        assert (await stage.document("schedule", "show", "nightly"))["cron"] == "0 2 * * *"
        assert (await stage.document("schedule", "pause", "nightly"))["paused"] is True
        assert (await stage.document("schedule", "list", "--paused"))["items"][0]["schedule_id"] == "nightly"
        assert (await stage.document("schedule", "list", "--active", "--all"))["items"] == []
        assert (await stage.document("schedule", "resume", "nightly"))["paused"] is False
        task = await stage.document("schedule", "trigger", "nightly", "--overlap", "replace")
        assert (task["type"], task["status"]) == ("report", "pending")
        assert (await stage.document("schedule", "delete", "nightly"))["deleted"] is True
        assert (await stage.document("schedule", "list"))["items"] == []

    on_stage(scenario)


def test_the_next_runs_are_printed_also_without_making_anything() -> None:
    async def scenario(stage: Stage) -> None:
        printed = await stage.hive("schedule", "create", "--cron", "0 2 1 * *", "--type", "report", "--dry-run")
        assert printed.status == 0
        assert [line.split()[-1] for line in printed.stdout.splitlines() if line.startswith("run ")] == [
            f"2026-0{month}-01T02:00:00.000Z" for month in range(1, 6)
        ]
        assert (await stage.client.schedules.list()).items == []
        await stage.hive("schedule", "create", "--schedule-id", "s", "--every-ms", "60000")
        table = (await stage.hive("schedule", "list")).stdout
        assert "NEXT RUN" in table
        assert "60000" in table

    on_stage(scenario)


def test_what_is_wrong_is_said_in_one_line() -> None:
    async def scenario(stage: Stage) -> None:
        printed = await stage.hive("schedule", "create", "--cron", "61 * * * *")
        assert (printed.status, printed.stderr.count("\n")) == (1, 1)
        assert "cron" in printed.stderr
        assert (await stage.hive("schedule", "create", "--every-ms", "5")).status == 2
        assert (await stage.hive("schedule", "create", "--cron", "* * * * *", "--task", "[]")).status == 2
        assert (await stage.hive("schedule", "show", "nothing")).status == 1

    on_stage(scenario)
