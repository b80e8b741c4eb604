from __future__ import annotations

from tests.ops.command_line import Stage, on_stage


def test_set_list_show_reset_delete() -> None:
    async def scenario(stage: Stage) -> None:
        made = await stage.document("budget", "set", "session", "s1", "--max-tokens", "100", "--reserve-tokens", "10")
        assert (made["max_tokens"], made["reserve_tokens"], made["max_cost_usd"]) == (100, 10, None)
        own = await stage.document("budget", "set", "project", "--max-cost-usd", "0")
        assert (own["id"], own["max_cost_usd"], own["exceeded"]) == ("default", 0.0, True)
        await stage.document("budget", "set", "agent", "a1")
        await stage.document("budget", "set", "project", "--max-cost-usd", "2.5")
        await stage.client.tasks.create(task_id="t1", session_id="s1")
        epoch = (await stage.client.agents.register("a1")).epoch
        await stage.client.tasks.claim(agent_id="a1", epoch=epoch)
        usage = {"input_tokens": 30, "output_tokens": 5, "cost_usd": 0.5}
        await stage.client.tasks.complete("t1", agent_id="a1", attempt=1, usage=usage)
        listed = await stage.document("budget", "list")
        assert [(b["scope"], b["spent"]["tokens"]) for b in listed["items"]] == [
            ("project", 35), ("session", 35), ("agent", 35),
        ]  # fmt: skip
        assert await stage.document("budget", "list", "--all", "--scope", "agent") == {
            "items": [listed["items"][2]],
            "next_cursor": None,
        }
        assert (await stage.document("budget", "list", "--exceeded"))["items"] == []
        table = (await stage.hive("budget", "list")).stdout
        assert "###....... 35 %" in table
        assert "##........ 20 %" in table
        assert "0.50" in table
        shown = (await stage.hive("budget", "show", "session", "s1")).stdout
        assert "tokens=35" in shown
        assert "###....... 35 %" in shown
        assert (await stage.document("budget", "show", "session", "s1"))["left"]["tokens"] == 65
        assert (await stage.document("budget", "reset", "session", "s1"))["spent"]["tokens"] == 0
        gone = await stage.document("budget", "delete", "session", "s1")
        assert (gone["id"], gone["deleted"]) == ("s1", True)
        assert (await stage.hive("budget", "show", "session", "s1")).status == 1

    on_stage(scenario)


def test_what_is_wrong_is_said() -> None:
    async def scenario(stage: Stage) -> None:
        assert (await stage.hive("budget", "set", "session")).status == 2
        assert (await stage.hive("budget", "set", "queue", "q")).status == 2
        assert (await stage.hive("budget", "set", "session", "s", "--max-tokens", "-1")).status == 2
        refused = await stage.hive("budget", "set", "session", "s", "--max-tokens", "1", "--reserve-tokens", "2")
        assert refused.status == 1
        assert "reserve_tokens" in refused.stderr
        made = await stage.document("budget", "set", "session", "s", "--if-revision", "0")
        stale = await stage.hive("budget", "set", "session", "s", "--max-tokens", "1", "--if-revision", "0")
        assert stale.status == 1
        revision = str(made["revision"])
        changed = await stage.document("budget", "set", "session", "s", "--max-tokens", "1", "--if-revision", revision)
        assert changed["revision"] > made["revision"]

    on_stage(scenario)
