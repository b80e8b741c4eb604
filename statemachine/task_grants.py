"""Giving tasks to agents: offers by the leader or by hand, and claims. Every grant raises `attempt`,
the fence."""

from __future__ import annotations

from typing import Any, NamedTuple

from statemachine import agent_record, budgets, path_locks, projects, queue_limits, queues, task_record, task_store
from statemachine.agent_record import Agent
from statemachine.commands import AssignTask, ClaimTasks, Offer, OfferTasks
from statemachine.context import Context
from statemachine.hindrance import Hindrance
from statemachine.outcome import Item, Made, Outcome, Refusal, Refused, accepted
from statemachine.task_record import Task
from statemachine.task_states import TaskState, Verb

# An Enum's member costs a look-up in its class each time.
_PENDING, _ASSIGNED, _RUNNING = TaskState.PENDING, TaskState.ASSIGNED, TaskState.RUNNING
_OFFER, _CLAIM, _CLAIM_NAMED = Verb.OFFER, Verb.CLAIM, Verb.CLAIM_NAMED

WHY = {
    "unknown": "no such agent is registered",
    "offline": "the agent is offline",
    "unresponsive": "the agent is unresponsive",
    "draining": "the agent is draining: it gets no new work",
    "project": "the agent does not work for this project",
    "capability": "the agent lacks a capability the task requires",
    "no_slot": "the agent has no free slot",
    "budget": "the agent's budget has no room for another task; raise its limit or reset it",
}
"""Why an agent is not given a task, most lasting reason first."""


def capable(agent: Agent, task: Task) -> bool:
    """Whether the agent has every capability the task requires, at the proficiency it asks for."""
    return all(agent.proficiency(needed.name) >= needed.min_proficiency for needed in task.requires)


def unavailable(agent_id: str, why: str, task: Task) -> Refused:
    """The refusal of a grant because of the agent."""
    current: dict[str, Any] = {"why": why, **task_store.current(task)}
    return Refused("agent_unavailable", f"agent {agent_id!r}: {WHY[why]}", current)


def _grant(ctx: Context, task: Task, agent: Agent, verb: Verb, grant_ms: int) -> int:
    """Grant the task; returns the revision taken."""
    revision = ctx.take_revision()
    before = task_store.place(task)
    task.attempt += 1
    task.agent_id = agent.agent_id
    task.holder_no = agent.number
    task.agent_epoch = agent.epoch
    task.granted_at = ctx.time_ms
    task.grant_ms = grant_ms
    if ctx.meta.budgets:
        budgets.reserve(ctx, task, agent.agent_id)
    task.due_at = None
    task.avoid_agent_id = None
    task.fraction = None
    if task.progress_message is not None and not _handed_over(task):
        task.progress_message = None
    if verb is _OFFER:
        task_store.move(ctx, before, verb, _ASSIGNED, revision)
    else:
        start(ctx, task)
        task_store.move(ctx, before, verb, _RUNNING, revision)
    return revision


def _handed_over(task: Task) -> bool:
    """Whether whoever had the task last gave it back: what it said then is for the next one to read."""
    if not task.wins or task.wins[-1].verb != Verb.RELEASE:
        return False
    released = task.wins[-1].attempt
    return not any(line.attempt > released and line.to_state is TaskState.RUNNING for line in task.history)


def start(ctx: Context, task: Task) -> None:
    """An attempt begins: it counts as a try."""
    task.tries += 1
    task.wait = None
    task.started_at = ctx.time_ms


def claim_tasks(ctx: Context, command: ClaimTasks) -> Outcome:
    """ClaimTasks."""
    project_no = ctx.require_project().number
    agent = agent_record.find(ctx.state, command.agent_id)
    if agent is None:
        raise Refused("not_found", f"agent {command.agent_id!r} is not registered; register it first")
    require_epoch(command.agent_id, agent, command.epoch)
    verb = _CLAIM_NAMED if command.named else _CLAIM
    items: list[Item] = []
    for task_id in command.task_ids:
        task = task_record.find(ctx.state, project_no, task_id)
        refusal = _why_not_claimed(ctx, command, agent, task, task_id)
        if refusal is None and task is not None:
            revision = _grant(ctx, task, agent, verb, command.lease_ms or task.lease_ms)
            items.append(Item(200, task_id, revision, (task.attempt,)))
        elif command.named and refusal is not None:
            items.append(Item(0, task_id, refusal=Refusal(refusal.code, refusal.detail, refusal.current)))
        else:
            items.append(Item(0, task_id))
    return Outcome(ctx.meta.revision, tuple(items))


def _why_not_claimed(
    ctx: Context, command: ClaimTasks, agent: Agent, task: Task | None, task_id: str
) -> Refused | None:
    if task is None:
        return task_store.not_found(task_id)
    if task.status is not _PENDING:
        named = command.named and task.status is TaskState.SCHEDULED and task.failure is not None
        if not named:
            return task_store.conflict(task, f"the task is {task.status}: it can not be claimed")
    hindrance = _first_hindrance(ctx, task)
    if hindrance is not None:
        refusal = hindered(task, hindrance)
        if command.named and hindrance.code == "rate_limit":
            # Refused as a whole, so that the answer is not kept under an Idempotency-Key: it is to be tried again.
            raise refusal
        return refusal
    why = _why_not_now(ctx, agent, task, asks_itself=True)
    return None if why is None else unavailable(agent.agent_id, why, task)


