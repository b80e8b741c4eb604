from __future__ import annotations

from tests.ops.command_line import Stage, on_stage


def test_get_set_reset() -> None:
    async def scenario(stage: Stage) -> None:
        everything = await stage.document("settings", "get")
        assert everything["revision"] == 0
        assert "provider_cooling_ms" in {one["name"] for one in everything["items"]}
        changed = await stage.document("settings", "set", "avoid_ms=100", "placement.weight.load=0.5")
        assert {one["name"]: one["value"] for one in changed["items"]} == {
            "avoid_ms": 100,
            "placement.weight.load": 0.5,
        }
        (one,) = (await stage.document("settings", "get", "avoid_ms"))["items"]
        assert (one["value"], one["is_set"]) == (100, True)
        table = (await stage.hive("settings", "get")).stdout
        assert "avoid_ms" in table
        (one,) = (await stage.document("settings", "reset", "avoid_ms"))["items"]
        assert one["is_set"] is False

    on_stage(scenario)


def test_what_cannot_be_set_is_said() -> None:
    async def scenario(stage: Stage) -> None:
        for words in (["set", "avoid_ms"], ["set", "avoid_ms=long"], ["set", "no.such=1"], ["reset", "no.such"]):
            assert (await stage.hive("settings", *words)).status == 2
        refused = await stage.hive("settings", "set", "placement.weight.load=7")
        assert refused.status == 1
        assert "placement.weight.load" in refused.stderr

    on_stage(scenario)


def test_reset_learned() -> None:
    async def scenario(stage: Stage) -> None:
        epoch = (await stage.client.agents.register("a1")).epoch
        await stage.client.tasks.create(task_id="t1")
        await stage.client.tasks.claim(agent_id="a1", epoch=epoch)
        await stage.client.tasks.fail("t1", agent_id="a1", attempt=1, reason="error", retryable=False)
        assert (await stage.document("agent", "get", "a1"))["learned_proficiency"] == 0.875
        assert (await stage.document("agent", "reset-learned", "a1", "other"))["learned_proficiency"] == 0.875
        assert (await stage.document("agent", "reset-learned", "a1"))["learned_proficiency"] is None
        assert (await stage.hive("agent", "reset-learned", "nobody")).status == 1

    on_stage(scenario)
