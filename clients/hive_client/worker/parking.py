"""How a handler waits: its attempt ends, its slot is free, and the next attempt finds the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hive_client.models.tasks import Grant, Resume
from hive_client.task_waits import OnTimeout, WaitFor


class Wait(BaseException):
    """Park the task until it is answered. No ``Exception``: a handler that catches all errors must not catch this."""

    def __init__(
        self,
        kind: str,
        name: str | None = None,
        *,
        prompt: str | None = None,
        options: Sequence[Any] | None = None,
        assignee: str | None = None,
        checkpoint: Any = None,
        timeout_s: float | None = None,
        on_timeout: OnTimeout | None = None,
        usage: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"waits for {kind} {name or kind}")
        wait_for: WaitFor = {"kind": kind, "name": name or kind}
        if prompt is not None:
            wait_for["prompt"] = prompt
        if options is not None:
            wait_for["options"] = list(options)
        if assignee is not None:
            wait_for["assignee"] = assignee
        self.wait_for = wait_for
        self.checkpoint = checkpoint
        self.timeout_ms = None if timeout_s is None else max(1, round(timeout_s * 1000))
        self.on_timeout = on_timeout
        self.usage = usage


def answered(grant: Grant, name: str) -> Resume | None:
    """The answer to a wait of that name, if the task was resumed with one."""
    return next((resume for resume in reversed(grant.resumes) if resume.name == name), None)


def wait_within(error: BaseException) -> Wait | None:
    """The wait that an error is or, as raised in a task group, holds."""
    if isinstance(error, Wait):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := wait_within(inner)) is not None), None)
    return None