def _why_not_now(ctx: Context, agent: Agent, task: Task, *, asks_itself: bool = False) -> str | None:
    """Why this agent may not be given this task now (a key of `WHY`), or None.

    An agent that `asks_itself` is alive, whatever the leader last thought.
    """
    if not asks_itself and agent.liveness != agent_record.ONLINE:
        return agent.liveness
    if agent.draining:
        return "draining"
    if task.project not in agent.projects and agent_record.ANY_PROJECT not in agent.projects:
        return "project"
    if task.requires and not capable(agent, task):
        return "capability"
    if agent_record.held(ctx.state, agent.number) >= agent.max_concurrent:
        return "no_slot"
    if ctx.meta.budgets and budgets.shortage_of_agent(ctx.state, agent.agent_id) is not None:
        return "budget"
    return None


def _first_hindrance(ctx: Context, task: Task) -> Hindrance | None:
    if not (ctx.meta.budgets or task.locks or task.concurrency_key is not None):
        queue = queues.look(ctx.state, task.project_no, task.queue)
        if queue is None or not queue.limited:
            return None
    return queue_limits.first_hindrance(ctx.state, task, ctx.time_ms, budgeted=ctx.meta.budgets > 0)


def hindered(task: Task, hindrance: Hindrance) -> Refused:
    """The refusal of a grant because of the task's queue, concurrency key or locks."""
    code = "rate_limited" if hindrance.code == "rate_limit" else "conflict"
    data = {name: value for name, value in hindrance.data.items() if name != "rate_milli"}
    if hindrance.code == path_locks.CODE:
        code, data["holders"] = path_locks.CODE, data.pop("held_by")
    current = {"why": hindrance.code, **data, **task_store.current(task)}
    return Refused(code, hindrance.message, current)


def require_epoch(agent_id: str, agent: Agent | None, epoch: int | None) -> None:
    """Refuse a call under an epoch that is no longer the agent's."""
    if epoch is None or (agent is not None and agent.epoch == epoch):
        return
    current = None if agent is None else agent.epoch
    detail = f"agent {agent_id!r} is at epoch {current}" if agent else f"agent {agent_id!r} is not registered any more"
    raise Refused("stale_epoch", f"{detail}: this one must stop, or register again", {"epoch": current})


def assign_task(ctx: Context, command: AssignTask) -> Outcome:
    """AssignTask."""
    task = task_store.require(ctx, command.task_id)
    if task.status is not TaskState.PENDING:
        raise task_store.conflict(task, f"the task is {task.status}: only a pending one can be assigned")
    hindrance = _first_hindrance(ctx, task)
    if hindrance is not None:
        raise hindered(task, hindrance)
    agent = agent_record.find(ctx.state, command.agent_id)
    if agent is None:
        raise unavailable(command.agent_id, "unknown", task)
    why = _why_not_now(ctx, agent, task)
    if why is not None:
        raise unavailable(agent.agent_id, why, task)
    revision = _grant(ctx, task, agent, Verb.OFFER, command.offer_timeout_ms)
    return accepted(Made(200, task.task_id, revision, (task.attempt,), record=task))


def offer_tasks(ctx: Context, command: OfferTasks) -> Outcome:
    """OfferTasks: the leader's choice, checked again."""
    found = _Found(ctx, {}, {})
    items = tuple([_offer(found, offer, command.offer_timeout_ms) for offer in command.items])
    return Outcome(ctx.meta.revision, items)


class _Found(NamedTuple):
    """Projects' numbers and agents of one command, which its offers do not change."""

    ctx: Context
    projects: dict[str, int]
    agents: dict[str, Agent | None]


def _offer(found: _Found, offer: Offer, offer_timeout_ms: int) -> Item:
    ctx = found.ctx
    project_no = found.projects.get(offer.project)
    if project_no is None:
        project = projects.find(ctx.state, offer.project)
        if project is None:
            return Item(0, offer.task_id)
        project_no = found.projects[offer.project] = project.number
    task = task_record.find(ctx.state, project_no, offer.task_id)
    if task is None or task.status is not _PENDING or task.attempt != offer.attempt:
        return Item(0, offer.task_id)
    if offer.agent_id not in found.agents:
        found.agents[offer.agent_id] = agent_record.find(ctx.state, offer.agent_id)
    agent = found.agents[offer.agent_id]
    if agent is None or agent.epoch != offer.epoch:
        return Item(0, offer.task_id)
    if _why_not_now(ctx, agent, task) is not None:
        return Item(0, offer.task_id)
    if _first_hindrance(ctx, task) is not None:
        return Item(0, offer.task_id)
    revision = _grant(ctx, task, agent, _OFFER, offer_timeout_ms)
    return Item(200, task.task_id, revision, (task.attempt,))
