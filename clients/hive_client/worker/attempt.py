"""One attempt from offer to end: accept, run the handler, report. Stops at once when it is no longer ours.

offered -> running -> reporting -> ended
              |           |
              +-- stop ---+--> winding down -> ended     (cancelled, lost, lease run out, drained)
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

from hive_client.client import Client
from hive_client.errors import HiveError
from hive_client.models.tasks import Grant
from hive_client.worker.context import Stop, SyncTaskContext, TaskContext
from hive_client.worker.handlers import Completion, Handler, is_async
from hive_client.worker.lease import Lease
from hive_client.worker.outcome import Failed, outcome_of_error, outcome_of_value, outcome_of_wait
from hive_client.worker.parking import Wait, wait_within
from hive_client.worker.report import Report

_log = logging.getLogger("hive_client.worker")

T = TypeVar("T")

# How long an offer is thought to stand if the server does not say.
OFFER_MS = 10_000


class Attempt:
    """Runs one grant. ``decided`` is set once the offer was accepted or given up."""

    def __init__(
        self,
        client: Client,
        grant: Grant,
        handler: Handler,
        *,
        agent_id: str,
        epoch: int,
        executor: Callable[[], Executor],
        on_accepted: Callable[[Attempt], None],
        stop_grace_s: float,
    ) -> None:
        self._client = client
        self.grant = grant
        self._handler = handler
        self._executor = executor
        self._on_accepted = on_accepted
        self._stop_grace_s = stop_grace_s
        self.context = TaskContext(
            client, grant, agent_id=agent_id, epoch=epoch, on_fenced=lambda: self.stop(Stop.LOST)
        )
        self._report = Report(client, grant, agent_id, epoch)
        self._thread_cancelled = threading.Event()
        self._thread: asyncio.Future[Any] | None = None
        self._work: asyncio.Task[Any] | None = None
        self.lease: Lease | None = None
        self.reporting = False
        self.decided = asyncio.Event()

    @property
    def key(self) -> tuple[str, str, int]:
        """An agent of several projects may meet one task id in two of them."""
        return self.grant.project, self.grant.task_id, self.grant.attempt

    @property
    def held(self) -> bool:
        """Whether the heartbeat may still claim it."""
        return self.lease is not None and self.context.stop_reason is None

    def stop(self, reason: Stop) -> None:
        """Stop the handler (or its report) now. Idempotent; the first reason stays."""
        if self.context.stop_reason is not None:
            return
        _log.warning("project %s task %s attempt %d: stopped, %s", *self.key, reason)
        self.context.stop(reason)
        self._thread_cancelled.set()
        if self._work is not None:
            self._work.cancel()

    async def run(self) -> None:
        """Returns when the slot is free again: a handler that does not stop when it is told holds it until it ends."""
        try:
            accepted = await self._accept()
        finally:
            self.decided.set()
        if not accepted or self.lease is None:
            return
        watchdog = asyncio.create_task(self._watch(self.lease))
        try:
            outcome = await self._stoppable(self._handle())
            if outcome is not None:
                self.reporting = True
                await self._stoppable(self._report.ended(outcome))
        finally:
            watchdog.cancel()
        await self._wind_down()

    async def _accept(self) -> bool:
        context = self.context
        window_s = (self.grant.offer_expires_in_ms or OFFER_MS) / 1000
        sent_at = self._client.clock.monotonic()
        try:
            granted = await self._client.tasks.accept(
                self.grant.task_id,
                agent_id=context.agent_id,
                attempt=self.grant.attempt,
                epoch=context.epoch,
                timeout_s=max(window_s, 1.0),
            )
        except HiveError as error:
            # Nothing was started: the offer comes again, or goes to another agent.
            _log.info("project %s task %s attempt %d: not accepted: %s", *self.key, error)
            return False
        lease_ms = granted.lease_remaining_ms
        if lease_ms is None:
            lease_ms = granted.lease_ms if "lease_ms" in granted.raw else self.grant.lease_ms
        self.lease = Lease(self._client.clock, sent_at, lease_ms)
        self._on_accepted(self)
        return True

    async def _watch(self, lease: Lease) -> None:
        await lease.run_out()
        self.stop(Stop.LEASE_RUN_OUT)

    async def _stoppable(self, step: Coroutine[Any, Any, T]) -> T | None:
        """The step's result; None as soon as ``stop`` was called, while the cancelled step may still be ending."""
        if self.context.stop_reason is not None:
            step.close()
            return None
        work = asyncio.create_task(step)
        self._work = work
        stopped = asyncio.create_task(self.context.cancelled.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            work.cancel()  # the worker itself is being torn down
            raise
        finally:
            stopped.cancel()
        return work.result() if self.context.stop_reason is None else None

    async def _handle(self) -> Completion | Failed | Wait:
        try:
            value = await (self._handler(self.context) if is_async(self._handler) else self._run_in_thread())
        except asyncio.CancelledError as error:
            if self.context.stop_reason is not None:
                raise
            return outcome_of_error(error)
        except Exception as error:  # noqa: BLE001 - the edge to foreign code: whatever a handler raises fails the task
            if self.context.stop_reason is None:
                _log.warning("project %s task %s attempt %d: handler failed", *self.key, exc_info=error)
            return outcome_of_error(error)
        except BaseException as error:
            wait = wait_within(error)
            if wait is None:
                raise
            return outcome_of_wait(wait)
        return outcome_of_value(value)

    async def _run_in_thread(self) -> Any:
        loop = asyncio.get_running_loop()
        context = SyncTaskContext(self.context, loop, self._thread_cancelled)
        self._thread = loop.run_in_executor(self._executor(), self._handler, context)
        return await asyncio.shield(self._thread)

    async def _wind_down(self) -> None:
        reason = self.context.stop_reason
        if reason is None:
            return
        if reason is Stop.DRAINED:
            # Somebody else waits for the task; a handler that does not stop is not waited for much longer.
            await self._handler_ended(self._stop_grace_s)
            await self._report.handed_back(self.context.last_checkpoint, self.context.last_message)
        await self._handler_ended(None)
        if reason is Stop.CANCELLED:
            await self._report.handed_back()

    async def _handler_ended(self, timeout_s: float | None) -> None:
        unfinished: set[asyncio.Future[Any]] = {f for f in (self._work, self._thread) if f is not None and not f.done()}
        if not unfinished:
            return
        waiting = [asyncio.create_task(_all_done(unfinished))]
        if timeout_s is not None:
            waiting.append(asyncio.create_task(self._client.clock.sleep(timeout_s)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()


async def _all_done(futures: set[asyncio.Future[Any]]) -> None:
    await asyncio.wait(futures)
