"""Agents at work while nodes and agents are killed: everything completes, and no result is accepted twice."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hive_client import Client, Task, TaskFields

from ops.process import ChildProcess
from tests.process.agent_process import DERIVE, DERIVED, GATES, MAX_CONCURRENT, derive
from tests.process.running import async_test, show, until
from tests.process.stage import Stage, cluster_of

pytestmark = pytest.mark.process

GROUP = "work"
AGENTS = ("ann", "bob", "cid")
STAGES = 5
TASKS_PER_STAGE = len(AGENTS) * MAX_CONCURRENT
TASKS = STAGES * TASKS_PER_STAGE
LEASE_MS = 2_000
STOP_GRACE_S = 10.0


def new_task(number: int) -> TaskFields:
    """Waits at the gate of its stage, and for the whole stage before: no agent waits at a gate too early."""
    stage = number // TASKS_PER_STAGE
    return {
        "task_id": f"t{number}",
        "type": DERIVE,
        "group_id": GROUP,
        "session_id": GROUP,
        "payload": {"word": f"word {number}", "gate": stage + 1},
        "lease_ms": LEASE_MS,
        "max_attempts": 50,
        "backoff": {"initial_ms": 10, "max_ms": 100},
        "depends_on": [f"t{before}" for before in range((stage - 1) * TASKS_PER_STAGE, stage * TASKS_PER_STAGE)]
        if stage
        else [],
    }


@asynccontextmanager
async def agents(stage: Stage, names: Sequence[str]) -> AsyncIterator[dict[str, ChildProcess]]:
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


async def held_by(client: Client, count: int) -> list[str]:
    """Wait until so many tasks are being worked on; the agents that do."""

    async def look() -> list[str] | None:
        page = await client.tasks.list(group_id=GROUP, status="running", limit=1000, consistency="linearizable")
        return [str(task.agent_id) for task in page.items] if len(page.items) >= count else None

    return await until(look)


async def open_gate(client: Client, gate: int) -> None:
    """Let this stage be finished, and wait until it is."""
    await client.sessions.append(GATES, type="custom.open")

    async def look() -> bool | None:
        group = await client.groups.get(GROUP)
        return True if group.counts.get("completed", 0) == gate * TASKS_PER_STAGE else None

    await until(look)


async def results_recorded(client: Client) -> dict[str, list[int]]:
    """The attempts whose result was recorded, by task."""
    recorded: dict[str, list[int]] = {}
    async for event in client.sessions.iterate_events(GROUP, page_size=1000, consistency="linearizable"):
        assert event.type == DERIVED
        recorded.setdefault(event.data["task_id"], []).append(event.data["attempt"])
    return recorded


async def trouble(stage: Stage, at_work: dict[str, ChildProcess]) -> None:
    """While agents hold tasks, kill in turn: the leader; an agent, for good; one that comes back; all nodes."""
    client = stage.client
    await held_by(client, TASKS_PER_STAGE)
    leader_id = await stage.leader_id()
    await stage.kill(leader_id)
    await open_gate(client, 1)
    await stage.start(leader_id)

    dead = (await held_by(client, TASKS_PER_STAGE))[0]
    await at_work[dead].kill()
    await open_gate(client, 2)

    slots = TASKS_PER_STAGE - MAX_CONCURRENT
    back = (await held_by(client, slots))[0]
    await at_work[back].kill()
    await at_work[back].start()
    await open_gate(client, 3)

    await held_by(client, slots)
    await stage.kill(*stage.node_ids)
    await stage.start(*stage.node_ids)
    await open_gate(client, 4)

    await held_by(client, slots)
    await stage.kill((await stage.follower_ids())[0])
    await open_gate(client, 5)


@async_test(limit_s=120)
async def test_all_work_is_done_and_no_result_is_accepted_twice(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data") as stage:
        client = stage.client
        await client.sessions.create(session_id=GROUP)
        await client.sessions.create(session_id=GATES)
        batch = await client.tasks.create_batch([new_task(number) for number in range(TASKS)], atomic=True)
        assert batch.refused == []
        async with agents(stage, AGENTS) as at_work:
            await trouble(stage, at_work)
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
        show(f"{TASKS} tasks completed once; {again} of them needed more than one attempt")
        assert again >= 2 * MAX_CONCURRENT, "two agents were killed with all slots in use"
        down = [node_id for node_id in stage.node_ids if not stage.cluster.nodes[node_id].running]
        await stage.start(*down)
        await stage.converged()
