"""How a result is recorded: the task's completion and an event of the run's session, in one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hive_client import Completion, TaskContext

RECORDED = "custom.demo.result_recorded"


def recorded(context: TaskContext, result: Mapping[str, Any]) -> Completion:
    """The result, and the event that comes into being with it or not at all."""
    return Completion(result=result, events=[recorded_event(context.task.task_id, context.attempt, context.agent_id)])


def recorded_event(task_id: str, attempt: int, agent_id: str) -> dict[str, Any]:
    """The event that says: this attempt's result counts."""
    return {
        "type": RECORDED,
        "data": {"task_id": task_id, "attempt": attempt, "agent_id": agent_id},
        "actor": agent_id,
        "correlation_id": task_id,
    }
