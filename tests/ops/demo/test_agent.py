"""The demonstration's agents against a fake: real worker, real files, real results."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from hive_client import Client, TaskContext, Worker
from hive_client.models import Grant
from hive_client.testing import FakeHive

from ops.demo.agent import FOUND, REPLACED, STARTED, add_handlers, dependency_tallies, run_agent
from ops.demo.ledger import Ledger
from ops.demo.plan import LINT, OUTLINE, REPORT, plan_tasks
from ops.demo.recording import RECORDED
from ops.demo.source import find_sources
from ops.demo.verify import count_events, count_tasks, differences, report_tally
from tests.ops.command_line import SCENARIO_LIMIT_S


def write_tree(root: Path) -> None:
    (root / "a.py").write_text("import os\n\ndef f(x):\n    if x:\n        return 1\n    return 2\n")
    (root / "b.py").write_text("class B:\n    def g(self): ...\n")
    (root / "c.py").write_text("def broken(:\n")


def test_the_whole_tree_is_done_once(tmp_path: Path) -> None:
    write_tree(tmp_path)
    tree = find_sources(tmp_path)
    # A fan-in of 4 makes two layers of reports.
    tasks = plan_tasks("run", tree.paths, fan_in=4)
    ledger = Ledger(submitted={task["task_id"] for task in tasks})

    async def scenario() -> None:
        async with asyncio.timeout(SCENARIO_LIMIT_S), FakeHive() as fake, Client(fake.url) as client:
            for session_id in ("run", "run.one"):
                await client.sessions.create(session_id=session_id)
            worker = Worker(
                client,
                agent_id="one",
                max_concurrent=4,
                handle_signals=False,
                capabilities=[{"name": name} for name in (OUTLINE, LINT, REPORT)],
            )
            add_handlers(worker, [OUTLINE, LINT, REPORT], tmp_path, "run.one")
            assert not (await client.tasks.create_batch(tasks)).refused
            running = asyncio.create_task(worker.run())
            async with client.changes.watch(from_revision=1) as watch:
                async for message in watch:
                    ledger.take_message(message)
                    if ledger.by_feed[tasks[-1]["task_id"]]:
                        break
            worker.drain()
            await running
            revision = await count_tasks(client, "run", ledger)
            assert await count_events(client, "run", ledger) == len(tasks)
            assert await differences(client, "run", ledger, revision) == 0
            steps = [event.type async for event in client.sessions.iterate_events("run.one")]
            assert steps.count(STARTED) == len(tasks)
            assert steps.count(FOUND) == 2 * len(tree.paths)
            assert RECORDED not in steps

    asyncio.run(scenario())
    assert ledger.verdict().good
    tally = report_tally(ledger.tasks[tasks[-1]["task_id"]])
    assert tally is not None
    assert (tally.outlined, tally.linted, tally.functions, tally.classes, tally.unparsable) == (3, 3, 2, 1, 1)
    assert tally.findings == {"syntax-error": 1, "unused-import": 1}
    assert [(f.name, f.complexity) for f in tally.most_complex] == [("f", 2), ("B.g", 1)]


def test_an_agent_whose_name_was_taken_says_so_and_leaves(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(SCENARIO_LIMIT_S), FakeHive() as fake, Client(fake.url) as client:
            options = argparse.Namespace(
                agent_id="one",
                session_id="steps",
                endpoints=fake.url,
                capabilities=LINT,
                root=tmp_path,
                max_concurrent=1,
            )
            first = asyncio.create_task(run_agent(options))
            async with client.changes.watch(from_revision=1) as watch:
                async for message in watch:
                    if any(change.type == "agent.registered" for change in message.changes):
                        break
            second = await client.agents.register("one")
            await first
            events = [event async for event in client.sessions.iterate_events("steps", types=[REPLACED])]
            assert [event.data["code"] for event in events] == ["stale_epoch"]
            assert (await client.agents.get("one")).epoch == second.epoch, "it did not take the name back"

    asyncio.run(scenario())


def test_results_that_a_grant_leaves_out_are_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(SCENARIO_LIMIT_S), FakeHive() as fake, Client(fake.url) as client:
            agent = await client.agents.register("x")
            for number in range(3):
                await client.tasks.create(task_id=f"t{number}", session_id="run")
                grant = await client.tasks.claim_one(f"t{number}", agent_id="x", epoch=agent.epoch)
                await client.tasks.complete(
                    f"t{number}", agent_id="x", attempt=grant.attempt, result={"most_complex": [], "linted": 1}
                )
            report = Grant(task_id="r", attempt=1, depends_on=["t0", "t1", "t2"])
            context = TaskContext(client, report, agent_id="x", epoch=agent.epoch, on_fenced=lambda: None)
            assert [t.linted for t in await dependency_tallies(context)] == [1, 1, 1]

    asyncio.run(scenario())
