"""What a handler may return or raise, and which handler a task gets."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Handler = Callable[[Any], Any]
H = TypeVar("H", bound=Handler)


class Reject(Exception):  # noqa: N818 - what the handler says, as in `raise Reject(...)`
    """This agent cannot do the task; another one may. The attempt fails with reason ``rejected``."""


class RateLimited(Exception):  # noqa: N818 - what the handler says, as in `raise RateLimited(...)`
    """The provider of the model wants a pause. The attempt fails with reason ``rate_limited``: agents with the same
    label ``provider`` get no offers for a while, and nothing is learned from it.
    """


class NonRetryable(Exception):  # noqa: N818 - what the handler says, as in `raise NonRetryable(...)`
    """The task cannot succeed, however often it is tried."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A result together with what must come into being with it or not at all.

    ``tasks``: follow-up tasks (fields as in ``client.tasks.create``); ``events``: session events; ``usage``: what the
    attempt cost in total (``input_tokens, output_tokens, cost_usd``).
    """

    result: Any = None
    artifacts: Sequence[Mapping[str, Any]] | None = None
    usage: Mapping[str, Any] | None = None
    tasks: Sequence[Mapping[str, Any]] | None = None
    events: Sequence[Mapping[str, Any]] | None = None


class Handlers:
    """Handlers by task type, and one for all other types if the user gave it."""

    def __init__(self) -> None:
        self._by_type: dict[str, Handler] = {}
        self._default: Handler | None = None

    def add(self, task_type: str, handler: Handler) -> None:
        if task_type in self._by_type:
            raise ValueError(f"there is a handler for {task_type!r} already")
        self._by_type[task_type] = handler

    def add_default(self, handler: Handler) -> None:
        if self._default is not None:
            raise ValueError("there is a default handler already")
        self._default = handler

    def find(self, task_type: str) -> Handler | None:
        return self._by_type.get(task_type, self._default)

    def __bool__(self) -> bool:
        return bool(self._by_type) or self._default is not None


def is_async(handler: Handler) -> bool:
    """Whether the handler runs on the event loop; all others get a thread of their own."""
    call = getattr(handler, "__call__", None)  # noqa: B004 - an object whose __call__ is async counts as async too
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)
