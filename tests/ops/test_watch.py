from __future__ import annotations

from tests.ops.command_line import Stage, on_stage


def test_watch_prints_every_change_from_a_revision_on() -> None:
    async def scenario(stage: Stage) -> None:
        first = await stage.client.tasks.create(task_id="t1")
        await stage.client.tasks.create(task_id="t2")
        words = ("watch", "--topics", "tasks", "--from-revision", str(first.created_revision), "--count", "2")
        messages = (await stage.hive(*words, "--json")).lines
        assert [m["changes"][0]["resource_id"] for m in messages] == ["t1", "t2"]
        text = (await stage.hive(*words, "--data", "none")).stdout
        assert "task.created" in text
        assert {line.split()[0] for line in text.splitlines()} == {str(m["revision"]) for m in messages}

    on_stage(scenario)


def test_a_revision_that_is_gone_is_said_so() -> None:
    async def scenario(stage: Stage) -> None:
        for number in range(3):
            await stage.client.tasks.create(task_id=f"t{number}")
        stage.fake.compact(3)
        printed = await stage.hive("watch", "--from-revision", "1", "--count", "1")
        assert printed.status == 1
        assert "compacted" in printed.stderr

    on_stage(scenario)
