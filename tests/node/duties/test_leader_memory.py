"""Memory that followed every notice knows what memory built anew from the state knows."""

from __future__ import annotations

import asyncio
import random

import pytest

from cluster.replica import Notice
from node.duties import state_reads
from node.duties.clock import settle
from node.duties.leader_memory import LeaderMemory
from node.duties.messages import Running
from statemachine import budget_record
from statemachine.commands import (
    AcceptTasks,
    CancelTask,
    ClaimTasks,
    CompleteTasks,
    Completion,
    DeleteAgent,
    DeleteBudget,
    DrainAgent,
    FailTasks,
    Failure,
    Held,
    NewTask,
    Park,
    ParkTasks,
    PathLock,
    PutBudget,
    Release,
    ReleaseTasks,
    Requirement,
    ResetBudget,
    ResetLearned,
    ResumeTasks,
    Resumption,
    RetryTask,
    SubmitTasks,
    UpdateSettings,
    UpdateTask,
)
from tests.node.duties.fleet import FleetTest, fleet

AGENTS = ("a0", "a1", "a2")
USAGE = (3, 4, 0)
VERBS = (AcceptTasks, CompleteTasks, FailTasks, ReleaseTasks, ParkTasks)


def _attempt(t: FleetTest, task_id: str, dice: random.Random) -> tuple[str, int]:
    """The holder's name and attempt, mostly; sometimes wrong ones."""
    task = t.task(task_id)
    if dice.random() < 0.1:
        return dice.choice(AGENTS), task.attempt - 1
    return task.agent_id or dice.choice(AGENTS), task.attempt


async def _step(t: FleetTest, dice: random.Random, tasks: list[str]) -> None:
    choice = dice.randrange(14)
    known = dice.choice(tasks) if tasks else None
    if choice <= 1 or known is None:
        task_id = f"t{len(tasks)}"
        requires = (Requirement("python", dice.choice([0, 6_000])),) if dice.random() < 0.3 else ()
        delay_ms = dice.choice([None, None, 1_000])
        deadline_in_ms = dice.choice([None, None, None, 9_000])
        new = NewTask(
            task_id,
            queue=dice.choice(["q0", "q1"]),
            priority=dice.randrange(10),
            requires=requires,
            delay_ms=delay_ms,
            deadline_in_ms=deadline_in_ms,
            lease_ms=dice.choice([2_000, 60_000]),
            depends_on=(known,) if known and dice.random() < 0.2 else (),
            concurrency_key=dice.choice([None, None, None, "k"]),
            session_id=dice.choice([None, "s0", "s1"]),
            locks=tuple(
                PathLock(dice.choice(["a", "b", "*"]), dice.random() < 0.5) for _ in range(dice.choice([0, 0, 1]))
            ),
        )
        t.do(SubmitTasks((new,)))
        tasks.append(task_id)
    elif choice <= 4:
        agent_id, attempt = _attempt(t, known, dice)
        kind = dice.choice(VERBS)
        items = {
            AcceptTasks: Held(known, attempt),
            CompleteTasks: Completion(known, attempt, usage=USAGE),
            FailTasks: Failure(known, attempt, "error", "", retryable=True, usage=USAGE, random=dice.getrandbits(32)),
            ReleaseTasks: Release(known, attempt),
            ParkTasks: Park(known, attempt, "approval", "plan", usage=USAGE),
        }
        t.do(kind(agent_id, (items[kind],)))  # type: ignore[arg-type]  # each kind takes its own items
    elif choice == 5 and dice.random() < 0.5:
        t.try_do(ResumeTasks((Resumption(known, "plan"),)))
    elif choice == 5:
        t.try_do(CancelTask(known))
    elif choice == 6:
        t.try_do(RetryTask(known))
    elif choice == 7:
        t.try_do(UpdateTask(known, ("priority",), priority=dice.randrange(10)))
        t.try_do(UpdateTask(known, ("not_before",), not_before=dice.choice([None, t.clock.now_ms() + 2_000])))
    elif choice == 8:
        agent_id = dice.choice(AGENTS)
        t.try_do(ClaimTasks(agent_id, t.epoch(agent_id), (known,), named=True))
    elif choice == 9:
        await _change_agent(t, dice)
    elif choice == 10:
        agent_id = dice.choice(AGENTS)
        if t.epoch(agent_id):
            await t.poll(agent_id, Running(known, t.task(known).attempt), wait_ms=dice.choice([500, 20_000]))
    elif choice <= 12:
        _change_budget(t, dice)
    else:
        await t.clock.advance(dice.choice([0.3, 1.0, 3.0, 7.0]))


def _change_budget(t: FleetTest, dice: random.Random) -> None:
    scope, name = dice.choice(
        [("project", "default"), ("session", "s0"), ("session", "s0"), ("session", "s1"), ("agent", "a0")]
    )
    kind = dice.choice(["put", "put", "reset", "delete"])
    if kind == "put":
        most, reserve = dice.choice([(None, 0), (0, 0), (7, 0), (60, 10), (60, 30)])
        t.try_do(PutBudget(scope, name, most, reserve_tokens=reserve))
    else:
        t.try_do(ResetBudget(scope, name) if kind == "reset" else DeleteBudget(scope, name))


