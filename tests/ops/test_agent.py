from __future__ import annotations

from tests.ops.command_line import Stage, on_stage


def test_list_get_drain_delete() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.agents.register("a1", capabilities=[{"name": "python"}], max_concurrent=3)
        await stage.client.agents.register("a2")
        assert {a["agent_id"] for a in (await stage.document("agent", "list"))["items"]} == {"a1", "a2"}
        assert {a["agent_id"] for a in (await stage.document("agent", "list", "--all"))["items"]} == {"a1", "a2"}
        assert (await stage.document("agent", "get", "a1"))["max_concurrent"] == 3
        await stage.document("agent", "drain", "a1")
        await stage.document("agent", "drain", "a1", "--undo")
        drains = [(r.method, r.status) for r in stage.fake.requests if r.path == "/api/agents/a1/drain"]
        assert drains == [("POST", 200), ("DELETE", 200)]
        await stage.document("agent", "delete", "a1")
        assert (await stage.hive("agent", "get", "a1")).status == 1
        assert "a2" in (await stage.hive("agent", "list")).stdout

    on_stage(scenario)
