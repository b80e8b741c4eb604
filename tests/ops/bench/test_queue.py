from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hive_client.testing import FakeHive

from ops.bench.command import phases_of
from ops.bench.queue import Phase, Plan, QueueFigures, run
from ops.bench.queue_calls import BenchAgent, Caller
from ops.bench.queue_decisions import Backlog
from ops.bench.queue_dispatch import DispatchFigures, Sent, combine, figures
from ops.bench.queue_fill import BLOCKED, ITEMS, PENDING, request_body
from ops.bench.queue_lifecycle import Calls, Shape
from ops.bench.queue_tasks import Faults, Ledger, TaskSeen, judge, tasks_of
from ops.edge import CommandError, UsageError
from tests.ops.command_line import hive

SMALL = {
    Calls.SINGLE: Shape(in_flight=8, lot=1, agents=3, slots=4),
    Calls.BATCHES: Shape(in_flight=40, lot=20, agents=3, slots=40),
    Calls.CLAIMS: Shape(in_flight=40, lot=20, agents=3, slots=40),
}


@pytest.mark.process
def test_every_phase_small(tmp_path: Path) -> None:
    said: list[str] = []
    plan = Plan(frozenset(Phase), 300, 20, 0.5, 1, 50.0, warm_up_s=0.1, shapes=SMALL)
    found = asyncio.run(run(tmp_path, plan, said.append))
    assert [one.calls for one in found.lifecycles] == list(Calls)
    for one in found.lifecycles:
        assert one.figures.requests > 0, one
        assert 0 < one.figures.p50_ms <= one.figures.p99_ms
        assert (one.figures.errors, one.faults) == (0, Faults())
        assert one.cores["leader"] > 0
        assert one.node_ms == pytest.approx((one.cores["leader"] + one.cores["followers"]) * 1_000 / one.figures.rate)
    assert [(one.pending, one.by, one.agents) for one in found.decisions] == [(300, "offers", 20), (300, "claims", 20)]
    assert all(one.per_second > 0 for one in found.decisions)
    assert found.backlog is not None
    assert found.backlog.tasks == 300 + 300 * BLOCKED // PENDING
    assert found.backlog.state_bytes > 0
    assert sorted(node.role for node in found.backlog.nodes) == ["follower", "follower", "leader"]
    assert all(node.rss_bytes > 0 for node in found.backlog.nodes)
    assert found.dispatch is not None
    assert found.dispatch.created == 25
    assert 0 < found.dispatch.p50_ms <= found.dispatch.p99_ms <= found.dispatch.worst_ms
    assert (found.dispatch.lost, found.dispatch.doubled, found.dispatch.errors) == (0, 0, 0)
    assert not found.faulty
    document = found.to_json()
    assert document["lifecycles"][0]["calls"] == "single calls"
    assert {"lost", "doubled", "wrong", "rate", "cores"} <= document["lifecycles"][0].keys()
    assert {"p50_ms", "p99_ms", "p999_ms", "late_ms"} <= document["dispatch"].keys()


@pytest.mark.process
def test_one_phase_from_the_command_line(tmp_path: Path) -> None:
    words = ("--phases", "memory", "--pending", "200", "--agents", "2", "--runs", "1", "--data-dir", str(tmp_path))
    printed = hive("bench", "queue", *words, "--json")
    assert printed.status == 0, printed.stderr
    found = printed.document
    assert (found["lifecycles"], found["decisions"], found["dispatch"]) == ([], [], None)
    assert len(found["backlog"]["nodes"]) == 3
    assert "200 tasks pending" in printed.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_phases_are_usage_errors(tmp_path: Path) -> None:
    printed = hive("bench", "queue", "--phases", "lifecycle,nonsense", "--data-dir", str(tmp_path))
    assert printed.status == 2
    assert "--phases" in printed.stderr
    with pytest.raises(UsageError):
        phases_of("")
    assert phases_of("memory, batches") == {Phase.MEMORY, Phase.BATCHES}


# --- the judge --------------------------------------------------------------------------------------------------------


def task(number: int, status: str = "completed", result: int | None = None, completions: int = 1) -> TaskSeen:
    shown = {
        "status": status,
        "payload": {"n": number},
        "result": {"n": number if result is None else result} if status == "completed" else None,
        "history": [{"to": "assigned"}, {"to": "running"}, *[{"to": "completed"}] * completions],
    }
    return msgspec.convert(shown, TaskSeen)


@pytest.mark.parametrize(
    ("acknowledged", "completions", "tasks", "faults"),
    [
        ({1, 2}, {1: 1, 2: 1}, [task(1), task(2)], Faults()),
        ({1, 2}, {1: 1}, [task(1)], Faults(lost=1)),
        ({1}, {1: 1}, [task(1, "running", completions=0)], Faults(lost=1)),
        ({1}, {1: 2}, [task(1)], Faults(doubled=1)),
        ({1}, {1: 1}, [task(1), task(1)], Faults(doubled=1)),
        ({1}, {1: 1}, [task(1, completions=2)], Faults(doubled=1)),
        ({1}, {1: 1}, [task(1, result=7)], Faults(wrong=1)),
        ({1}, {}, [task(1)], Faults(wrong=1)),
        # A creation whose outcome is unknown may be there or not.
        (set(), {}, [], Faults()),
        (set(), {1: 1}, [task(1)], Faults()),
    ],
)
def test_what_was_told_is_compared_with_what_is_there(
    acknowledged: set[int], completions: dict[int, int], tasks: list[TaskSeen], faults: Faults
) -> None:
    assert judge(acknowledged, completions, tasks) == faults
    assert Faults().any is False
    assert QueueFigures().faulty is False
    assert (faults + faults).lost == 2 * faults.lost


