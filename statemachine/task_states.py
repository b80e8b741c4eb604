"""The states of a task and the table of every legal transition. What is not in the table is refused and
changes nothing."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task stands (API.md section 4; pictured in DESIGN.md)."""

    # States and verbs are keys of tables that every transition looks into; an Enum's own hash is a Python function.
    __hash__ = str.__hash__

    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Verb(StrEnum):
    """What can happen to a task, by whoever does it."""

    __hash__ = str.__hash__

    # dependencies and time
    UNBLOCK = "unblock"
    WAKE = "wake"
    EXPIRE = "expire"
    # users
    RESCHEDULE = "reschedule"
    CANCEL = "cancel"
    RETRY = "retry"
    RESUME = "resume"
    # grants
    OFFER = "offer"
    CLAIM = "claim"
    CLAIM_NAMED = "claim_named"
    # the holder
    ACCEPT = "accept"
    CHECKPOINT = "checkpoint"
    COMPLETE = "complete"
    FAIL = "fail"
    RELEASE = "release"
    PARK = "wait"
    # the leader
    WITHDRAW = "withdraw"
    LOSE = "lose"
    TIME_OUT = "time_out"
    END_WAIT = "end_wait"
    REQUEUE = "requeue"


_S = TaskState
_V = Verb

ENDED = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.EXPIRED})
"""States in which no attempt can change anything any more."""

FINAL = ENDED - {_S.FAILED}
"""Ends that nothing takes back: a failed task may be redriven."""

HELD = frozenset({_S.ASSIGNED, _S.RUNNING})
"""States in which exactly one agent holds the task, and may use the verbs of a holder."""

STOPPED = frozenset({_S.CANCELLED, _S.EXPIRED})
"""Ended by decree: an agent that was running the task occupies its slot until it confirms, or its lease
ends."""

_UNSTARTED = {_V.CANCEL: {_S.CANCELLED}, _V.EXPIRE: {_S.EXPIRED}}
_ATTEMPT = {
    **_UNSTARTED,
    # For the holder of a running attempt `accept` is a 200 that changes nothing.
    _V.ACCEPT: {_S.RUNNING},
    _V.CHECKPOINT: {_S.RUNNING},
    _V.COMPLETE: {_S.COMPLETED},
    _V.FAIL: {_S.SCHEDULED, _S.FAILED},
    _V.RELEASE: {_S.PENDING},
    # To `pending` when the answer was there before.
    _V.PARK: {_S.WAITING, _S.PENDING},
}

TRANSITIONS: dict[TaskState, dict[Verb, set[TaskState]]] = {
    _S.BLOCKED: {**_UNSTARTED, _V.UNBLOCK: {_S.PENDING, _S.SCHEDULED}},
    _S.SCHEDULED: {
        **_UNSTARTED,
        _V.WAKE: {_S.PENDING},
        _V.RESCHEDULE: {_S.PENDING, _S.SCHEDULED},
        # Only after a failed attempt: a task that waits for its own time is not claimed before it.
        _V.CLAIM_NAMED: {_S.RUNNING},
    },
    _S.PENDING: {
        **_UNSTARTED,
        _V.RESCHEDULE: {_S.PENDING, _S.SCHEDULED},
        _V.OFFER: {_S.ASSIGNED},
        _V.CLAIM: {_S.RUNNING},
        _V.CLAIM_NAMED: {_S.RUNNING},
    },
    _S.ASSIGNED: {**_ATTEMPT, _V.WITHDRAW: {_S.PENDING}, _V.REQUEUE: {_S.PENDING}},
    _S.RUNNING: {
        **_ATTEMPT,
        _V.LOSE: {_S.SCHEDULED, _S.FAILED},
        _V.TIME_OUT: {_S.SCHEDULED, _S.FAILED},
        _V.REQUEUE: {_S.PENDING, _S.FAILED},
    },
    _S.WAITING: {
        **_UNSTARTED,
        _V.RESUME: {_S.PENDING},
        _V.END_WAIT: {_S.FAILED, _S.CANCELLED},
    },
    _S.COMPLETED: {},
    # To `scheduled` where many are redriven at a rate.
    _S.FAILED: {_V.RETRY: {_S.PENDING, _S.SCHEDULED}},
    # Nothing but the holder's slot changes: cancelled stays cancelled, expired stays expired.
    _S.CANCELLED: {
        _V.CANCEL: {_S.CANCELLED},
        _V.RELEASE: {_S.CANCELLED},
        _V.LOSE: {_S.CANCELLED},
        _V.REQUEUE: {_S.CANCELLED},
    },
    _S.EXPIRED: {_V.RELEASE: {_S.EXPIRED}, _V.LOSE: {_S.EXPIRED}, _V.REQUEUE: {_S.EXPIRED}},
}


LEGAL = frozenset(
    (state, verb, to) for state, verbs in TRANSITIONS.items() for verb, reached in verbs.items() for to in reached
)
"""TRANSITIONS as triples."""
