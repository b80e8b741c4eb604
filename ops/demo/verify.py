"""Reads back what the cluster holds at the end, for the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hive_client import Client, Task

from ops.demo.ledger import Ledger
from ops.demo.recording import RECORDED
from ops.demo.tally import Tally
from ops.edge import CommandError
from ops.local_cluster import POLL_S

APPLIED_TIMEOUT_S = 60.0


async def count_tasks(client: Client, run_id: str, ledger: Ledger) -> int:
    """All tasks of the run, linearizably; returns a revision that all of this is in."""
    revision = 0
    cursor: str | None = None
    while True:
        page = await client.tasks.list(
            group_id=run_id, order="asc", limit=1000, cursor=cursor, consistency="linearizable"
        )
        ledger.take_tasks(page.items)
        revision = max(revision, page.revision)
        cursor = page.next_cursor
        if cursor is None:
            return revision


async def count_events(client: Client, run_id: str, ledger: Ledger) -> int:
    """Results recorded in the run's session, from its first event on; returns the number of all its events."""
    last_seq = 0
    async for event in client.sessions.iterate_events(run_id, page_size=1000, consistency="linearizable"):
        if event.seq != last_seq + 1:
            raise CommandError(f"the session's log has a gap: {event.seq} follows {last_seq}")
        last_seq = event.seq
        if event.type == RECORDED:
            ledger.take_recorded(event.data["task_id"])
    return last_seq


async def differences(client: Client, run_id: str, ledger: Ledger, revision: int) -> int:
    """How many tasks are otherwise on this client's one node, once it has `revision`; by its own, stale state."""
    here: dict[str, Task] = {}
    tasks = client.tasks.iterate(group_id=run_id, page_size=1000, min_revision=revision, timeout_s=APPLIED_TIMEOUT_S)
    async for task in tasks:
        here[task.task_id] = task
    wanted = ledger.tasks
    return sum(here.get(task_id) != wanted.get(task_id) for task_id in here.keys() | wanted.keys())


async def wait_applied(seen: Callable[[], int], revision: int, what: str) -> None:
    """Wait until `seen()` has reached `revision`."""
    try:
        async with asyncio.timeout(APPLIED_TIMEOUT_S):
            while seen() < revision:
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise CommandError(f"{what} is at revision {seen()} and did not reach {revision} in time") from None


def report_tally(task: Task | None) -> Tally | None:
    """What the whole report says; None if it did not complete."""
    if task is None or task.status != "completed" or not isinstance(task.result, dict):
        return None
    return Tally.from_json(task.result)
