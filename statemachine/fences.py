"""`Hive-Fence`: a write that is to happen only while an attempt or epoch is current. Anything else
changes nothing."""

from __future__ import annotations

from statemachine import agent_record, task_record, task_store
from statemachine.entry import Fence
from statemachine.outcome import Refused
from statemachine.records import Project
from statemachine.store import Reader
from statemachine.task_states import HELD


def check(state: Reader, project: Project | None, fence: Fence) -> None:
    """Pass, or raise `stale_attempt`, `stale_epoch` or `stale_token` with `current`."""
    if fence.kind == "task":
        _check_task(state, project, fence)
    elif fence.kind == "agent":
        _check_agent(state, fence)
    elif fence.kind == "lock":
        raise Refused("stale_token", f"lock {fence.resource_id!r} is not held", {"token": None})
    else:
        raise Refused("invalid_request", "Hive-Fence names a task, an agent or a lock")


def _check_task(state: Reader, project: Project | None, fence: Fence) -> None:
    task = None if project is None else task_record.find(state, project.number, fence.resource_id)
    if task is None:
        detail = f"the fence names task {fence.resource_id!r}, which does not exist"
        raise Refused("stale_attempt", detail, dict.fromkeys(("status", "attempt", "agent_id", "granted_at")))
    if task.status not in HELD or task.attempt != fence.number:
        detail = f"the fence's task is {task.status} at attempt {task.attempt}: stop working on it"
        raise Refused("stale_attempt", detail, task_store.current(task))


def _check_agent(state: Reader, fence: Fence) -> None:
    agent = agent_record.find(state, fence.resource_id)
    current = None if agent is None else agent.epoch
    if current != fence.number:
        detail = f"the fence's agent {fence.resource_id!r} is not at epoch {fence.number}"
        raise Refused("stale_epoch", detail, {"epoch": current})
