"""Registration of a worker, again and again if need be."""

from __future__ import annotations

import logging
import random

from hive_client.client import Client
from hive_client.errors import OutcomeUnknown, Unavailable
from hive_client.models.agents import AgentFields, Registration

_log = logging.getLogger("hive_client.worker")

RETRY_MAX_S = 5.0
# Two processes with one agent_id take it from each other: each time is slower than the last.
STOLEN_RETRY_MAX_S = 30.0
STOLEN_FORGIVEN_S = 120.0


class Enrolment:
    """Holds who the agent is; ``register`` returns once a node took it in."""

    def __init__(self, client: Client, agent_id: str, agent: AgentFields) -> None:
        self._client = client
        self._agent_id = agent_id
        self._agent = agent
        self._stolen = 0
        self._registered_at = 0.0

    async def register(self) -> Registration:
        """Until it works: a worker may well be started before its cluster. Raises what no retry can mend."""
        failures = 0
        while True:
            try:
                registration = await self._client.agents.register(self._agent_id, **self._agent)
            except (Unavailable, OutcomeUnknown) as error:
                _log.warning("agent %s: not registered yet: %s", self._agent_id, error)
                failures += 1
                await self._client.clock.sleep(min(RETRY_MAX_S, 0.1 * 2 ** min(failures, 8)))
                continue
            self._registered_at = self._client.clock.monotonic()
            _log.info("agent %s: registered, epoch %d", self._agent_id, registration.epoch)
            return registration

    async def after_theft(self) -> None:
        """The pause before the agent id is taken back: none the first time, then longer and longer."""
        if self._client.clock.monotonic() - self._registered_at > STOLEN_FORGIVEN_S:
            self._stolen = 0
        delay_s = min(STOLEN_RETRY_MAX_S, 2.0**self._stolen - 1) * (0.5 + random.random() / 2)
        self._stolen += 1
        if delay_s > 0:
            await self._client.clock.sleep(delay_s)
