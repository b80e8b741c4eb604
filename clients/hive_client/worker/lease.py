"""How long a worker may believe that a task is its own, without hearing from any node.

THE RULE: time counts from when the request was SENT. The server's clock for the lease starts later, so the
worker always stops before the server gives the task to somebody else.
"""

from __future__ import annotations

from hive_client.clock import Clock

# Time to stop the handler before the lease is over: a fifth of the lease, but no more than this.
MARGIN_MAX_S = 2.0


class Lease:
    """One attempt's lease on the worker's own monotonic clock."""

    def __init__(self, clock: Clock, sent_at: float, lease_ms: int) -> None:
        self._clock = clock
        self.lease_ms = lease_ms
        self._ends_at = sent_at + lease_ms / 1000

    @property
    def stop_at(self) -> float:
        """When the handler must be stopped unless the lease is extended."""
        return self._ends_at - min(MARGIN_MAX_S, self.lease_ms / 5000)

    def extend(self, sent_at: float, remaining_ms: int | None) -> None:
        """A reply to the request sent at ``sent_at`` says how much is left; replies may come out of order."""
        remaining_s = (self.lease_ms if remaining_ms is None else remaining_ms) / 1000
        self._ends_at = max(self._ends_at, sent_at + remaining_s)

    async def run_out(self) -> None:
        """Returns when it is time to stop."""
        while (left := self.stop_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
