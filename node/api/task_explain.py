"""Why a task is not running, and who could run it."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster.replica import CallFailedError, View
from node.api.query import ReadQuery
from node.api.queues import MILLI
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.task_views import find_task
from node.api.times import outside, text, text_or_none
from node.duties.duties import Duties
from node.duties.messages import ExplainReply, ExplainRequest
from statemachine import path_locks, queue_limits, task_queries
from statemachine.hindrance import Hindrance
from statemachine.task_record import Task
from statemachine.task_states import ENDED, TaskState

LEADER_TIMEOUT_S = 1.0
DEPENDENCIES_SHOWN_MAX = 100


class Reason(msgspec.Struct):
    """One thing that keeps the task from running."""

    code: str
    message: str
    data: dict[str, Any]


class CandidateView(msgspec.Struct):
    """An agent the task could go to; score and parts are 0 to 1."""

    agent_id: str
    score: float
    parts: dict[str, float]


class AgentsView(msgspec.Struct):
    """All agents: how many are kept from the task by what, and the best of the others."""

    total: int
    filtered: dict[str, int]
    candidates: list[CandidateView]


class Explanation(msgspec.Struct):
    """`agents` is null while no leader answers."""

    status: str
    reasons: list[Reason]
    agents: AgentsView | None


_BY_AGENTS = (
    # (what filtered agents, code, message), most telling first
    ("slots", "no_free_slot", "agents that could do it have no free slot"),
    ("budget", "budget", "agents that could do it have no budget left; raise its limit or reset it"),
    ("draining", "all_draining", "agents that could do it are draining"),
    ("cooling", "provider_cooling", "the provider of agents that could do it limits its rate; it is tried again soon"),
    ("avoided", "avoided", "the agent that could do it let it go a moment ago; it is tried again soon"),
)


async def explain_task(request: Request[ReadQuery, Any]) -> Reply:
    """Why a task is where it is."""
    task_id = request.parameters["task_id"]
    agents: ExplainReply | None = None
    with request.view() as view:
        project = find_task(request, view, task_id).project
    try:
        calls = request.api.part(Duties).calls
        agents = await calls.explain(ExplainRequest(project, task_id), LEADER_TIMEOUT_S)
    except CallFailedError:
        agents = None
    with request.view() as view:
        task = find_task(request, view, task_id)
        reasons = list(_reasons(view, task, agents, request.api.replica.now_ms()))
    shown = None
    if agents is not None:
        candidates = [CandidateView(found.agent_id, found.score, found.parts) for found in agents.candidates]
        shown = AgentsView(agents.total, dict(sorted(agents.filtered.items())), candidates)
    return json_reply(Explanation(task.status.value, reasons, shown))


def _reasons(view: View, task: Task, agents: ExplainReply | None, now_ms: int) -> list[Reason]:
    status = task.status
    if status in ENDED:
        data: dict[str, Any] = {"status": status.value, "completed_at": text_or_none(task.completed_at)}
        if task.failure is not None:
            data["reason"] = task.failure.reason
        return [Reason("ended", f"the task is {status.value}", data)]
    if status is TaskState.BLOCKED:
        return [_dependencies(view, task)]
    if status is TaskState.SCHEDULED:
        data = {"due_at": text_or_none(task.due_at), "backoff": task.failure is not None}
        what = "the back-off after a failed attempt" if task.failure is not None else "its not_before"
        return [Reason("not_before", f"the task waits for {what}", data)]
    if status is TaskState.WAITING:
        return [_waiting(task)]
    if status is TaskState.PENDING:
        found = [_hindered(hindrance) for hindrance in queue_limits.hindrances(view, task, now_ms)]
        if agents is not None and agents.behind is not None:
            found.append(_behind(agents.behind))
        if agents is not None and not agents.candidates:
            found += _without_agents(agents)
        return found
    return []


def _hindered(hindrance: Hindrance) -> Reason:
    data: dict[str, Any] = outside(hindrance.data)
    if "rate_milli" in data:
        data["rate_per_second"] = data.pop("rate_milli") / MILLI
    return Reason(hindrance.code, hindrance.message, data)


def _behind(task_id: str) -> Reason:
    message = f"task {task_id} comes first and waits for locks that overlap with those of this task"
    return Reason(path_locks.CODE, message, {"behind": task_id, "held_by": []})


def _waiting(task: Task) -> Reason:
    wait = task.wait
    if wait is None:
        return Reason("waiting", "the task is parked by its agent", {})
    message = f"the task waits for {wait.kind} {wait.name!r}; resume it with POST /api/tasks/{task.task_id}/resume"
    if wait.until is not None:
        message += f", or it will {wait.on_timeout} at {text(wait.until)}"
    data = {
        "kind": wait.kind,
        "name": wait.name,
        "assignee": wait.assignee,
        "since": text(wait.since),
        "timeout_at": text_or_none(wait.until),
        "on_timeout": wait.on_timeout,
    }
    return Reason("waiting", message, data)


def _dependencies(view: View, task: Task) -> Reason:
    unmet = [
        {"task_id": other.task_id, "status": other.status.value}
        for other in task_queries.dependency_results(view, task)
        if other.status is not TaskState.COMPLETED
    ]
    data = {"unmet": task.unmet, "tasks": unmet[:DEPENDENCIES_SHOWN_MAX]}
    return Reason("dependency", f"the task waits for {task.unmet} other tasks", data)


def _without_agents(agents: ExplainReply) -> list[Reason]:
    found = [
        Reason(code, message, {"agents": agents.filtered[name]})
        for name, code, message in _BY_AGENTS
        if agents.filtered.get(name)
    ]
    if found:
        return found
    return [Reason("no_agent_capability", "no agent that is online can do it", {"agents": agents.total})]
