"""Who gets a task: learned proficiency, affinity, cost, cooling providers, who failed; and how much each weighs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from node.duties.clock import settle
from node.duties.messages import ExplainReply, ExplainRequest
from node.duties.scoring import PARTS
from node.duties.settings import DutySettings
from statemachine.commands import (
    Capability,
    CompleteTasks,
    Completion,
    FailTasks,
    Failure,
    RegisterAgent,
    Requirement,
    ResetLearned,
    UpdateSettings,
)
from tests.node.duties.fleet import FleetTest, fleet

PY = (Requirement("py"),)


def with_fleet(step: Callable[[FleetTest], Awaitable[None]], settings: DutySettings | None = None) -> None:
    async def whole() -> None:
        async with fleet(settings) as t:
            await step(t)

    asyncio.run(whole())


def register(t: FleetTest, agent_id: str, *labels: str, py: int = 10_000, slots: int = 1) -> None:
    capabilities = (Capability("py", py),)
    t.do(RegisterAgent(agent_id, capabilities=capabilities, max_concurrent=slots, instance_id="i", label_names=labels))


async def listen(t: FleetTest, *agent_ids: str) -> None:
    for agent_id in agent_ids:
        if agent_id not in t.duties.polls:
            await t.poll(agent_id)


async def given(t: FleetTest, task_id: str, **fields: object) -> str | None:
    """Submit a task -> whom it is offered to."""
    t.submit(task_id, **fields)
    await settle()
    return t.task(task_id).agent_id


def fail(t: FleetTest, task_id: str, reason: str = "error", *, retryable: bool = False) -> None:
    task = t.task(task_id)
    assert task.agent_id is not None
    failure = Failure(task_id, task.attempt, reason, "", retryable, None, 1 << 31)
    t.verb(FailTasks(task.agent_id, (failure,)))


def complete(t: FleetTest, task_id: str, cost_micro: int = 0) -> None:
    task = t.task(task_id)
    assert task.agent_id is not None
    t.verb(CompleteTasks(task.agent_id, (Completion(task_id, task.attempt, usage=(0, 0, cost_micro)),)))


def change(t: FleetTest, **values: int | None) -> None:
    t.do(UpdateSettings(tuple(values.items())))


async def explained(t: FleetTest, task_id: str) -> ExplainReply:
    return await t.duties.calls.explain(ExplainRequest("default", task_id), 1.0)


# --- learned ----------------------------------------------------------------------------------------------------------


def test_who_fails_at_something_comes_after_those_who_do_not_until_that_is_forgotten() -> None:
    async def step(t: FleetTest) -> None:
        for name in ("a1", "a2"):
            register(t, name)
        await listen(t, "a1", "a2")
        assert await given(t, "t0", requires=PY) == "a1"
        fail(t, "t0")
        order = []
        for number in range(1, 5):
            await listen(t, "a1", "a2")
            order.append(await given(t, f"t{number}", requires=PY))
            complete(t, f"t{number}")
        assert order == ["a2"] * 4
        t.do(ResetLearned("a1"))
        await listen(t, "a1", "a2")
        assert await given(t, "t5", requires=PY) == "a1", "trusted again, and not used for longest"

    with_fleet(step)


def test_what_an_agent_is_bad_at_counts_for_that_alone() -> None:
    async def step(t: FleetTest) -> None:
        change(t, **{"placement.weight.success": 0})
        for name in ("a1", "a2"):
            t.register(name, ("py", 10_000), ("go", 10_000), slots=9)
        await listen(t, "a1", "a2")
        assert await given(t, "t0", requires=PY) == "a1"
        fail(t, "t0")
        await listen(t, "a1", "a2")
        assert await given(t, "t1", requires=PY) == "a2"
        complete(t, "t1")
        await listen(t, "a1", "a2")
        assert await given(t, "t2", requires=(Requirement("go"),)) == "a1"

    with_fleet(step)


def test_the_cheaper_of_two_equals() -> None:
    async def step(t: FleetTest) -> None:
        for name in ("a1", "a2"):
            register(t, name)
        for number, cost_micro in enumerate((900_000, 100_000)):
            await listen(t, "a1", "a2")
            assert await given(t, f"t{number}", requires=PY) == f"a{number + 1}"
            complete(t, f"t{number}", cost_micro)
        await listen(t, "a1", "a2")
        assert await given(t, "t3", requires=PY) == "a2", "a1 was not used for longer, but costs nine times as much"
        shown = {found.agent_id: found.parts for found in (await explained(t, "t3")).candidates}
        assert shown["a1"]["cost"] == 0.1

    with_fleet(step)


# --- affinity ---------------------------------------------------------------------------------------------------------


def test_a_task_goes_where_its_repository_branch_or_session_is_known() -> None:
    async def step(t: FleetTest) -> None:
        names = [f"a{number}" for number in range(6)]
        for name in names:
            register(t, name, slots=4)
        main, other, third = (b'{"repository":"hive","branch":"%s"}' % name for name in (b"main", b"other", b"third"))
        await listen(t, *names)
        first = await given(t, "t0", labels=main)
        assert first == "a0"
        t.accept("a0", "t0")
        for number, labels in enumerate((main, other)):
            await listen(t, *names)
            assert await given(t, f"b{number}", labels=labels) == ("a0", "a1")[number]
            t.accept(f"a{number}", f"b{number}")
        t.do(UpdateSettings((("placement.weight.load", 0),)))
        await listen(t, *names)
        assert await given(t, "b2", labels=third) == "a0", "it knows the repository, and was not used for longer"
        await listen(t, *names)
        assert await given(t, "b3") == "a2", "a task that belongs nowhere"
        shown = {found.agent_id: found.parts for found in (await explained(t, "b2")).candidates}
        assert {name: parts["affinity"] for name, parts in shown.items() if parts["affinity"]} == {"a0": 0.5, "a1": 0.5}
        change(t, **{"placement.weight.affinity": 0})
        await listen(t, *names)
        assert await given(t, "b4", labels=main) == "a3", "weights hold from the next decision on"

    with_fleet(step)


def test_affinity_gives_way_to_what_weighs_more_and_to_no_room() -> None:
    async def step(t: FleetTest) -> None:
        register(t, "far", py=10_000)
        register(t, "near", py=2_000)
        await listen(t, "near")
        assert await given(t, "t0", requires=PY, session_id="s") == "near"
        t.accept("near", "t0")
        await listen(t, "near", "far")
        assert await given(t, "t1", requires=PY, session_id="s") == "far", "the near one has no slot"
        for name, agent_id in (("t0", "near"), ("t1", "far")):
            t.complete(agent_id, name)
        await listen(t, "near", "far")
        assert await given(t, "t2", requires=PY, session_id="s") == "far", "0.35 * 0.8 is more than 0.2"

    with_fleet(step)


def test_a_new_leader_knows_the_places_of_what_is_held() -> None:
    async def step(t: FleetTest) -> None:
        for name in ("a1", "a2"):
            register(t, name, slots=2)
        t.submit("t0", session_id="s")
        t.claim("a2", "t0")
        t.replica.follow()
        t.replica.lead()
        await settle()
        change(t, **{"placement.weight.load": 0})
        await listen(t, "a1", "a2")
        assert await given(t, "t1", session_id="s") == "a2"

    with_fleet(step)


# --- who failed -------------------------------------------------------------------------------------------------------


def test_the_next_attempt_goes_to_another_and_back_at_once_when_there_is_none() -> None:
    async def step(t: FleetTest) -> None:
        for name in ("a1", "a2"):
            register(t, name)
        await listen(t, "a1")
        assert await given(t, "t0", requires=PY) == "a1"
        fail(t, "t0", retryable=True)
        await listen(t, "a1")
        await t.clock.advance(1.5)
        assert t.status("t0") == "pending", "a2 is there, it may listen any moment"
        assert (await explained(t, "t0")).filtered == {"avoided": 1}
        await listen(t, "a2")
        await settle()
        assert t.task("t0").agent_id == "a2"
        register(t, "alone", "only=me")
        await listen(t, "alone")
        assert await given(t, "t1", requires=(Requirement("only=me"),)) == "alone"
        fail(t, "t1", retryable=True)
        await listen(t, "alone")
        await t.clock.advance(1.1)
        assert t.task("t1").agent_id == "alone", "its back-off is over"

    with_fleet(step)


# --- providers --------------------------------------------------------------------------------------------------------


def test_a_provider_that_limits_rates_is_left_alone_and_comes_back_by_itself() -> None:
    async def step(t: FleetTest) -> None:
        register(t, "a1", "provider=acme", slots=2)
        register(t, "a2", "provider=acme")
        await listen(t, "a1", "a2")
        assert await given(t, "t0") == "a1"
        fail(t, "t0", "rate_limited", retryable=True)
        await listen(t, "a1", "a2")
        await t.clock.advance(5)
        assert t.status("t0") == "pending"
        assert await given(t, "t1") is None
        assert (await explained(t, "t1")).filtered == {"cooling": 2}
        assert t.claim("a2", "t1") == 1, "who asks itself is let"
        t.submit("t2")
        register(t, "b1", "provider=other")
        await listen(t, "b1")
        await settle()
        assert t.task("t0").agent_id == "b1", "another provider is not meant"
        await t.clock.advance(26)
        assert t.task("t2").agent_id == "a1", "bid anew by the clock alone"
        assert t.agent("a1").liveness == "online"

    with_fleet(step)


def test_cooling_follows_the_replicated_setting() -> None:
    async def step(t: FleetTest) -> None:
        register(t, "a1", "provider=acme", slots=9)
        change(t, provider_cooling_ms=0)
        await listen(t, "a1")
        assert await given(t, "t0") == "a1"
        fail(t, "t0", "rate_limited")
        await listen(t, "a1")
        assert await given(t, "t1") == "a1"
        change(t, provider_cooling_ms=100_000)
        fail(t, "t1", "rate_limited")
        await listen(t, "a1")
        assert await given(t, "t2") is None
        change(t, provider_cooling_ms=0)
        await t.clock.advance(0.6)
        assert t.task("t2").agent_id == "a1", "off is off at once"

    with_fleet(step)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_start_options_hold_until_a_setting_says_otherwise() -> None:
    async def step(t: FleetTest) -> None:
        register(t, "a1", slots=9)
        for number, wanted in enumerate((2_000, 700, 2_000)):
            if number:
                change(t, offer_timeout_ms=700 if number == 1 else None)
            await listen(t, "a1")
            assert await given(t, f"t{number}") == "a1"
            assert t.task(f"t{number}").grant_ms == wanted
            t.accept("a1", f"t{number}")

    with_fleet(step, DutySettings(offer_timeout_ms=2_000))


def test_a_new_leader_has_the_settings_and_a_label_is_a_capability() -> None:
    async def step(t: FleetTest) -> None:
        change(t, offer_timeout_ms=900, **{"placement.weight.cost": 0})
        t.replica.follow()
        t.replica.lead()
        await settle()
        register(t, "a1", "gpu=h100")
        register(t, "a2", "gpu=a100")
        await listen(t, "a1", "a2")
        assert await given(t, "t0", requires=(Requirement("gpu=a100", 10_000),)) == "a2"
        assert t.task("t0").grant_ms == 900
        t.submit("t1", requires=(Requirement("gpu=none"),))
        reply = await explained(t, "t1")
        assert (reply.filtered, reply.candidates) == ({"capability": 2}, ())

    with_fleet(step)


def test_explain_shows_every_part_and_the_score_is_their_weighted_sum() -> None:
    async def step(t: FleetTest) -> None:
        register(t, "a1", py=8_000, slots=4)
        t.submit("t0", requires=PY)
        (found,) = (await explained(t, "t0")).candidates
        assert set(found.parts) == {*PARTS, "listening"}
        weights = (0.35, 0.25, 0.2, 0.1, 0.1)
        expected = sum(weight * found.parts[part] for weight, part in zip(weights, PARTS, strict=True))
        assert abs(found.score - expected) < 1e-9
        assert found.parts["proficiency"] == 0.8

    with_fleet(step)


def test_removed_after_a_time_that_is_set_while_the_leader_runs() -> None:
    async def step(t: FleetTest) -> None:
        register(t, "a1")
        t.submit("t0")
        t.claim("a1", "t0")
        t.complete("a1", "t0")
        await t.clock.advance(3)
        assert t.status("t0") == "completed"
        change(t, ended_tasks_kept_ms=1_000)
        await t.clock.advance(3)
        with t.replica.view() as view:
            assert not [key for key, _ in view.scan(b"T", b"U")]

    with_fleet(step, DutySettings(retention_interval_ms=1_000))
