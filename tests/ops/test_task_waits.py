"""`hive task park`, `resume`, `redrive`."""

from __future__ import annotations

from tests.ops.command_line import Stage, on_stage


async def _held(stage: Stage, task_id: str) -> None:
    agent = await stage.client.agents.register("a1", instance_id="i", max_concurrent=9)
    await stage.client.tasks.create(task_id=task_id)
    await stage.client.tasks.claim_one(task_id, agent_id="a1", epoch=agent.epoch)


def test_park_list_and_resume() -> None:
    async def scenario(stage: Stage) -> None:
        await _held(stage, "t1")
        words = ("--agent", "a1", "--attempt", "1", "--name", "plan", "--prompt", "Go?", "--option", "yes")
        parked = await stage.document("task", "park", "t1", *words, "--checkpoint", '{"step": 1}')
        assert (parked["status"], parked["waiting"]["name"], parked["waiting"]["options"]) == (
            "waiting",
            "plan",
            ["yes"],
        )
        listed = await stage.document("task", "list", "--waiting-for", "approval")
        assert [task["task_id"] for task in listed["items"]] == ["t1"]
        printed = await stage.hive("task", "get", "t1")
        assert "Go?" in printed.stdout
        resumed = await stage.document("task", "resume", "t1", "--data", '"yes"', "--actor", "ann")
        assert resumed["status"] == "pending"
        again = await stage.hive("task", "resume", "t1", "--name", "plan", "--data", '"no"')
        assert again.status == 1
        assert again.stderr.startswith("hive: conflict")

    on_stage(scenario)


def test_a_wrong_kind_and_wrong_json_are_usage_errors() -> None:
    async def scenario(stage: Stage) -> None:
        wrong = await stage.hive("task", "park", "t1", "--agent", "a1", "--attempt", "1", "--kind", "mood")
        assert wrong.status == 2
        wrong = await stage.hive("task", "resume", "t1", "--data", "{")
        assert (wrong.status, "--data is not JSON" in wrong.stderr) == (2, True)
        assert stage.fake.requests == []

    on_stage(scenario)


def test_redrive_says_how_many() -> None:
    async def scenario(stage: Stage) -> None:
        for task_id in ("t1", "t2"):
            await _held(stage, task_id)
            await stage.client.tasks.fail(task_id, agent_id="a1", attempt=1, retryable=False)
        assert (await stage.document("task", "redrive", "--limit", "1"))["retried"] == 1
        printed = await stage.hive("task", "redrive", "--reason", "error")
        assert printed.stdout == "1 tasks begin anew\n"
        assert (await stage.hive("task", "redrive", "--queue", "none")).stdout == "0 tasks begin anew\n"

    on_stage(scenario)
