"""After any trouble everything that can be done gets done: no task stays pending while somebody able is listening."""

from __future__ import annotations

import asyncio

import pytest

from node.duties.settings import DutySettings
from statemachine import audit, task_queries
from statemachine.commands import Backoff, NewTask, Requirement, SubmitTasks
from statemachine.task_states import ENDED
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
