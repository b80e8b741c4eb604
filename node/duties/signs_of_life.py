"""Changes of tasks that only the holder of an attempt can have made: each is a sign of life, whichever node it went
through. The leader needs no message for them, it sees them happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statemachine.task_states import HELD

_BY_HOLDER = frozenset({"task.started", "task.completed", "task.waiting", "task.progress"})
_ENDS_OF_ATTEMPTS = frozenset({"task.failed", "task.scheduled", "task.released"})
_REASONS_OF_LEADERS = frozenset({"lease_lost", "timeout"})
"""An agent that gives one of them itself is not heard by it, and has other ways."""


def is_by_holder(kind: str, data: Mapping[str, Any]) -> bool:
    """Whether the agent that the change names did this itself."""
    if kind in _BY_HOLDER:
        return True
    return kind in _ENDS_OF_ATTEMPTS and data.get("from") in HELD and data.get("reason") not in _REASONS_OF_LEADERS
