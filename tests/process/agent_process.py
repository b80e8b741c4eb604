"""One agent of the work tests: `python -m tests.process.agent_process ENDPOINTS AGENT_ID`. Ends by SIGTERM.

Its work is real and can be checked: a key derived from the task's payload. It then waits until the test opens the
task's gate, so that the test decides who holds what when it kills.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys

from hive_client import Client, Completion, TaskContext, Worker

ROUNDS = 5_000
DERIVE = "derive"
DERIVED = "custom.derived"
GATES = "gates"
"""A session: its n-th event opens gate n."""
MAX_CONCURRENT = 4


def derive(word: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", word.encode(), b"hive", ROUNDS).hex()


async def handle(context: TaskContext) -> Completion:
    """The result, and in the same step of the cluster an event that says so: whoever counts these counts results."""
    result = {"key": await asyncio.to_thread(derive, context.payload["word"]), "attempt": context.attempt}
    async for _ in context.client.sessions.tail(GATES, after_seq=context.payload["gate"] - 1):
        break
    event = {
        "type": DERIVED,
        "actor": context.agent_id,
        "data": {"task_id": context.task.task_id, "attempt": context.attempt},
    }
    return Completion(result=result, events=[event])


async def work(endpoints: str, agent_id: str) -> None:
    async with Client(endpoints) as client:
        worker = Worker(client, agent_id=agent_id, max_concurrent=MAX_CONCURRENT, drain_timeout_s=5.0)
        worker.task(DERIVE)(handle)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]))
