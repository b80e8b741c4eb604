"""The long-poll heartbeat: one request after the other, as long as the worker lives.

It keeps leases alive, brings offers and cancels, and finds out when the node no longer knows this agent. It
never blocks on a task: all it does with a reply is tell the worker.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hive_client.client import Client
from hive_client.errors import NotFound, OutcomeUnknown, StaleEpoch, Unavailable
from hive_client.models.agents import Heartbeat
from hive_client.worker.waiting import first_of

_log = logging.getLogger("hive_client.worker")

WAIT_MS_MAX = 60_000
# How long one silent node may hold up a heartbeat beyond its wait; then the next node is asked.
SILENT_NODE_S = 2.0
RETRY_MAX_S = 1.0
# No agent calls more often than it was asked to, for the fleet's sake; so much later at most.
STAGGER = 0.1
# The pause after an answer that came at once and said nothing new, doubled up to the maximum.
PACE_S = 0.05
PACE_MAX_S = 1.0


class Listener(Protocol):
    """What the pulse needs of the worker."""

    @property
    def epoch(self) -> int: ...

    def running(self) -> Sequence[Mapping[str, Any]]: ...

    def wants_offers(self) -> bool: ...

    def shortest_lease_ms(self) -> int | None: ...

    async def heard(self, heartbeat: Heartbeat, sent_at: float) -> bool:
        """Act on the reply; True if it said something new."""
        ...

    async def unknown(self, error: NotFound | StaleEpoch) -> None:
        """The node does not know this agent or epoch: register again."""
        ...


class Pulse:
    """Beats until cancelled."""

    def __init__(
        self,
        client: Client,
        agent_id: str,
        listener: Listener,
        metrics: Callable[[], Mapping[str, Any]] | None,
    ) -> None:
        self._client = client
        self._agent_id = agent_id
        self._listener = listener
        self._metrics = metrics
        self._kicked = asyncio.Event()
        self._idle_rounds = 0
        self._failures = 0
        self._in_step = True
        self.interval_ms = 5000
        self.polling_until = 0.0

    def kick(self) -> None:
        """Beat again now: what an open poll listed is out of date."""
        self._kicked.set()

    async def run(self) -> None:
        while True:
            self._kicked.clear()
            try:
                await self._beat()
                self._failures = 0
            except (NotFound, StaleEpoch) as error:
                await self._listener.unknown(error)
            except (Unavailable, OutcomeUnknown) as error:
                self._failures += 1
                self._in_step = True
                if self._failures == 1:
                    _log.warning("agent %s: heartbeat not answered: %s", self._agent_id, error)
                await self._pause(min(RETRY_MAX_S, 0.05 * 2 ** min(self._failures, 8)))

    async def _beat(self) -> None:
        clock = self._client.clock
        wait_ms = self._wait_ms() if self._listener.wants_offers() else 0
        sent_at = clock.monotonic()
        self.polling_until = sent_at + wait_ms / 1000
        heartbeat = await self._or_kicked(self._send(wait_ms))
        if heartbeat is None:
            return
        if heartbeat.heartbeat_interval_ms:
            self.interval_ms = heartbeat.heartbeat_interval_ms
        news = await self._listener.heard(heartbeat, sent_at)
        if wait_ms == 0 and self._listener.wants_offers():
            self._idle_rounds = 0  # the drain was lifted
        elif wait_ms == 0:
            # Draining: a closed poll brings no offers, and leases want renewing all the same.
            await self._pause(self._wait_ms() / 1000)
        elif news or clock.monotonic() - sent_at >= wait_ms / 2000:
            self._idle_rounds = 0
        else:
            # An offer or cancel that is being worked on repeats in every answer, at once.
            await self._pause(min(PACE_MAX_S, PACE_S * 2**self._idle_rounds))
            self._idle_rounds = min(self._idle_rounds + 1, 8)

    async def _send(self, wait_ms: int) -> Heartbeat:
        return await self._client.agents.heartbeat(
            self._agent_id,
            epoch=self._listener.epoch,
            wait_ms=wait_ms or None,
            metrics=self._figures(),
            running=self._listener.running(),
            timeout_s=SILENT_NODE_S * 2,
            attempt_timeout_s=SILENT_NODE_S,
        )

    def _figures(self) -> dict[str, Any]:
        figures = dict(self._metrics()) if self._metrics is not None else {}
        return {"available": self._listener.wants_offers(), **figures}

    def _wait_ms(self) -> int:
        """The server's interval and a little more, and at most a third of the shortest lease: two may be lost.

        An agent that may be in step with others, because all were started or lost their node together, waits for a part
        of the interval once.
        """
        part = random.uniform(STAGGER, 1.0 + STAGGER) if self._in_step else random.uniform(1.0, 1.0 + STAGGER)
        self._in_step = False
        wait_ms = self.interval_ms * part
        lease_ms = self._listener.shortest_lease_ms()
        if lease_ms is not None:
            wait_ms = min(wait_ms, lease_ms / 3)
        return max(1, min(WAIT_MS_MAX, int(wait_ms)))

    async def _pause(self, seconds: float) -> None:
        await self._or_kicked(self._client.clock.sleep(seconds))

    async def _or_kicked(self, step: Any) -> Any:
        """The result of ``step``, or None if a kick came first (the step is cancelled then)."""
        work = asyncio.ensure_future(step)
        kicked = asyncio.ensure_future(self._kicked.wait())
        await first_of(work, kicked)
        return None if work.cancelled() else work.result()
