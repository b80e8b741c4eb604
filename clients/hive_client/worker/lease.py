"""How long a worker may believe that a task is its own, without hearing from any node.

THE RULE: time counts from when the request was SENT. The server's clock for the lease starts later, so the
worker always stops before the server gives the task to somebody else.
"""

from __future__ import annotations

from hive_client.clock import Clock

# Time to stop the handler before the lease is over: a fifth of the lease, but no more than this.
MARGIN_MAX_S = 2.0
# The server tells whole milliseconds.
ROUNDING_S = 0.01


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
        """The reply, just in, to the request sent at ``sent_at`` says how much is left; replies may come out of order.

        A heartbeat renews in full when it arrives, and a long poll is answered later, when less is left. When in that
        while is not known here; so the full lease counts from sending, if what is left now allows for it.
        """
        lease_s = self.lease_ms / 1000
        remaining_s = lease_s if remaining_ms is None else remaining_ms / 1000
        if self._clock.monotonic() + remaining_s >= sent_at + lease_s - ROUNDING_S:
            remaining_s = max(remaining_s, lease_s)
        self._ends_at = max(self._ends_at, sent_at + remaining_s)

    async def run_out(self) -> None:
        """Returns when it is time to stop."""
        while (left := self.stop_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