def test_a_lot_is_done_with_its_last_task() -> None:
    async def scenario() -> None:
        ledger = Ledger()
        lot, numbers = ledger.open(3)
        again, others = ledger.open(1)
        assert ([*numbers], [*others]) == ([0, 1, 2], [3])
        ledger.completed(0)
        ledger.measuring = True
        ledger.completed(0)
        ledger.completed(1)
        assert not lot.done.done(), "a task that is completed twice counts once"
        ledger.give_up(2)
        assert lot.done.done()
        assert not again.done.done()
        assert ledger.completions == {0: 2, 1: 1}
        assert len(ledger.latencies_ms) == 1

    asyncio.run(scenario())


# --- the agents of the generator --------------------------------------------------------------------------------------


def test_an_agent_takes_offers_and_claims_singly_and_in_batches() -> None:
    async def scenario() -> None:
        async with FakeHive() as fake:
            caller = Caller(fake.url)
            agent = BenchAgent(caller, "a1", 8, ("python",))
            await agent.register()
            first = agent.epoch
            items = [{"type": "x", "payload": {"n": number}} for number in range(6)]
            await caller.require("POST", "/api/tasks/batch", {"items": items})
            claimed = await agent.claim(2, 0)
            assert len(claimed) == 2
            offered = {grant.task_id: grant for grant in await agent.poll(1_000)}
            while len(offered) < 4:
                offered.update((grant.task_id, grant) for grant in await agent.poll(1_000))
            one, *others = offered.values()
            assert await agent.accept(one)
            assert await agent.complete(one)
            assert await agent.accept_batch(others) == others
            stale = [type(grant)(grant.task_id, 9, grant.payload) for grant in others[:1]]
            assert not await agent.accept(stale[0])
            assert await agent.complete_batch([*claimed, *others, *stale]) == [*claimed, *others]
            assert await agent.complete_batch([]) == []
            seen = await tasks_of(caller.require, "x")
            numbers = dict.fromkeys(range(6), 1)
            assert judge(numbers, numbers, seen) == Faults()
            await agent.register()
            assert agent.epoch > first
            await agent.leave()
            await agent.leave()
            assert caller.errors == 0
            with pytest.raises(CommandError, match="HTTP 404"):
                await agent.poll(0)
            caller.close()

    asyncio.run(scenario())


def test_a_node_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.bench.queue_calls.TRIES_MAX", 2)
    monkeypatch.setattr("ops.bench.queue_calls.RETRY_S", 0.0)

    async def scenario() -> None:
        caller = Caller("http://127.0.0.1:1")
        with pytest.raises(CommandError, match="not answered"):
            await caller.require("GET", "/livez")
        assert caller.errors == 2

    asyncio.run(scenario())


# --- the backlog ------------------------------------------------------------------------------------------------------


def test_a_batch_has_all_priorities_capabilities_and_dependencies() -> None:
    items = request_body(5_000, PENDING)["items"]
    assert len(items) == ITEMS
    pending = [item for item in items if "depends_on" not in item]
    assert [item["payload"]["n"] for item in pending] == [*range(5_000, 5_000 + PENDING)]
    assert {item["priority"] for item in pending} == set(range(10))
    wants = [tuple(need["name"] for need in item.get("requires", ())) for item in pending]
    assert {*wants} == {(), ("python",), ("rust",)}
    ids = {item["task_id"] for item in pending if "task_id" in item}
    blocked = [item for item in items if "depends_on" in item]
    assert len(blocked) == BLOCKED
    assert {needed for item in blocked for needed in item["depends_on"]} == ids
    assert len(request_body(0, 1)["items"]) == 1


def test_levels_and_decisions_are_the_same_at_each() -> None:
    whole = Backlog(1_000_000, 10_000, 3)
    assert whole.levels == [10_000, 100_000, 1_000_000]
    assert whole.decided == 5_000
    assert replace(whole, decisions=False).levels == [1_000_000]
    assert (Backlog(50, 20, 1).levels, Backlog(50, 20, 1).decided) == ([50], 10)
    assert Backlog(10_000, 3, 1).levels == [10_000]


# --- dispatch ---------------------------------------------------------------------------------------------------------


def test_dispatch_counts_what_was_lost_and_doubled() -> None:
    sent = Sent(acknowledged=[0, 1, 2], late_ms=[0.1, 0.2, 0.3], errors=1)
    handled = [(-1, 9_000_000), (0, 1_000), (1, 3_000), (1, 5_000)]
    found = figures(100.0, sent, handled, {"leader": 0.5})
    assert (found.created, found.errors, found.lost, found.doubled) == (3, 1, 1, 1)
    assert (found.p50_ms, found.worst_ms) == (3.0, 5.0), "what warmed up is not measured"
    assert QueueFigures(dispatch=found).faulty
    other = replace(found, p50_ms=5.0, lost=0, cores={"leader": 0.7})
    both: DispatchFigures = combine([found, other])
    assert (both.p50_ms, both.lost, both.created) == (4.0, 1, 6)
    assert both.cores["leader"] == pytest.approx(0.6)
