"""When a call is sent again. One table, one function, no state.

Every request of this library is harmless to repeat: a read, a write under its Idempotency-Key, or one that the API
calls so (heartbeat, renew, progress). So what did not happen (``safe``) and what may have happened (``same_key``) are
both asked again; a refusal is raised at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hive_client.errors import HiveError, InternalError, Unavailable

# A bug answers the same way for ever; one more try covers a node that was just failing.
INTERNAL_RETRIES_MAX = 1

# These say "this caller is too fast", which another node would only say again.
_STAY = frozenset({"rate_limited", "queue_full"})


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delay with full jitter: a fleet that lost its leader must not come back in step."""

    initial_ms: float = 25.0
    factor: float = 2.0
    max_ms: float = 1000.0

    def delay_ms(self, round_number: int) -> float:
        ceiling = min(self.max_ms, self.initial_ms * self.factor ** min(round_number, 32))
        return ceiling * (0.5 + random.random() / 2)


def may_repeat(error: HiveError, *, internal_errors: int) -> bool:
    """Whether the same bytes are sent again after ``error``, of whose kind ``internal`` there were so many."""
    if isinstance(error, InternalError):
        return internal_errors <= INTERNAL_RETRIES_MAX
    return error.retry in {"safe", "same_key"}


def moves_on(error: HiveError) -> bool:
    """Whether another node may answer differently."""
    return not (isinstance(error, Unavailable) and (error.code in _STAY or error.status == 429))