async def _change_agent(t: FleetTest, dice: random.Random) -> None:
    agent_id = dice.choice(AGENTS)
    if dice.random() < 0.2:
        t.try_do(DeleteAgent(agent_id))
    elif dice.random() < 0.1:
        t.try_do(ResetLearned(agent_id))
    elif dice.random() < 0.1:
        setting = dice.choice(["placement.weight.load", "avoid_ms", "provider_cooling_ms"])
        t.try_do(UpdateSettings(((setting, dice.choice([None, 100, 9_000])),)))
    elif dice.random() < 0.3:
        t.try_do(DrainAgent(agent_id, draining=dice.random() < 0.5))
    else:
        t.register(agent_id, ("python", 7_000), slots=dice.randrange(1, 4), instance=dice.choice(["i", "j"]))


def _known(memory: LeaderMemory) -> tuple[object, ...]:
    memory.learn()
    holdings = {item.key: (item.agent_id, item.attempt, item.status, item.term_s) for item in memory.holdings}
    agents = {
        agent.agent_id: (
            agent.epoch,
            agent.liveness,
            agent.draining,
            agent.max_concurrent,
            agent.capabilities,
            agent.projects,
            (agent.number, agent.success, agent.rates, agent.cost_micro),
            memory.fleet.slots_used(agent),
        )
        for agent in memory.fleet
    }
    return holdings, agents, memory.settings, memory.fleet.weights


def _pending(memory: LeaderMemory) -> dict[str | None, list[tuple[object, int]]]:
    """What can be had now and needs no locks, in order by session: whose turn it is among sessions is not for a new
    leader to know, and so who comes first of those that want the same files."""
    found: dict[str | None, list[tuple[object, int]]] = {}
    while True:
        found.clear()
        memory.budgets.begin()
        for task in memory.pending.in_order(lambda _: True):
            if not task.locks and task.strand is not None:
                found.setdefault(task.strand.run.session, []).append((task.key, task.attempt))
        if not memory.pending.unfinished:
            return found


def _give_away(memory: LeaderMemory) -> None:
    """All that can be had; then nobody is left who waits for the locks of another."""
    # Tasks of a key are read again and again: the state has them still.
    for _ in range(50):
        memory.budgets.begin()
        for task in memory.pending.in_order(lambda _: True):
            memory.pending.reserve(task, 1e9)
            memory.pending.drop(task.key)
    assert len(memory.pending.locks) == 0


def _budgets(t: FleetTest, memory: LeaderMemory) -> tuple[object, ...]:
    """Which budgets are known, and which agents have none left; with nothing under way."""
    with t.replica.view() as view:
        there = {(one.scope, one.project, one.id) for _, one in budget_record.everything(view)}
    known = {place for place in there if place in memory.budgets}
    return bool(memory.budgets), known == there, [agent for agent in AGENTS if memory.budgets.exhausted(agent)]


@pytest.mark.parametrize("seed", range(12))
def test_followed_is_rebuilt(seed: int) -> None:
    async def scenario() -> None:
        dice, tasks = random.Random(seed), list[str]()
        async with fleet() as t:
            for agent_id in AGENTS:
                t.register(agent_id, ("python", 7_000), slots=2)
            for _ in range(120):
                await _step(t, dice, tasks)
                await settle()
            t.audit()
            leadership = t.duties.leadership
            assert leadership is not None
            await t.clock.advance(5)
            memory = leadership.memory
            fresh = LeaderMemory(t.replica.view, memory.clock, t.settings)
            assert _known(memory) == _known(fresh)
            with t.replica.view() as view:
                holders = {(task.project, task.task_id) for task in state_reads.lock_holders(view)}
            keys = {(task.project, task_id) for task_id in tasks if (task := t.task(task_id)).locks}
            for one in (memory, fresh):
                assert {key for key in keys if one.pending.locks.holds(key)} == holders
            memory.pending.lapse(1e9)
            assert _budgets(t, memory) == _budgets(t, fresh)
            assert _pending(memory) == _pending(fresh)
            for one in (memory, fresh):
                for key in holders:
                    one.pending.locks.let_go(key)
                _give_away(one)

    asyncio.run(scenario())


def test_snapshot_that_jumps_is_read_anew() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1", slots=2)
            t.submit("t1", "t2")
            t.claim("a1", "t1")
            leadership = t.duties.leadership
            assert leadership is not None
            leadership.memory.follow(Notice(9, 1, 1, 9, t.clock.now_ms(), gap=True))
            assert [item.key for item in leadership.memory.holdings] == [("default", "t1")]
            assert _pending(leadership.memory) == {None: [(("default", "t2"), 0)]}

    asyncio.run(scenario())
