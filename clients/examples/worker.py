"""An agent process: counts the words of files, with progress, checkpoints and two kinds of handlers.

Start it any number of times; stop it with Ctrl-C or SIGTERM: what runs is finished or handed back. Submit work with
``client.tasks.create(type="count_words", payload={"paths": ["README.md"]})``.
"""

import asyncio
import logging
from pathlib import Path

from hive_client import NonRetryable, SyncTaskContext, TaskContext, Worker

worker = Worker(max_concurrent=2, capabilities=[{"name": "count", "proficiency": 1.0}])


@worker.task("count_words")
def count_words(context: SyncTaskContext) -> dict[str, int]:
    """A plain function runs in a thread. It starts where an earlier attempt got to, and looks whether to stop."""
    counts: dict[str, int] = dict(context.checkpoint or {})
    paths = context.payload["paths"]
    for done, path in enumerate(paths, start=1):
        if context.cancelled.is_set():
            return counts  # nobody will see it: the attempt is no longer ours
        if path in counts:
            continue
        try:
            counts[path] = len(Path(path).read_text().split())
        except FileNotFoundError as error:
            raise NonRetryable(f"there is no file {path}") from error
        context.progress(done / len(paths), f"counted {path}", checkpoint=counts)
    return counts


@worker.task("sum_up")
async def sum_up(context: TaskContext) -> int:
    """An async function uses the results of the tasks that it waited for."""
    return sum(sum(dependency.result.values()) for dependency in context.dependencies.values())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(worker.run())
