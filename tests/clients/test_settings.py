"""Replicated settings and what agents learned, through the client, against the fake."""

from __future__ import annotations

from hive_client import Client, Conflict, InvalidRequest, NotFound
from hive_client.testing import FakeHive, ManualClock
from hive_client.testing.settings_book import KNOWN

from statemachine.settings import SETTINGS
from tests.clients.running import async_test, raised

LOAD = "placement.weight.load"


@async_test
async def test_get_update_reset() -> None:
    client = FakeHive(ManualClock()).client()
    fresh = await client.settings.get()
    assert (fresh.revision, fresh[LOAD].value, fresh[LOAD].is_set) == (0, 0.25, False)
    changed = await client.settings.update({LOAD: 0.5, "avoid_ms": 10}, if_revision=0)
    assert (changed[LOAD].value, changed[LOAD].default, changed["avoid_ms"].value) == (0.5, 0.25, 10)
    await raised(client.settings.update({LOAD: 1.0}, if_revision=0), Conflict)
    reset = await client.settings.reset([LOAD])
    assert [setting.name for setting in reset.items if setting.is_set] == ["avoid_ms"]
    for name, value in (("no.such", 1), (LOAD, 2), ("avoid_ms", 0.5)):
        problem = await raised(client.settings.update({name: value}), InvalidRequest)
        assert problem.errors[0]["path"] == name
    assert (await client.settings.get()).revision == reset.revision


def test_the_fake_knows_the_settings_there_are() -> None:
    scales = {"ratio": 10_000, "usd": 1_000_000}
    assert {name: known.unit for name, known in KNOWN.items()} == {name: one.kind for name, one in SETTINGS.items()}
    for name, known in KNOWN.items():
        scale, real = scales.get(known.unit, 1), SETTINGS[name]
        figures = [round(figure * scale) for figure in (known.default, known.least, known.most)]
        assert figures == [real.default, real.least, real.most]


async def run(client: Client, task_id: str, *, well: bool) -> None:
    await client.tasks.create(task_id=task_id, requires=[{"name": "gpu=a100"}])
    epoch = (await client.agents.get("a1")).epoch
    (grant,) = (await client.tasks.claim(agent_id="a1", epoch=epoch)).items
    if well:
        await client.tasks.complete(task_id, agent_id="a1", attempt=grant.attempt)
    else:
        await client.tasks.fail(task_id, agent_id="a1", attempt=grant.attempt, reason="error", retryable=False)


@async_test
async def test_learned_is_shown_and_reset_and_a_label_is_a_capability() -> None:
    client = FakeHive(ManualClock()).client()
    await client.agents.register("a1", labels={"gpu": "a100"})
    await run(client, "t1", well=True)
    await run(client, "t2", well=False)
    assert [one.agent_id for one in (await client.agents.list(capability="gpu=a100")).items] == ["a1"]
    assert (await client.agents.list(capability="gpu")).items == []
    agent = await client.agents.get("a1")
    assert [(one.name, one.proficiency, one.attempts) for one in agent.learned] == [("gpu=a100", 0.875, 2)]
    assert agent.learned_proficiency == 0.875
    assert (await client.agents.reset_learned("a1", ["other"])).learned == agent.learned
    assert (await client.agents.reset_learned("a1", ["gpu=a100"])).learned_proficiency == 0.875
    await run(client, "t3", well=False)
    reset = await client.agents.reset_learned("a1")
    assert (reset.learned, reset.learned_proficiency) == ([], None)
    await raised(client.agents.reset_learned("nobody"), NotFound)
