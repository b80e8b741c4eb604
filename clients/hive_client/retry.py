"""When a call is sent again. One table, one function, no state.

A request may be repeated when the first one certainly did not happen (``safe``), or when repeating is harmless: reads,
writes under one Idempotency-Key, heartbeats. Everything else is raised to the caller at once.
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


def may_repeat(error: HiveError, *, repeatable: bool, internal_errors: int) -> bool:
    """Whether the same bytes may be sent again after ``error``; ``repeatable``: sending twice has one effect."""
    if error.retry == "safe":
        return True
    if error.retry != "same_key" or not repeatable:
        return False
    return not isinstance(error, InternalError) or internal_errors <= INTERNAL_RETRIES_MAX


def moves_on(error: HiveError) -> bool:
    """Whether another node may answer differently."""
    return not (isinstance(error, Unavailable) and (error.code in _STAY or error.status == 429))
