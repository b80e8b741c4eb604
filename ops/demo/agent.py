"""One agent process: takes tasks it is able to do, does them, and writes its steps to a session.

Each result is recorded together with an event in the run's session, in one step of the cluster: whoever counts these
events counts results, independently of what the tasks themselves say.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hive_client import Client, Completion, NonRetryable, NotFound, StaleEpoch, TaskContext, Worker

from ops.demo.plan import LINT, OUTLINE, REPORT, SURVEY
from ops.demo.recording import recorded
from ops.demo.survey import survey_handler
from ops.demo.tally import Tally, merge
from ops.demo.work import SourceGoneError, Work, lint_file, outline_file

STARTED = "custom.demo.started"
FOUND = "custom.demo.found"
REPLACED = "custom.demo.replaced"

# Results are asked for by id in the query string, whose length is bounded.
IDS_PER_REQUEST = 50
# Work of a second is finished, what takes longer is handed back.
DRAIN_TIMEOUT_S = 2.0


def main() -> None:
    """The entry point of an agent's process."""
    options = _parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # What Python thinks of the files' escapes is not this program's output.
    warnings.simplefilter("ignore", SyntaxWarning)
    asyncio.run(run_agent(options))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops.demo.agent", description="One agent of the demonstration.")
    for name in ("--agent-id", "--session-id", "--endpoints", "--capabilities"):
        parser.add_argument(name, required=True)
    parser.add_argument("--root", required=True, type=Path)
    parser.add_argument("--max-concurrent", type=int, default=4)
    return parser.parse_args()


class ReplacedError(Exception):
    """Another process registered under the agent's name."""


class YieldingWorker(Worker):
    """Leaves its name to whoever took it, where a worker on its own takes it back."""

    async def unknown(self, error: NotFound | StaleEpoch) -> None:
        if isinstance(error, StaleEpoch):
            raise ReplacedError from error
        await super().unknown(error)


async def run_agent(options: argparse.Namespace) -> None:
    """Work until SIGTERM, or until another process has the agent's name."""
    capabilities = options.capabilities.split(",")
    session_id = options.session_id
    async with Client(options.endpoints) as client:
        await client.sessions.create(session_id=session_id, title=f"Steps of {options.agent_id}")
        worker = YieldingWorker(
            client,
            agent_id=options.agent_id,
            max_concurrent=options.max_concurrent,
            drain_timeout_s=DRAIN_TIMEOUT_S,
            capabilities=[{"name": name} for name in capabilities],
            specialization=", ".join(capabilities),
        )
        add_handlers(worker, capabilities, options.root, session_id)
        try:
            await worker.run()
        except ReplacedError as error:
            refusal = error.__cause__
            assert isinstance(refusal, StaleEpoch)
            told = {"epoch": worker.epoch, "code": refusal.code, "current": refusal.current}
            await client.sessions.append(session_id, type=REPLACED, data=told)


def add_handlers(worker: Worker, capabilities: list[str], root: Path, session_id: str) -> None:
    """The handlers for what this agent is able to do."""
    files: dict[str, Callable[[Path, str], Work]] = {OUTLINE: outline_file, LINT: lint_file}
    for name in capabilities:
        if name in files:
            worker.task(name)(_file_handler(files[name], root, session_id))
    if any(name.startswith(SURVEY) for name in capabilities):
        worker.task(SURVEY)(survey_handler(root, session_id))
    if REPORT in capabilities:

        @worker.task(REPORT)
        async def report(context: TaskContext) -> Completion:
            await context.session_append(STARTED, {"over": len(context.dependencies)}, session_id=session_id)
            return recorded(context, merge(await dependency_tallies(context)).to_json())


def _file_handler(work_on: Callable[[Path, str], Work], root: Path, session_id: str) -> Callable[[TaskContext], Any]:
    async def handle(context: TaskContext) -> Completion:
        path = str(context.payload["path"])
        await context.session_append(STARTED, {"path": path, "type": context.task.type}, session_id=session_id)
        try:
            # Parsing takes up to a second; heartbeats must not wait for it.
            work = await asyncio.to_thread(work_on, root, path)
        except SourceGoneError as error:
            raise NonRetryable(str(error)) from error
        await context.session_append(FOUND, work.details, session_id=session_id)
        return recorded(context, work.tally.to_json())

    return handle


async def dependency_tallies(context: TaskContext) -> list[Tally]:
    """The results of all dependencies; a grant may leave out large ones, which are asked for."""
    results: dict[str, Any] = {task_id: dependency.result for task_id, dependency in context.dependencies.items()}
    missing = [task_id for task_id in context.task.depends_on if results.get(task_id) is None]
    for start in range(0, len(missing), IDS_PER_REQUEST):
        ids = missing[start : start + IDS_PER_REQUEST]
        async for task in context.client.tasks.iterate(ids=ids, consistency="linearizable"):
            results[task.task_id] = task.result
    unknown = [task_id for task_id in context.task.depends_on if not isinstance(results.get(task_id), Mapping)]
    if unknown:
        raise RuntimeError(f"{len(unknown)} dependencies have no result, among them {unknown[0]}")
    return [Tally.from_json(results[task_id]) for task_id in context.task.depends_on]


if __name__ == "__main__":
    main()
