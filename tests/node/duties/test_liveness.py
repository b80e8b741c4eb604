"""After any trouble everything that can be done gets done: no task stays pending while somebody able is listening."""

from __future__ import annotations

import asyncio

import pytest

from node.duties.clock import settle
from node.duties.settings import DutySettings
from statemachine import audit, limits, task_queries
from statemachine.commands import (
    Backoff,
    ClaimTasks,
    CompleteTasks,
    Completion,
    DeleteAgent,
    NewTask,
    RegisterAgent,
    Requirement,
    SubmitTasks,
)
from statemachine.task_states import ENDED, TaskState
from tests.node.duties.fleet import fleet
from tests.node.duties.troubled_agent import TroubledAgent
from tests.node.duties.troubled_cluster import TroubledCluster

AGENTS = (("outliner", ("outline",), 3), ("linter", ("lint",), 3), ("reporter", ("report", "lint"), 2))
TROUBLE_S = 60
# The longest lease, offers and pauses of the agents once more, the longest probation, and the work itself.
CALM_S_MAX = 180


def submit_tasks(cluster: TroubledCluster, count: int) -> list[str]:
    """Tasks of two kinds, and reports over them in two layers, of higher priority."""
    backoff = Backoff(initial_ms=500, max_ms=2_000)

    def new(task_id: str, kind: str, depends_on: tuple[str, ...] = (), priority: int = 5) -> NewTask:
        return NewTask(
            task_id, requires=(Requirement(kind, 0),), depends_on=depends_on, priority=priority, lease_ms=10_000,
            max_attempts=1_000, backoff=backoff,
        )  # fmt: skip

    files = [new(f"t{number}", ("outline", "lint")[number % 2]) for number in range(count)]
    names = [task.task_id for task in files]
    halves = (tuple(names[: count // 2]), tuple(names[count // 2 :]))
    reports = [new(f"report{number}", "report", half, 8) for number, half in enumerate(halves)]
    last = new("last", "report", ("report0", "report1"), 8)
    hub_dependents = [new(f"after{number}", "outline", ("last",)) for number in range(5)]
    tasks = [*files, *reports, last, *hub_dependents]
    cluster.do(SubmitTasks(tuple(tasks)))
    return [task.task_id for task in tasks]


async def make_trouble(cluster: TroubledCluster, agents: list[TroubledAgent]) -> None:
    """Elections, restarts, unsure leaders, paused agents."""
    dice = cluster.dice
    for _ in range(TROUBLE_S * 2):
        await cluster.clock.advance(0.5)
        what = dice.randrange(24)
        if what == 0:
            cluster.elect(dice.choice([0, 1, 2, None]))
        elif what == 1:
            cluster.restart(dice.randrange(3))
        elif what == 2 and cluster.leader is not None:
            cluster.leader.sure = not cluster.leader.sure
        elif what == 3:
            agent = dice.choice(agents)
            agent.silent_until_s = cluster.clock.monotonic_s() + dice.choice([3, 8, 20])
        elif what == 4:
            await cluster.clock.jump(dice.choice([1, 4]))


async def calm(cluster: TroubledCluster, names: list[str]) -> None:
    """No more trouble: all tasks must end in bounded time."""
    cluster.trouble = 0.0
    if cluster.leader is None:
        cluster.elect(0)
    assert cluster.leader is not None
    cluster.leader.sure = True
    left = names
    for _ in range(CALM_S_MAX):
        await cluster.clock.advance(1)
        left = [name for name in left if cluster.task(name).status not in ENDED]
        if not left:
            return
    shown = [(name, str(cluster.task(name).status)) for name in left[:5]]
    known = [
        (agent.agent_id, cluster.agent(agent.agent_id).liveness, memory.fleet.get(agent.agent_id))  # type: ignore[union-attr]  # for a message
        for duties in cluster.duties
        if duties.leadership is not None and (memory := duties.leadership.memory)
        for agent in memory.fleet
    ]
    pytest.fail(f"{len(left)} tasks were never done: {shown}; {known}")


@pytest.mark.parametrize("seed", range(12))
def test_all_that_can_be_done_is_done_after_trouble(seed: int) -> None:
    async def scenario() -> None:
        cluster = TroubledCluster(seed, DutySettings(lane_tasks_max=8, scan_tasks_max=8, offers_per_batch=4))
        cluster.elect(seed % 3)
        agents = [TroubledAgent(cluster, *agent) for agent in AGENTS]
        running = [asyncio.ensure_future(agent.run()) for agent in agents]
        try:
            names = submit_tasks(cluster, 400)
            cluster.trouble = 0.15
            await make_trouble(cluster, agents)
            await calm(cluster, names)
        finally:
            for agent in running:
                agent.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            cluster.close()
        assert audit.audit(cluster.store) == []
        with cluster.members[0].view() as view:
            assert list(task_queries.held(view)) == [], "and nobody holds anything any more"

    asyncio.run(scenario())


def test_open_poll_is_known_to_the_next_leader() -> None:
    async def scenario() -> None:
        cluster = TroubledCluster(0, DutySettings())
        cluster.elect(0)
        agent = TroubledAgent(cluster, "a1", ("lint",), 1)
        running = asyncio.ensure_future(agent.run())
        await cluster.clock.advance(0.1)
        assert sum("a1" in duties.polls for duties in cluster.duties) == 1
        cluster.elect(1)
        await cluster.clock.advance(0.2)
        cluster.do(SubmitTasks((NewTask("t1"),)))
        await settle()
        assert cluster.task("t1").agent_id == "a1", "without a new poll"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        cluster.close()

    asyncio.run(scenario())


def test_work_left_over_is_done_by_the_next_leader() -> None:
    async def scenario() -> None:
        cluster = TroubledCluster(1, DutySettings())
        cluster.elect(None)
        count = 3 * limits.SIDE_EFFECTS_MAX
        names = [f"after{number}" for number in range(count)]
        cluster.do(SubmitTasks((NewTask("hub"), *(NewTask(name, depends_on=("hub",)) for name in names))))
        epoch = cluster.do(RegisterAgent("a1")).items[0].numbers[0]
        cluster.do(ClaimTasks("a1", epoch, ("hub",), named=True))
        cluster.do(CompleteTasks("a1", (Completion("hub", 1),)))
        assert sum(cluster.task(name).status is TaskState.BLOCKED for name in names) == count - limits.SIDE_EFFECTS_MAX
        cluster.trouble = 0.6
        for leader in (0, None, 1, 2):
            cluster.elect(leader)
            await cluster.clock.advance(0.05)
        await cluster.clock.advance(10)
        assert all(cluster.task(name).status is TaskState.PENDING for name in names)
        cluster.close()

    asyncio.run(scenario())


def test_agents_that_come_and_go_without_ever_polling_leave_nothing_behind() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            for number in range(20):
                agent_id, task_id = f"a{number}", f"t{number}"
                t.register(agent_id)
                t.submit(task_id)
                t.claim(agent_id, task_id)
                t.complete(agent_id, task_id)
                t.do(DeleteAgent(agent_id))
            await t.clock.advance(2)
            leadership = t.duties.leadership
            assert leadership is not None
            assert leadership.memory.fleet.take_changed() == {}

    asyncio.run(scenario())
