"""The worker: an agent process. Its parts: ``pulse`` (heartbeat), ``slots`` (attempts), ``enrolment``, ``lease``.

WHAT IT PROMISES: a handler is stopped before its lease could have gone to another agent, and after that nothing it
returns is sent; a result is reported under one key until the server has decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Unpack

from hive_client.client import Client
from hive_client.errors import NotFound, StaleEpoch, UnknownProject
from hive_client.idempotency import uuid7
from hive_client.models.agents import AgentFields, Heartbeat
from hive_client.worker.attempt import Attempt
from hive_client.worker.context import Stop
from hive_client.worker.enrolment import Enrolment
from hive_client.worker.handlers import H, Handlers
from hive_client.worker.pulse import Pulse
from hive_client.worker.slots import Slots
from hive_client.worker.stop_signal import on_stop_signal
from hive_client.worker.waiting import end

_log = logging.getLogger("hive_client.worker")

# How long the next poll waits for the offers of the last reply to be accepted; otherwise they would come again at once.
ACCEPT_WAIT_S = 1.0
# After a drain timed out: for the hand-back itself, beyond the threads' grace.
HAND_BACK_S = 10.0


class Worker:
    """An agent that runs handlers for tasks, up to ``max_concurrent`` (default 1) at once.

    ``client``: a ``Client`` (stays yours) or endpoints. Handlers are async functions with a ``TaskContext``
    or plain ones, run in threads, with a ``SyncTaskContext``. ``drain_timeout_s``: how long running tasks may
    go on after SIGTERM, ``drain()`` or an operator's drain; then they are handed back with their last
    checkpoint. ``stop_grace_s``: how long a handler may take to notice. ``exit_when_drained``: ``run`` also
    returns after an operator's drain, which otherwise may be lifted again. ``metrics``: called before each
    heartbeat. Other keywords describe the agent (``capabilities``, …).
    """

    def __init__(
        self,
        client: Client | str | Iterable[str] | None = None,
        *,
        agent_id: str | None = None,
        drain_timeout_s: float = 30.0,
        stop_grace_s: float = 5.0,
        exit_when_drained: bool = False,
        handle_signals: bool = True,
        metrics: Callable[[], Mapping[str, Any]] | None = None,
        **agent: Unpack[AgentFields],
    ) -> None:
        agent.setdefault("max_concurrent", 1)
        agent.setdefault("instance_id", uuid7())
        if agent["max_concurrent"] < 1:
            raise ValueError("max_concurrent is at least 1")
        self._owns_client = not isinstance(client, Client)
        self.client = client if isinstance(client, Client) else Client(client)
        self.agent_id = agent_id or f"{socket.gethostname()[:64]}-{uuid7()[-12:]}"
        self.instance_id = agent["instance_id"]
        self._drain_timeout_s = drain_timeout_s
        self._stop_grace_s = stop_grace_s
        self._exit_when_drained = exit_when_drained
        self._handle_signals = handle_signals
        self._handlers = Handlers()
        self._enrolment = Enrolment(self.client, self.agent_id, agent)
        self._pulse = Pulse(self.client, self.agent_id, self, metrics)
        self._slots = Slots(
            self.client,
            self.agent_id,
            self._handlers,
            max_concurrent=agent["max_concurrent"],
            stop_grace_s=stop_grace_s,
            on_accepted=self._accepted,
            on_idle=self._idle,
        )
        self._drain_timer: asyncio.Task[None] | None = None
        self._operator_drains = False
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self.registered = asyncio.Event()

    def task(self, task_type: str) -> Callable[[H], H]:
        """Decorator: the handler for tasks of this type."""

        def add(handler: H) -> H:
            self._handlers.add(task_type, handler)
            return handler

        return add

    def default(self, handler: H) -> H:
        """Decorator: the handler for all types without one of their own."""
        self._handlers.add_default(handler)
        return handler

    @property
    def epoch(self) -> int:
        """The epoch of the registration in force; 0 before the first."""
        return self._slots.epoch

    @property
    def active(self) -> int:
        """Slots in use."""
        return len(self._slots)

    def drain(self) -> None:
        """Take nothing more, finish or hand back, then ``run`` returns. A second call does not wait any longer."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()
        self._pulse.kick()

    def run_sync(self) -> None:
        """``run`` for a program that has no event loop of its own."""
        asyncio.run(self.run())

    async def run(self) -> None:
        """Work until drained. Raises what no retry can mend: unknown project, no permission, an invalid agent."""
        if not self._handlers:
            raise ValueError("no handler: decorate a function with @worker.task(type) or @worker.default")
        with on_stop_signal(self.drain) if self._handle_signals else contextlib.nullcontext():
            stopping = asyncio.create_task(self._stopping.wait())
            working = asyncio.create_task(self._work())
            try:
                await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
                await self._finish()
            finally:
                await end(stopping, working)
                await self._close()

    async def _work(self) -> None:
        await self._register()
        await self._pulse.run()

    async def _register(self) -> None:
        registration = await self._enrolment.register()
        self._slots.epoch = registration.epoch
        self._pulse.interval_ms = registration.heartbeat_interval_ms
        self.registered.set()

    # What the pulse asks and tells.

    def running(self) -> Sequence[Mapping[str, Any]]:
        return self._slots.listed()

    def wants_offers(self) -> bool:
        return not (self._stopping.is_set() or self._operator_drains)

    def shortest_lease_ms(self) -> int | None:
        return self._slots.shortest_lease_ms()

    async def unknown(self, error: NotFound | StaleEpoch) -> None:
        if isinstance(error, UnknownProject):
            raise error
        _log.warning("agent %s: registering again: %s", self.agent_id, error)
        self._slots.stop_all(Stop.LOST)  # what was held is requeued, and going on would do it twice
        if isinstance(error, StaleEpoch):
            await self._enrolment.after_theft()
        await self._register()

    async def heard(self, heartbeat: Heartbeat, sent_at: float) -> bool:
        slots = self._slots
        for held in heartbeat.held:
            slots.extend(held, sent_at)
        news = [slots.told_to_stop(entry, Stop.CANCELLED) for entry in heartbeat.cancel]
        news += [slots.told_to_stop(entry, Stop.LOST) for entry in heartbeat.lost]
        self._heed_drain(heartbeat.drain)
        wanted = self.wants_offers()
        started = [a for grant in heartbeat.offers if (a := slots.consider(grant, wanted=wanted)) is not None]
        if started:
            lease_s = (slots.shortest_lease_ms() or 60_000) / 1000
            await slots.decided(started, min(ACCEPT_WAIT_S, lease_s / 6))
        return bool(started) or any(news)

    def _accepted(self, attempt: Attempt) -> None:
        # The open poll does not list it; if it stays open for too long, the lease is not renewed in time.
        assert attempt.lease is not None
        if attempt.lease.stop_at - attempt.lease.lease_ms / 2000 < self._pulse.polling_until:
            self._pulse.kick()

    # Draining and ending.

    def _heed_drain(self, drain: bool) -> None:
        """An operator's drain: finish or hand back, and stay registered, for it may be lifted again."""
        if drain == self._operator_drains:
            return
        self._operator_drains = drain
        _log.info("agent %s: %s", self.agent_id, "draining" if drain else "no longer draining")
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        if drain:
            self._drain_timer = asyncio.create_task(self._hand_back_later())
            if not self._slots:
                self._idle()

    async def _hand_back_later(self) -> None:
        await self.client.clock.sleep(self._drain_timeout_s)
        self._slots.stop_all(Stop.DRAINED)

    def _idle(self) -> None:
        if self._operator_drains and self._exit_when_drained:
            self.drain()

    async def _finish(self) -> None:
        _log.info("agent %s: draining, %d running", self.agent_id, self.active)
        await self._slots.idle(self._drain_timeout_s, self._hurry)
        if self._slots:
            self._slots.stop_all(Stop.DRAINED)
            await self._slots.idle(self._stop_grace_s + HAND_BACK_S)
        _log.info("agent %s: drained", self.agent_id)

    async def _close(self) -> None:
        if self._drain_timer is not None:
            await end(self._drain_timer)
        await self._slots.close()
        if self._owns_client:
            await self.client.close()
