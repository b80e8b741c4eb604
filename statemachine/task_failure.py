"""The end of an attempt that did not succeed: when the next one may begin, or that there is none."""

from __future__ import annotations

from statemachine import task_store
from statemachine.commands import Backoff
from statemachine.context import Context
from statemachine.task_record import LastFailure
from statemachine.task_states import TaskState, Verb

_RATIO = 10_000
_RANDOM_BITS = 32


def backoff_ms(backoff: Backoff, tries: int, random: int) -> int:
    """The delay after `tries` tries: initial * factor^(tries-1), at most max, plus or minus jitter;
    integers throughout.

    `random` is 0 to 2^32-1 and chosen before the log, so that all nodes compute the same delay.
    """
    delay = min(backoff.initial_ms, backoff.max_ms)
    for _ in range(tries - 1):
        grown = min(delay * backoff.factor // _RATIO, backoff.max_ms)
        if grown == delay:
            break
        delay = grown
    spread = delay * backoff.jitter // _RATIO
    return max(0, delay - spread + ((2 * spread + 1) * random >> _RANDOM_BITS))


def end_attempt(
    ctx: Context,
    before: task_store.Placement,
    verb: Verb,
    revision: int,
    *,
    failure: LastFailure,
    retryable: bool,
    random: int | None,
) -> None:
    """Take a task from an attempt that failed to the next one, or to `failed`.

    With `random` the next attempt comes after the back-off (`scheduled`), without at once (`pending`).
    """
    task = before.task
    task.failure = failure
    task.due_at = None
    if not retryable or task.tries >= task.max_attempts:
        task_store.move(ctx, before, verb, TaskState.FAILED, revision, reason=failure.reason)
    elif random is None:
        task_store.move(ctx, before, verb, TaskState.PENDING, revision, reason=failure.reason)
    else:
        task.due_at = ctx.time_ms + backoff_ms(task.backoff, task.tries, random)
        task_store.move(ctx, before, verb, TaskState.SCHEDULED, revision, reason=failure.reason)
