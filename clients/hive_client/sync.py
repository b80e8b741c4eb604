"""The same client for programs without an event loop: every call blocks until it is decided.

The methods are those of the async nouns, each named once below; their types are taken over by ``blocking`` and
``iterating``. One background thread runs the loop of each client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from hive_client.agents import Agents
from hive_client.budgets import Budgets
from hive_client.changes import Changes
from hive_client.client import Client
from hive_client.cluster import Cluster
from hive_client.groups import Groups
from hive_client.models.cluster import Document
from hive_client.projects import Projects
from hive_client.queues import Queues
from hive_client.schedules import Schedules
from hive_client.sessions import Sessions
from hive_client.settings import Settings
from hive_client.tasks import Tasks

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N")


class LoopThread:
    """An event loop in a daemon thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hive-client", daemon=True)
        self._thread.start()

    def run(self, awaitable: Awaitable[R]) -> R:
        """The result of ``awaitable``, or its exception; an interrupt of the caller cancels it."""
        future = asyncio.run_coroutine_threadsafe(_as_coroutine(awaitable), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _as_coroutine(awaitable: Awaitable[R]) -> R:
    return await awaitable


class SyncNoun(Generic[N]):
    """One noun of a client and the loop its calls run on."""

    def __init__(self, noun: N, loop: LoopThread) -> None:
        self._noun = noun
        self._loop = loop


def blocking(method: Callable[Concatenate[N, P], Awaitable[R]]) -> Callable[Concatenate[SyncNoun[N], P], R]:
    """The same method, with the same arguments, that waits for its result."""

    def call(self: SyncNoun[N], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._loop.run(method(self._noun, *args, **kwargs))

    call.__name__, call.__doc__ = method.__name__, method.__doc__
    return call


def iterating(
    method: Callable[Concatenate[N, P], AsyncIterator[R]],
) -> Callable[Concatenate[SyncNoun[N], P], Iterator[R]]:
    """The same iteration with ``for``. Leaving it early closes what it had open."""

    def call(self: SyncNoun[N], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        items = method(self._noun, *args, **kwargs)
        try:
            while True:
                try:
                    item = self._loop.run(anext(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            close: Callable[[], Awaitable[Any]] | None = getattr(items, "aclose", None)
            if close is not None:
                self._loop.run(close())

    call.__name__, call.__doc__ = method.__name__, method.__doc__
    return call


class SyncTasks(SyncNoun[Tasks]):
    """`tasks` of the synchronous client."""

    create = blocking(Tasks.create)
    create_batch = blocking(Tasks.create_batch)
    get = blocking(Tasks.get)
    list = blocking(Tasks.list)
    iterate = iterating(Tasks.iterate)
    wait = blocking(Tasks.wait)
    update = blocking(Tasks.update)
    assign = blocking(Tasks.assign)
    cancel = blocking(Tasks.cancel)
    retry = blocking(Tasks.retry)
    retry_many = blocking(Tasks.retry_many)
    park = blocking(Tasks.park)
    resume = blocking(Tasks.resume)
    explain = blocking(Tasks.explain)
    claim = blocking(Tasks.claim)
    claim_one = blocking(Tasks.claim_one)
    accept = blocking(Tasks.accept)
    renew = blocking(Tasks.renew)
    progress = blocking(Tasks.progress)
    complete = blocking(Tasks.complete)
    fail = blocking(Tasks.fail)
    release = blocking(Tasks.release)
    accept_batch = blocking(Tasks.accept_batch)
    renew_batch = blocking(Tasks.renew_batch)
    progress_batch = blocking(Tasks.progress_batch)
    complete_batch = blocking(Tasks.complete_batch)
    fail_batch = blocking(Tasks.fail_batch)
    release_batch = blocking(Tasks.release_batch)
    park_batch = blocking(Tasks.park_batch)
    resume_batch = blocking(Tasks.resume_batch)


class SyncGroups(SyncNoun[Groups]):
    """`groups` of the synchronous client."""

    get = blocking(Groups.get)
    wait = blocking(Groups.wait)
    cancel = blocking(Groups.cancel)


class SyncQueues(SyncNoun[Queues]):
    """`queues` of the synchronous client."""

    list = blocking(Queues.list)
    iterate = iterating(Queues.iterate)
    get = blocking(Queues.get)
    pause = blocking(Queues.pause)
    resume = blocking(Queues.resume)
    update = blocking(Queues.update)


class SyncSessions(SyncNoun[Sessions]):
    """`sessions` of the synchronous client."""

    create = blocking(Sessions.create)
    get = blocking(Sessions.get)
    list = blocking(Sessions.list)
    iterate = iterating(Sessions.iterate)
    update = blocking(Sessions.update)
    delete = blocking(Sessions.delete)
    append = blocking(Sessions.append)
    append_batch = blocking(Sessions.append_batch)
    events = blocking(Sessions.events)
    iterate_events = iterating(Sessions.iterate_events)
    tail = iterating(Sessions.tail)


class SyncAgents(SyncNoun[Agents]):
    """`agents` of the synchronous client."""

    register = blocking(Agents.register)
    heartbeat = blocking(Agents.heartbeat)
    get = blocking(Agents.get)
    list = blocking(Agents.list)
    iterate = iterating(Agents.iterate)
    drain = blocking(Agents.drain)
    undrain = blocking(Agents.undrain)
    reset_learned = blocking(Agents.reset_learned)
    delete = blocking(Agents.delete)


class SyncChanges(SyncNoun[Changes]):
    """`changes` of the synchronous client."""

    list = blocking(Changes.list)
    poll = blocking(Changes.poll)
    watch = iterating(Changes.watch)


class SyncCluster(SyncNoun[Cluster]):
    """`cluster` of the synchronous client."""

    status = blocking(Cluster.status)
    discover = blocking(Cluster.discover)
    members = blocking(Cluster.members)
    member = blocking(Cluster.member)
    wait_voter = blocking(Cluster.wait_voter)
    add_member = blocking(Cluster.add_member)
    promote_member = blocking(Cluster.promote_member)
    update_member = blocking(Cluster.update_member)
    remove_member = blocking(Cluster.remove_member)
    agents = blocking(Cluster.agents)
    info = blocking(Cluster.info)
    livez = blocking(Cluster.livez)
    readyz = blocking(Cluster.readyz)
    transfer_leadership = blocking(Cluster.transfer_leadership)
    snapshot = blocking(Cluster.snapshot)
    performance = blocking(Cluster.performance)
    metrics_text = blocking(Cluster.metrics_text)
    openapi = blocking(Cluster.openapi)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All endpoints this client knows."""
        return self._noun.endpoints


class SyncProjects(SyncNoun[Projects]):
    """`projects` of the synchronous client."""

    list = blocking(Projects.list)
    iterate = iterating(Projects.iterate)
    create = blocking(Projects.create)


class SyncSchedules(SyncNoun[Schedules]):
    """`schedules` of the synchronous client."""

    create = blocking(Schedules.create)
    preview = blocking(Schedules.preview)
    get = blocking(Schedules.get)
    list = blocking(Schedules.list)
    iterate = iterating(Schedules.iterate)
    update = blocking(Schedules.update)
    pause = blocking(Schedules.pause)
    resume = blocking(Schedules.resume)
    trigger = blocking(Schedules.trigger)
    delete = blocking(Schedules.delete)


class SyncSettings(SyncNoun[Settings]):
    """`settings` of the synchronous client."""

    get = blocking(Settings.get)
    update = blocking(Settings.update)
    reset = blocking(Settings.reset)


class SyncBudgets(SyncNoun[Budgets]):
    """`budgets` of the synchronous client."""

    put = blocking(Budgets.put)
    get = blocking(Budgets.get)
    list = blocking(Budgets.list)
    iterate = iterating(Budgets.iterate)
    reset = blocking(Budgets.reset)
    delete = blocking(Budgets.delete)


def _opened(make: Callable[P, Client]) -> Callable[Concatenate[SyncClient, P], None]:
    """A constructor with the arguments of ``Client``."""

    def construct(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> None:
        self._use(make(*args, **kwargs), LoopThread())
        self._loop.run(self._client.__aenter__())

    return construct


class SyncClient:
    """``Client`` without ``await``: ``with SyncClient("http://127.0.0.1:7400") as client``. Safe to use
    from many threads.
    """

    __init__ = _opened(Client)

    def _use(self, client: Client, loop: LoopThread) -> None:
        self._client, self._loop = client, loop
        self.tasks = SyncTasks(client.tasks, loop)
        self.groups = SyncGroups(client.groups, loop)
        self.queues = SyncQueues(client.queues, loop)
        self.sessions = SyncSessions(client.sessions, loop)
        self.agents = SyncAgents(client.agents, loop)
        self.changes = SyncChanges(client.changes, loop)
        self.cluster = SyncCluster(client.cluster, loop)
        self.projects = SyncProjects(client.projects, loop)
        self.schedules = SyncSchedules(client.schedules, loop)
        self.budgets = SyncBudgets(client.budgets, loop)
        self.settings = SyncSettings(client.settings, loop)

    @property
    def project(self) -> str:
        return self._client.project

    def in_project(self, project: str) -> SyncClient:
        """The same connection, seen from another project. Close the original, not this."""
        view: SyncClient = object.__new__(SyncClient)
        view._use(self._client.in_project(project), self._loop)
        return view

    def performance(self) -> Document:
        """Rates, latencies and queue lengths of the last minute."""
        return self.cluster.performance()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and the thread."""
        self._loop.run(self._client.close())
        self._loop.close()
