from __future__ import annotations

from tests.ops.command_line import Stage, on_stage


def test_list_get_pause_resume_set() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.tasks.create(task_id="t1", queue="builds")
        paused = await stage.document("queue", "pause", "builds")
        assert paused["paused"] is True
        limited = await stage.document("queue", "set", "builds", "--max-running", "3", "--rate-per-second", "0.5")
        assert (limited["max_running"], limited["rate_per_second"], limited["paused"]) == (3, 0.5, True)
        lifted = await stage.document("queue", "set", "builds", "--max-running", "none", "--max-running-per-key", "2")
        assert (lifted["max_running"], lifted["rate_per_second"], lifted["max_running_per_key"]) == (None, 0.5, 2)
        assert (await stage.document("queue", "resume", "builds"))["paused"] is False
        await stage.document("queue", "pause", "nightly")
        assert [q["name"] for q in (await stage.document("queue", "list"))["items"]] == ["builds", "nightly"]
        assert [q["name"] for q in (await stage.document("queue", "list", "--all"))["items"]] == ["builds", "nightly"]
        assert (await stage.document("queue", "get", "builds"))["counts"]["pending"] == 1
        table = (await stage.hive("queue", "list")).stdout
        assert "builds" in table
        assert "0.5" in table

    on_stage(scenario)


def test_what_cannot_be_set_is_said() -> None:
    async def scenario(stage: Stage) -> None:
        assert (await stage.hive("queue", "set", "q")).status == 2
        assert (await stage.hive("queue", "set", "q", "--max-running", "many")).status == 2
        refused = await stage.hive("queue", "set", "q", "--max-running", "-1")
        assert refused.status == 1
        assert "max_running" in refused.stderr
        assert (await stage.hive("queue", "get", "q")).status == 1

    on_stage(scenario)
