"""What an agent's attempts teach about it: how often it succeeds at what, lately, and what an attempt costs.

Rates are in ten-thousandths, exponentially weighted: every attempt that ended moves the rate by an eighth of the way to
10,000 (it succeeded) or to 0 (it did not), rounded up, so that either end can be reached. A rate begins at `PRIOR`:
after n attempts that still has a weight of (7/8)^n, a quarter after ten. The prior is full trust: with less, whoever
succeeded first would stand above all who were never tried, and get everything.
"""

from __future__ import annotations

import msgspec

from statemachine import limits
from statemachine.task_record import Task

PRIOR = 10_000
_SHIFT = 3
_WHOLE = 10_000
_RATE_BITS = 14
_RATE_MASK = (1 << _RATE_BITS) - 1

NO_VERDICT = frozenset({"rejected", "rate_limited"})
"""Failures that say nothing of the agent: the task itself was refused, or the provider of the model wanted a pause."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, int])


class Rate(msgspec.Struct, frozen=True):
    """How often attempts at something succeeded lately, in ten-thousandths, and how many there were."""

    name: str
    rate: int
    attempts: int


class Ended(msgspec.Struct, frozen=True):
    """An attempt that ended. `succeeded` None: it says nothing of the agent. `cost_micro`: what its last report said it
    cost, in micro-dollars; 0 when it said nothing."""

    task: Task
    completed: bool
    succeeded: bool | None
    cost_micro: int


def moved(rate: int, *, succeeded: bool) -> int:
    """The rate after one more attempt."""
    return rate - (rate - _WHOLE >> _SHIFT) if succeeded else rate + (-rate >> _SHIFT)


def moved_cost(cost_micro: int | None, latest_micro: int) -> int | None:
    """The cost of an attempt after one more; the first that says what it cost counts whole, a silent one not at all."""
    if not latest_micro:
        return cost_micro
    return latest_micro if cost_micro is None else cost_micro + (latest_micro - cost_micro >> _SHIFT)


def taught(learned: bytes, task: Task, *, succeeded: bool) -> bytes:
    """The rates by name after an attempt at this task: of each capability it requires, or of its type when it requires
    none. The names that were used last are kept, `limits.LEARNED_MAX` of them."""
    kept = _decoder.decode(learned) if learned else {}
    names = dict.fromkeys([need.name for need in task.requires]) if task.requires else (task.type,)
    for name in names:
        known = kept.pop(name, PRIOR)
        attempts = min((known >> _RATE_BITS) + 1, limits.SUM_MAX >> _RATE_BITS)
        kept[name] = attempts << _RATE_BITS | moved(known & _RATE_MASK, succeeded=succeeded)
    while len(kept) > limits.LEARNED_MAX:
        del kept[next(iter(kept))]
    return _encoder.encode(kept)


def without(learned: bytes, names: tuple[str, ...]) -> bytes:
    """The rates without those of some names."""
    kept = _decoder.decode(learned) if learned else {}
    left = {name: known for name, known in kept.items() if name not in names}
    return _encoder.encode(left) if left else b""


def read(learned: bytes) -> list[Rate]:
    """The rates, that which was used last at the end."""
    if not learned:
        return []
    return [Rate(name, known & _RATE_MASK, known >> _RATE_BITS) for name, known in _decoder.decode(learned).items()]
