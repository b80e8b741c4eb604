"""From what a handler did to what the server is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hive_client.calls import encode
from hive_client.worker.handlers import Completion, NonRetryable, RateLimited, Reject
from hive_client.worker.parking import Wait

# The server takes 4,096 bytes, and a character has up to four; a traceback belongs into the log of the worker.
MESSAGE_CHARS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed; with ``retryable`` and tries left the task comes again."""

    reason: str
    message: str
    retryable: bool


def outcome_of_value(value: Any) -> Completion | Failed:
    """A handler's return value; what is not JSON cannot be a result, and trying again would not make it so."""
    completion = value if isinstance(value, Completion) else Completion(value)
    try:
        encode([completion.result, completion.artifacts, completion.usage, completion.tasks, completion.events])
    except (TypeError, ValueError) as error:
        return Failed("error", f"the handler's result is not JSON: {error}"[:MESSAGE_CHARS_MAX], retryable=False)
    return completion


def outcome_of_wait(wait: Wait) -> Wait | Failed:
    """The wait, if what it says can be said."""
    try:
        encode([dict(wait.wait_for), wait.checkpoint, wait.usage])
    except (TypeError, ValueError) as error:
        return Failed("error", f"what the handler waits with is not JSON: {error}"[:MESSAGE_CHARS_MAX], retryable=False)
    return wait


def outcome_of_error(error: BaseException) -> Failed:
    """The failure that an exception of a handler stands for."""
    text = f"{type(error).__name__}: {error}"[:MESSAGE_CHARS_MAX]
    if isinstance(error, Reject):
        return Failed("rejected", str(error)[:MESSAGE_CHARS_MAX], retryable=True)
    if isinstance(error, RateLimited):
        return Failed("rate_limited", str(error)[:MESSAGE_CHARS_MAX], retryable=True)
    if isinstance(error, NonRetryable):
        return Failed("error", str(error)[:MESSAGE_CHARS_MAX], retryable=False)
    return Failed("error", text, retryable=True)
