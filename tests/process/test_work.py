"""Agents at work while nodes and agents are killed: everything completes, and no result is accepted twice."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hive_client import Client, Task, TaskFields

from ops.process import ChildProcess
from tests.process.agent_process import DERIVE, DERIVED, derive
from tests.process.running import async_test, until
from tests.process.stage import Stage, cluster_of

pytestmark = pytest.mark.process

GROUP = "work"
TASKS = 240
LEASE_MS = 2_000
STOP_GRACE_S = 10.0


def new_task(number: int) -> TaskFields:
    return {
        "task_id": f"t{number}",
        "type": DERIVE,
        "group_id": GROUP,
        "session_id": GROUP,
        "payload": {"word": f"word {number}"},
        "lease_ms": LEASE_MS,
        "max_attempts": 50,
        "backoff": {"initial_ms": 10, "max_ms": 100},
        # The second half can only begin once its own part of the first half is done.
        "depends_on": [f"t{number - TASKS // 2}"] if number >= TASKS // 2 else [],
    }


@asynccontextmanager
async def agents(stage: Stage, names: list[str]) -> AsyncIterator[dict[str, ChildProcess]]:
    """An agent process for each name. Killed at the end if the test did not stop them."""
    endpoints = ",".join(stage.cluster.endpoints)
    started = {}
    for name in names:
        command = [sys.executable, "-m", "tests.process.agent_process", endpoints, name]
        started[name] = ChildProcess(name, command, stage.data_dir / f"{name}.log")
    try:
        await asyncio.gather(*(agent.start() for agent in started.values()))
        yield started
    finally:
        await asyncio.gather(*(agent.kill() for agent in started.values()))


async def completed(client: Client, count: int) -> None:
    """Wait until so many tasks are completed."""

    async def look() -> bool | None:
        group = await client.groups.get(GROUP)
        return True if group.counts.get("completed", 0) >= count else None

    await until(look)


async def holders(client: Client) -> set[str]:
    """The agents that work on something now."""
    page = await client.tasks.list(group_id=GROUP, status="running", limit=1000, consistency="linearizable")
    return {task.agent_id for task in page.items if task.agent_id is not None}


async def results_recorded(client: Client) -> dict[str, list[int]]:
    """The attempts whose result was recorded, by task."""
    recorded: dict[str, list[int]] = {}
    async for event in client.sessions.iterate_events(GROUP, page_size=1000, consistency="linearizable"):
        assert event.type == DERIVED
        recorded.setdefault(event.data["task_id"], []).append(event.data["attempt"])
    return recorded


async def trouble(stage: Stage, at_work: dict[str, ChildProcess]) -> None:
    """Kill in turn: the leader; an agent that holds tasks, for good; another that comes back; all nodes at once."""
    client = stage.client
    await completed(client, TASKS // 8)
    leader_id = await stage.leader_id()
    await stage.kill(leader_id)
    await completed(client, TASKS * 2 // 8)
    await stage.start(leader_id)

    async def someone_holds() -> str | None:
        return next(iter(await holders(client)), None)

    await at_work[await until(someone_holds)].kill()
    await completed(client, TASKS * 3 // 8)

    back = at_work[next(name for name, agent in at_work.items() if agent.running)]
    await back.kill()
    await back.start()
    await completed(client, TASKS * 4 // 8)

    await stage.kill(*stage.node_ids)
    await stage.start(*stage.node_ids)
    await completed(client, TASKS * 6 // 8)
    follower_id = (await stage.follower_ids())[0]
    await stage.kill(follower_id)
    await stage.start(follower_id)


@async_test(limit_s=120)
async def test_all_work_is_done_and_no_result_is_accepted_twice(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data") as stage:
        client = stage.client
        await client.sessions.create(session_id=GROUP)
        batch = await client.tasks.create_batch([new_task(number) for number in range(TASKS)], atomic=True)
        assert batch.refused == []
        async with agents(stage, ["ann", "bob", "cid"]) as at_work:
            await trouble(stage, at_work)
            await completed(client, TASKS)
            alive = [agent for agent in at_work.values() if agent.running]
            await asyncio.gather(*(agent.stop(STOP_GRACE_S) for agent in alive))
            assert [agent.status for agent in alive] == [0] * len(alive)

        tasks: dict[str, Task] = {}
        async for task in client.tasks.iterate(group_id=GROUP, page_size=1000, consistency="linearizable"):
            tasks[task.task_id] = task
        assert {task.status for task in tasks.values()} == {"completed"}
        assert len(tasks) == TASKS
        accepted = {task_id: [task.result["attempt"]] for task_id, task in tasks.items()}
        assert await results_recorded(client) == accepted
        assert {task_id: task.attempt for task_id, task in tasks.items()} == {
            task_id: attempts[0] for task_id, attempts in accepted.items()
        }
        wrong = [task_id for task_id, task in tasks.items() if task.result["key"] != derive(task.payload["word"])]
        assert wrong == []
        again = sum(task.attempt > 1 for task in tasks.values())
        print(f"\n{TASKS} tasks completed once; {again} of them needed more than one attempt")
        assert again > 0, "agents that held tasks were killed, so some were tried again"
        await stage.converged()
