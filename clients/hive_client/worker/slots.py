"""The attempts a worker has in hand: which offers it takes, what the heartbeat lists, who is told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from hive_client.client import Client
from hive_client.models.agents import Cancel, Held, Lost
from hive_client.models.tasks import Grant
from hive_client.worker.attempt import Attempt
from hive_client.worker.context import Stop
from hive_client.worker.handlers import Handlers
from hive_client.worker.report import Report
from hive_client.worker.waiting import end, first_of

_log = logging.getLogger("hive_client.worker")


class Slots:
    """At most ``max_concurrent`` attempts; a slot is free again only when its handler has really ended."""

    def __init__(
        self,
        client: Client,
        agent_id: str,
        handlers: Handlers,
        *,
        max_concurrent: int,
        stop_grace_s: float,
        on_accepted: Callable[[Attempt], None],
        on_idle: Callable[[], None],
    ) -> None:
        self._client = client
        self._agent_id = agent_id
        self._handlers = handlers
        self._stop_grace_s = stop_grace_s
        self._on_accepted = on_accepted
        self._on_idle = on_idle
        self.max_concurrent = max_concurrent
        self.epoch = 0
        self._attempts: dict[tuple[str, str, int], Attempt] = {}
        self._steps: set[asyncio.Task[None]] = set()
        self._executor: ThreadPoolExecutor | None = None
        self._freed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._attempts)

    def listed(self) -> list[Mapping[str, Any]]:
        """The heartbeat's ``running``: what is accepted and was not stopped, so that its lease is renewed."""
        return [_listed(attempt) for attempt in self._attempts.values() if attempt.held]

    def shortest_lease_ms(self) -> int | None:
        return min((a.lease.lease_ms for a in self._attempts.values() if a.lease is not None), default=None)

    def extend(self, held: Held, sent_at: float) -> None:
        attempt = self._find(held)
        if attempt is not None and attempt.lease is not None:
            attempt.lease.extend(sent_at, held.lease_remaining_ms)

    def consider(self, grant: Grant, *, wanted: bool) -> Attempt | None:
        """Take the offer, or decline it; the new attempt, or None if it is known already or was declined."""
        if (grant.project, grant.task_id, grant.attempt) in self._attempts:
            return None
        handler = self._handlers.find(grant.type)
        if handler is None or not wanted or len(self) >= self.max_concurrent:
            _log.info("task %s attempt %d: declined", grant.task_id, grant.attempt)
            self._spawn(self._report(grant).handed_back())
            return None
        attempt = Attempt(
            self._client.in_project(grant.project),
            grant,
            handler,
            agent_id=self._agent_id,
            epoch=self.epoch,
            executor=self._threads,
            on_accepted=self._on_accepted,
            stop_grace_s=self._stop_grace_s,
        )
        self._attempts[attempt.key] = attempt
        self._spawn(self._run(attempt))
        return attempt

    def told_to_stop(self, named: Cancel | Lost, reason: Stop) -> bool:
        """The server's word; True if this was not known yet."""
        attempt = self._find(named)
        if attempt is not None and attempt.reporting and reason is Stop.LOST:
            # Perhaps lost because it has just ended by our own report, whose answer is still on its way.
            return False
        if attempt is not None:
            first = attempt.context.stop_reason is None
            attempt.stop(reason)
            return first
        if reason is Stop.CANCELLED:
            # Nothing runs here (any more): free the slot that the server still counts.
            project = named.project or self._client.project
            grant = Grant(task_id=named.task_id, attempt=named.attempt, project=project)
            self._spawn(self._report(grant).handed_back())
        return False

    def _find(self, named: Held | Cancel | Lost) -> Attempt | None:
        """The attempt that the server speaks of; without a project, the one of that task id."""
        if named.project is not None:
            return self._attempts.get((named.project, named.task_id, named.attempt))
        fitting = (a for (_, *rest), a in self._attempts.items() if rest == [named.task_id, named.attempt])
        return next(fitting, None)

    def stop_all(self, reason: Stop) -> None:
        for attempt in list(self._attempts.values()):
            attempt.stop(reason)

    async def decided(self, attempts: Iterable[Attempt], within_s: float) -> None:
        """Until all were accepted or given up, or the time is over."""
        waiting = asyncio.gather(*(attempt.decided.wait() for attempt in attempts))
        await first_of(waiting, asyncio.create_task(self._client.clock.sleep(within_s)))

    async def idle(self, within_s: float, hurry: asyncio.Event | None = None) -> None:
        """Until no attempt is left, the time is over, or ``hurry`` is set."""
        timer = asyncio.create_task(self._client.clock.sleep(within_s))
        hurried = asyncio.create_task((hurry or asyncio.Event()).wait())
        try:
            while self._attempts and not (timer.done() or hurried.done()):
                self._freed.clear()
                freed = asyncio.create_task(self._freed.wait())
                await asyncio.wait({timer, hurried, freed}, return_when=asyncio.FIRST_COMPLETED)
                freed.cancel()
        finally:
            await end(timer, hurried)

    async def close(self) -> None:
        """Stop all without a word to the server. A thread that does not look at ``cancelled`` goes on, unheard."""
        self.stop_all(Stop.LOST)
        await end(*self._steps)
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    async def _run(self, attempt: Attempt) -> None:
        try:
            await attempt.run()
        finally:
            del self._attempts[attempt.key]
            self._freed.set()
            if not self._attempts:
                self._on_idle()

    def _report(self, grant: Grant) -> Report:
        return Report(self._client.in_project(grant.project), grant, self._agent_id, self.epoch)

    def _threads(self) -> Executor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.max_concurrent, thread_name_prefix=f"hive-{self._agent_id}")
        return self._executor

    def _spawn(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(step)
        self._steps.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._steps.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("agent %s: an attempt ended in an unexpected way", self._agent_id, exc_info=error)


def _listed(attempt: Attempt) -> Mapping[str, Any]:
    project, task_id, number = attempt.key
    progress = attempt.context.last_progress
    return {"project": project, "task_id": task_id, "attempt": number, **({"progress": progress} if progress else {})}
