"""Waiting for a change: long-polls sleep here and are woken by the notices of applied entries, never by polling."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cluster.replica import Notice, Replica
from node.api.in_service import out_of_service
from node.api.problem import Problem
from node.api.topics import topics_of
from node.http.connection import Connection

ANY = ("", "*")
"""The key of those who wait for any revision at all."""


class DisconnectedError(Exception):
    """The client of a long-poll is gone: nobody is there to be answered."""


class Waiter:
    """One waiting request. `wake` ends the wait; `fail` ends it with an error."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def wake(self, revision: int) -> None:
        if not self.future.done():
            self.future.set_result(revision)

    def time_over(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Wakeups:
    """Who waits for what.

    Keys are (project, topic), where the project of changes to the cluster is "". A notice that jumped over changes
    wakes everybody.
    """

    def __init__(self, replica: Replica) -> None:
        self._waiters: dict[tuple[str, str], set[Waiter]] = {}
        self._closed = False
        self._replica = replica
        self._unsubscribe = replica.subscribe(self._on_notice)
        self._forget_role = replica.on_role_change(self._on_role_change)

    @property
    def waiting(self) -> int:
        """How many keys are waited for."""
        return len(self._waiters)

    async def wait(self, project: str, topics: Iterable[str], wait_s: float, connection: Connection) -> int | None:
        """Sleep until something with one of these topics changes, or the time is over (None).

        The answer is the revision of the first such change: nothing before it is of interest. After a jump of the state
        it is 1: anything may be.

        REGISTERS BEFORE ITS FIRST AWAIT: a caller that has looked at the state and calls this without an await in
        between misses nothing. Raises Problem `shutting_down`, and DisconnectedError when the client has gone.
        """
        keys = [(scope, topic) for topic in topics for scope in (project, "")]
        return await self._wait(keys, wait_s, connection)

    async def wait_any(self, wait_s: float, connection: Connection) -> int | None:
        """As `wait`, for any new revision."""
        return await self._wait([ANY], wait_s, connection)

    async def _wait(self, keys: list[tuple[str, str]], wait_s: float, connection: Connection) -> int | None:
        if self._closed:
            raise _shutting_down()
        if why := self._replica.out_of_service:
            raise out_of_service(why)
        if wait_s <= 0:
            return None
        waiter = Waiter()
        for key in keys:
            self._waiters.setdefault(key, set()).add(waiter)
        timer = asyncio.get_running_loop().call_later(wait_s, waiter.time_over)
        stop_listening = connection.on_lost(lambda: waiter.fail(DisconnectedError()))
        try:
            return await waiter.future
        finally:
            timer.cancel()
            stop_listening()
            for key in keys:
                self._forget(key, waiter)

    def _forget(self, key: tuple[str, str], waiter: Waiter) -> None:
        waiters = self._waiters.get(key)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[key]

    def _on_notice(self, notice: Notice) -> None:
        if not self._waiters:
            return
        if notice.gap:
            for waiters in self._waiters.values():
                _wake(waiters, 1)
            return
        if notice.revision >= notice.first_revision:
            _wake(self._waiters.get(ANY, ()), notice.first_revision)
        for change in notice.changes:
            for topic in topics_of(change):
                _wake(self._waiters.get((change.project, topic), ()), change.revision)

    def _on_role_change(self) -> None:
        """A node that goes out of service tells nobody anything any more, also not who listens already."""
        if why := self._replica.out_of_service:
            self._fail_all(out_of_service(why))

    def close(self) -> None:
        """End every wait with `shutting_down`; later ones do not begin."""
        if not self._closed:
            self._closed = True
            self._unsubscribe()
            self._forget_role()
        self._fail_all(_shutting_down())

    def _fail_all(self, error: Problem) -> None:
        for waiters in list(self._waiters.values()):
            for waiter in waiters:
                waiter.fail(error)


def _wake(waiters: Iterable[Waiter], revision: int) -> None:
    for waiter in waiters:
        waiter.wake(revision)


def _shutting_down() -> Problem:
    return Problem("shutting_down", "this node is stopping; ask another one")
