"""The blocking client: the same nouns and methods, the same answers."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hive_client import Client, NotFound, SyncClient
from hive_client.agents import Agents
from hive_client.budgets import Budgets
from hive_client.changes import Changes
from hive_client.cluster import Cluster
from hive_client.groups import Groups
from hive_client.projects import Projects
from hive_client.queues import Queues
from hive_client.schedules import Schedules
from hive_client.sessions import Sessions
from hive_client.sync import (
    SyncAgents,
    SyncBudgets,
    SyncChanges,
    SyncCluster,
    SyncGroups,
    SyncProjects,
    SyncQueues,
    SyncSchedules,
    SyncSessions,
    SyncTasks,
)
from hive_client.tasks import Tasks
from hive_client.testing import FakeHive

NOUNS = [
    (Tasks, SyncTasks), (Groups, SyncGroups), (Queues, SyncQueues), (Sessions, SyncSessions), (Agents, SyncAgents),
    (Schedules, SyncSchedules), (Changes, SyncChanges), (Cluster, SyncCluster), (Projects, SyncProjects),
    (Budgets, SyncBudgets),
]  # fmt: skip


@contextmanager
def served() -> Iterator[FakeHive]:
    """A fake on a loopback port, in a thread of its own."""
    fake, up, down = FakeHive(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with fake:
            up.set()
            await down.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert up.wait(30)
        yield fake
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join()
        loop.close()


def public(cls: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(cls) if not name.startswith("_")}


@pytest.mark.parametrize(("noun", "sync"), NOUNS, ids=[noun.__name__ for noun, _ in NOUNS])
def test_every_method_has_its_blocking_twin(noun: type, sync: type) -> None:
    assert public(noun) == public(sync)


def test_the_client_itself_has_the_same_surface() -> None:
    assert public(Client) - {"clock"} == public(SyncClient)


def test_calls_iterations_watches_and_errors() -> None:
    with served() as fake, SyncClient(fake.url) as client:
        task = client.tasks.create(title="x")
        assert client.tasks.get(task.task_id).title == "x"
        assert [t.task_id for t in client.tasks.iterate()] == [task.task_id]
        for message in client.changes.watch(from_revision=1):
            assert message.changes[0].type == "task.created"
            break
        with pytest.raises(NotFound):
            client.tasks.get("unknown")
        assert client.in_project("p2").tasks.create(title="y").project == "p2"
        assert client.cluster.endpoints == (fake.url,)


def test_many_threads_share_one_client() -> None:
    with served() as fake, SyncClient(fake.url) as client:
        threads = [threading.Thread(target=client.tasks.create, kwargs={"task_id": f"t{n}"}) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {task.task_id for task in client.tasks.iterate()} == {f"t{n}" for n in range(8)}
