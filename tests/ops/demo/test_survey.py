"""The survey: whoever goes on at the checkpoint comes to the same result; who comes too late is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hive_client import Client, Stop, TaskContext
from hive_client.testing import FakeHive

from ops.demo.plan import PAUSED, plan_survey
from ops.demo.recording import RECORDED
from ops.demo.survey import LATE, count_lines, survey_handler
from tests.ops.command_line import SCENARIO_LIMIT_S

PATHS = ("a.py", "b.py", "gone.py", "../outside.py", "c.py")


def write_tree(root: Path) -> None:
    for name, lines in (("a.py", 3), ("b.py", 5), ("c.py", 7)):
        (root / name).write_text("x = 1\n" * lines)


async def claimed(client: Client, agent_id: str, task_id: str) -> TaskContext:
    agent = await client.agents.register(agent_id)
    grant = await client.tasks.claim_one(task_id, agent_id=agent_id, epoch=agent.epoch)
    return TaskContext(client, grant, agent_id=agent_id, epoch=agent.epoch, on_fenced=lambda: None)


def test_lines_are_counted_and_what_cannot_be_read_has_none(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_tree(root)
    (tmp_path / "outside.py").write_text("x = 1\n")
    assert count_lines(root, PATHS) == 15


def test_the_one_that_is_hit_stays_and_the_next_one_goes_on(tmp_path: Path) -> None:
    write_tree(tmp_path)

    async def scenario() -> None:
        async with asyncio.timeout(SCENARIO_LIMIT_S), FakeHive() as fake, Client(fake.url) as client:
            for session_id in ("run", "first", "second"):
                await client.sessions.create(session_id=session_id)
            task = plan_survey("run", PAUSED, PATHS, held_by="first")
            del task["requires"]
            await client.tasks.create(**task)

            first = await claimed(client, "one", task["task_id"])
            held = asyncio.create_task(survey_handler(tmp_path, "first")(first))
            async with client.changes.watch(from_revision=1) as watch:
                async for message in watch:
                    if any(change.type == "task.progress" for change in message.changes):
                        break
            await client.agents.register("one")  # its work is taken back

            second = await claimed(client, "two", task["task_id"])
            assert second.checkpoint == {"files": 2, "lines": 8}
            completion = await survey_handler(tmp_path, "second")(second)
            assert completion.result == {"files": 5, "lines": 15}
            assert completion.events is not None
            await client.tasks.complete(
                task["task_id"],
                agent_id="two",
                attempt=second.attempt,
                result=completion.result,
                events=completion.events,
            )

            first.stop(Stop.LEASE_RUN_OUT)
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)
            assert held.cancelled()
            said = [event.data async for event in client.sessions.iterate_events("first", types=[LATE])]
            assert [(data["attempt"], data["code"]) for data in said] == [(first.attempt, "stale_attempt")]
            assert said[0]["current"]["agent_id"] == "two"
            recorded = [event.actor async for event in client.sessions.iterate_events("run", types=[RECORDED])]
            assert recorded == ["two"]

    asyncio.run(scenario())


def test_one_that_is_drained_says_nothing_late(tmp_path: Path) -> None:
    write_tree(tmp_path)

    async def scenario() -> None:
        async with asyncio.timeout(SCENARIO_LIMIT_S), FakeHive() as fake, Client(fake.url) as client:
            await client.sessions.create(session_id="first")
            await client.tasks.create(task_id="t", payload={"paths": list(PATHS), "held_by": "first"})
            context = await claimed(client, "one", "t")
            held = asyncio.create_task(survey_handler(tmp_path, "first")(context))
            async with client.changes.watch(from_revision=1) as watch:
                async for message in watch:
                    if any(change.type == "task.progress" for change in message.changes):
                        break
            context.stop(Stop.DRAINED)
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)
            assert context.last_checkpoint == {"files": 2, "lines": 8}
            assert [event async for event in client.sessions.iterate_events("first")] == []
            assert (await client.tasks.get("t")).status == "running"

    asyncio.run(scenario())
