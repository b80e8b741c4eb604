from __future__ import annotations

from pathlib import Path

from tests.ops.command_line import Stage, on_stage


def test_create_sends_every_option() -> None:
    async def scenario(stage: Stage) -> None:
        first = await stage.document("task", "create", "--task-id", "first")
        assert first["task_id"] == "first"
        words = [
            "task", "create", "--task-id", "t1", "--type", "review", "--title", "Read it",
            "--payload", '{"path": "a.py"}',
            "--priority", "high", "--requires", "python:0.7", "--requires", "git", "--depends-on", "first",
            "--label", "team=core", "--queue", "slow", "--group", "g1", "--session", "s1", "--max-attempts", "7",
            "--unique-key", "k1", "--lock", "src/**", "--lock", "a.py", "--shared-lock", "docs",
        ]  # fmt: skip
        await stage.document(*words)
        task = await stage.client.tasks.get("t1")
        assert (task.type, task.title, task.payload) == ("review", "Read it", {"path": "a.py"})
        assert task.priority == 8
        assert task.raw["requires"] == [{"name": "python", "min_proficiency": 0.7}, {"name": "git"}]
        assert (task.depends_on, dict(task.labels), task.queue) == (["first"], {"team": "core"}, "slow")
        assert (task.group_id, task.session_id, task.max_attempts, task.unique_key) == ("g1", "s1", 7, "k1")
        assert task.status == "blocked"
        assert [(lock.path, lock.exclusive) for lock in task.locks] == [
            ("src/**", True),
            ("a.py", True),
            ("docs", False),
        ]

    on_stage(scenario)


def test_payload_from_standard_input_and_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "payload.json"
    path.write_text('{"from": "file"}')

    async def scenario(stage: Stage) -> None:
        piped = await stage.hive("task", "create", "--payload", "-", "--json", stdin='{"from": "pipe"}')
        assert piped.document["payload"] == {"from": "pipe"}
        assert (await stage.document("task", "create", "--payload", f"@{path}"))["payload"] == {"from": "file"}

    on_stage(scenario)


def test_wrong_values_are_usage_errors_and_send_nothing(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        for words, said in (
            (["--payload", "{"], "--payload is not JSON"),
            (["--payload", f"@{tmp_path}/none.json"], "cannot read"),
            (["--label", "team"], "KEY=VALUE"),
        ):
            printed = await stage.hive("task", "create", *words)
            assert printed.status == 2
            assert said in printed.stderr
            assert printed.stderr.count("\n") == 1
        assert stage.fake.requests == []

    on_stage(scenario)


def test_the_same_idempotency_key_makes_one_task() -> None:
    async def scenario(stage: Stage) -> None:
        words = ("task", "create", "--title", "once", "--idempotency-key", "key-1")
        assert (await stage.document(*words))["task_id"] == (await stage.document(*words))["task_id"]
        assert len(stage.fake.tasks()) == 1

    on_stage(scenario)


def test_get_prints_fields_for_people() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.tasks.create(task_id="t1", title="Read it")
        printed = await stage.hive("task", "get", "t1")
        assert printed.status == 0
        assert "Read it" in printed.stdout
        assert "pending" in printed.stdout

    on_stage(scenario)


def test_an_unknown_task_is_one_line_with_a_way_out() -> None:
    async def scenario(stage: Stage) -> None:
        printed = await stage.hive("task", "get", "none")
        assert printed.status == 1
        assert printed.stdout == ""
        assert printed.stderr.startswith("hive: not_found")
        assert "list command" in printed.stderr
        assert printed.stderr.count("\n") == 1

    on_stage(scenario)


def test_list_filters_pages_and_follows_them() -> None:
    async def scenario(stage: Stage) -> None:
        for number in range(5):
            await stage.client.tasks.create(task_id=f"t{number}", queue="a" if number % 2 else "b")
        assert [t["task_id"] for t in (await stage.document("task", "list", "--queue", "a"))["items"]] == ["t3", "t1"]
        page = await stage.document("task", "list", "--limit", "2")
        assert [t["task_id"] for t in page["items"]] == ["t4", "t3"]
        rest = await stage.document("task", "list", "--limit", "2", "--cursor", page["next_cursor"])
        assert [t["task_id"] for t in rest["items"]] == ["t2", "t1"]
        everything = await stage.document("task", "list", "--all")
        assert len(everything["items"]) == 5
        assert everything["next_cursor"] is None
        table = await stage.hive("task", "list", "--limit", "2")
        assert "t4" in table.stdout
        assert "--cursor" in table.stderr

    on_stage(scenario)


def test_projects_are_apart() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.document("task", "create", "--task-id", "here", "--project", "mine")
        assert (await stage.hive("task", "get", "here")).status == 1
        found = await stage.hive("--project", "mine", "task", "get", "here", "--json")
        assert found.document["project"] == "mine"

    on_stage(scenario)


def test_cancel_and_wait_tell_how_it_ended() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.tasks.create(task_id="t1")
        assert (await stage.document("task", "cancel", "t1"))["status"] == "cancelled"
        waited = await stage.hive("task", "wait", "t1", "--json")
        assert waited.document["status"] == "cancelled"
        assert waited.status == 1
        assert "ended as cancelled" in waited.stderr

    on_stage(scenario)


def test_wait_gives_up_in_time() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.tasks.create(task_id="t1")
        printed = await stage.hive("task", "wait", "t1", "--wait-s", "0.01")
        assert printed.status == 1
        assert "wait_timed_out" in printed.stderr

    on_stage(scenario)


def test_wait_sees_a_completion() -> None:
    async def scenario(stage: Stage) -> None:
        await _complete(stage, "t1")
        assert (await stage.document("task", "wait", "t1"))["result"] == {"answer": 42}
        assert (await stage.document("task", "wait", "t1", "--until", "started"))["status"] == "completed"

    on_stage(scenario)


async def _complete(stage: Stage, task_id: str) -> None:
    agent = await stage.client.agents.register("a1")
    await stage.client.tasks.create(task_id=task_id)
    grant = await stage.client.tasks.claim_one(task_id, agent_id="a1", epoch=agent.epoch)
    await stage.client.tasks.complete(task_id, agent_id="a1", attempt=grant.attempt, result={"answer": 42})


def test_retry_redrives_a_failed_task() -> None:
    async def scenario(stage: Stage) -> None:
        agent = await stage.client.agents.register("a1")
        await stage.client.tasks.create(task_id="t1", max_attempts=1)
        grant = await stage.client.tasks.claim_one("t1", agent_id="a1", epoch=agent.epoch)
        await stage.client.tasks.fail("t1", agent_id="a1", attempt=grant.attempt, reason="error", message="no")
        assert (await stage.document("task", "get", "t1"))["status"] == "failed"
        assert (await stage.document("task", "retry", "t1"))["status"] == "pending"

    on_stage(scenario)


def test_explain_names_the_reason() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.tasks.create(task_id="t1", requires=[{"name": "cobol"}])
        raw = await stage.document("task", "explain", "t1")
        code = raw["reasons"][0]["code"]
        printed = await stage.hive("task", "explain", "t1")
        assert printed.status == 0
        assert code in printed.stdout

    on_stage(scenario)


def test_what_users_named_cannot_steer_the_terminal() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.tasks.create(task_id="t1", title="\x1b[2Jgone [bold]x[/bold]")
        for words in (("task", "get", "t1"), ("task", "list")):
            printed = await stage.hive(*words)
            assert "\x1b" not in printed.stdout
            assert "[bold]x[/bold]" in printed.stdout

    on_stage(scenario)
