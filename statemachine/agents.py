"""Agents: registration and its epochs, draining, liveness, removal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from statemachine import agent_record, projects, task_record
from statemachine.agent_record import ANY_PROJECT, LIVENESS, OFFLINE, ONLINE, Agent
from statemachine.commands import (
    AgentBelieved,
    Command,
    DeleteAgent,
    DrainAgent,
    RegisterAgent,
    RequeueAgentWork,
    ResetLearned,
    SetAgentLiveness,
)
from statemachine.context import CLUSTER, Context
from statemachine.outcome import Item, Outcome, Refused, accepted
from statemachine.task_dependencies import Effects
from statemachine.task_requeue import requeue_held, requeue_offers

_REPLACED = (
    "name",
    "endpoint",
    "model",
    "specialization",
    "capabilities",
    "hardware",
    "performance_targets",
    "labels",
    "metadata",
    "max_concurrent",
    "label_names",
)


def _require(ctx: Context, agent_id: str) -> Agent:
    agent = agent_record.find(ctx.state, agent_id)
    if agent is None:
        raise Refused("not_found", f"agent {agent_id!r} is not registered")
    return agent


def _projects_of(ctx: Context, command: RegisterAgent) -> tuple[str, ...]:
    """The projects the agent works for; all must exist. None named: that of the request."""
    default = ctx.frame.project or projects.DEFAULT_PROJECT
    names = tuple(dict.fromkeys(command.projects or (default,)))
    for project in (default, *names):
        known = project in (ANY_PROJECT, projects.DEFAULT_PROJECT) or projects.find(ctx.state, project)
        if not known:
            raise Refused("unknown_project", f"project {project!r} does not exist; create it first")
    return names


def _register(ctx: Context, command: RegisterAgent) -> Outcome:
    names = _projects_of(ctx, command)
    if not task_record.is_name(command.agent_id):
        raise Refused("invalid_request", "agent_id is no id")
    if command.max_concurrent < 1:
        raise Refused("invalid_request", "max_concurrent must be at least 1")
    agent = agent_record.find(ctx.state, command.agent_id)
    if agent is None:
        return _create(ctx, command, names)
    if command.instance_id is not None and command.instance_id == agent.instance_id:
        return _refresh(ctx, command, agent, names)
    return _renew(ctx, command, agent, names)


def _take_epoch(ctx: Context) -> int:
    epoch = ctx.meta.next_agent
    ctx.meta.next_agent += 1
    return epoch


def _create(ctx: Context, command: RegisterAgent, names: tuple[str, ...]) -> Outcome:
    revision, epoch, now = ctx.take_revision(), _take_epoch(ctx), ctx.time_ms
    agent = Agent(
        number=epoch,
        agent_id=command.agent_id,
        epoch=epoch,
        instance_id=command.instance_id,
        name=command.name,
        endpoint=command.endpoint,
        model=command.model,
        specialization=command.specialization,
        capabilities=command.capabilities,
        hardware=command.hardware,
        performance_targets=command.performance_targets,
        labels=command.labels,
        metadata=command.metadata,
        projects=names,
        max_concurrent=command.max_concurrent,
        liveness=ONLINE,
        draining=False,
        registered_at=now,
        updated_at=now,
        created_at=now,
        created_revision=revision,
        revision=revision,
        slots_high=command.max_concurrent,
        label_names=command.label_names,
    )
    agent_record.create(ctx.state, agent)
    _count(ctx, agent, 1)
    _report(ctx, agent, "agent.registered", {"epoch": epoch})
    return accepted(Item(201, agent.agent_id, revision, (epoch,)))


def _refresh(ctx: Context, command: RegisterAgent, agent: Agent, names: tuple[str, ...]) -> Outcome:
    """The same process registers again: same epoch, what it holds stays its own."""
    before = msgspec.structs.replace(agent)
    _replace(agent, command, names)
    agent.liveness = ONLINE
    if agent == before:
        return accepted(Item(200, agent.agent_id, agent.revision, (agent.epoch,)))
    revision = ctx.take_revision()
    _write(ctx, agent, before, revision)
    if agent_record.counted_status(agent) == agent_record.counted_status(before):
        _report(ctx, agent, "agent.registered", {"epoch": agent.epoch})
    return accepted(Item(200, agent.agent_id, revision, (agent.epoch,)))


def _renew(ctx: Context, command: RegisterAgent, agent: Agent, names: tuple[str, ...]) -> Outcome:
    """Another process under the same id: what the former one held is taken back at once.

    It is not draining, even if the former one was: it came to work.
    """
    before = msgspec.structs.replace(agent)
    revision = ctx.take_revision()
    _replace(agent, command, names)
    agent.epoch = _take_epoch(ctx)
    agent.instance_id = command.instance_id
    agent.liveness, agent.draining = ONLINE, False
    agent.registered_at = ctx.time_ms
    _write(ctx, agent, before, revision, report=False)
    _report(ctx, agent, "agent.registered", {"epoch": agent.epoch})
    requeue_held(ctx, agent.number, agent.epoch, Effects(revision=revision))
    return accepted(Item(201, agent.agent_id, revision, (agent.epoch,)))


def _replace(agent: Agent, command: RegisterAgent, names: tuple[str, ...]) -> None:
    for field in _REPLACED:
        setattr(agent, field, getattr(command, field))
    agent.projects = names
    agent.slots_high = max(agent.slots_high, agent.max_concurrent)


def _write(ctx: Context, agent: Agent, before: Agent, revision: int, *, report: bool = True) -> None:
    """Write a changed agent; count it anew and report it when its status is another one."""
    agent.revision, agent.updated_at = revision, ctx.time_ms
    agent_record.put(ctx.state, agent)
    was, now = agent_record.counted_status(before), agent_record.counted_status(agent)
    if was != now:
        _count(ctx, before, -1)
        _count(ctx, agent, 1)
        if report:
            _report(ctx, agent, "agent.status_changed", {"from": was, "to": now, "epoch": agent.epoch})


def _count(ctx: Context, agent: Agent, delta: int) -> None:
    ctx.count(f"agents.{agent_record.counted_status(agent)}", delta, project_no=CLUSTER)


def _report(ctx: Context, agent: Agent, kind: str, data: dict[str, Any] | None) -> None:
    """Agents belong to no project: their changes are shown to watchers of every project (`project` is
    empty)."""
    ctx.change(agent.revision, kind, "agent", agent.agent_id, data=data, project="")


def _drain(ctx: Context, command: DrainAgent) -> Outcome:
    agent = _require(ctx, command.agent_id)
    if agent.draining == command.draining:
        return accepted(Item(200, agent.agent_id, agent.revision))
    before = msgspec.structs.replace(agent)
    revision = ctx.take_revision()
    agent.draining = command.draining
    _write(ctx, agent, before, revision)
    if agent.liveness != ONLINE:
        _report(ctx, agent, "agent.status_changed", {"draining": agent.draining, "epoch": agent.epoch})
    return accepted(Item(200, agent.agent_id, revision))


def _reset_learned(ctx: Context, command: ResetLearned) -> Outcome:
    agent = _require(ctx, command.agent_id)
    if not agent_record.reset_learned(ctx.state, agent.number, command.names):
        return accepted(Item(200, agent.agent_id, agent.revision))
    agent.revision, agent.updated_at = ctx.take_revision(), ctx.time_ms
    agent_record.put(ctx.state, agent)
    names = None if command.names is None else {"names": list(command.names)}
    _report(ctx, agent, "agent.learned_reset", names)
    return accepted(Item(200, agent.agent_id, agent.revision))


def _delete(ctx: Context, command: DeleteAgent) -> Outcome:
    agent = _require(ctx, command.agent_id)
    revision = ctx.take_revision()
    _count(ctx, agent, -1)
    agent_record.remove(ctx.state, agent)
    agent.revision = revision
    _report(ctx, agent, "agent.deleted", {"epoch": agent.epoch})
    requeue_held(ctx, agent.number, agent.epoch + 1, Effects(revision=revision))
    return accepted(Item(200, agent.agent_id, revision))


def _believed(ctx: Context, item: AgentBelieved) -> Agent | None:
    """The agent, if it still is what the leader believed it to be."""
    agent = agent_record.find(ctx.state, item.agent_id)
    if agent is None or agent.epoch != item.epoch or agent.liveness != item.liveness:
        return None
    return agent


def _set_liveness(ctx: Context, command: SetAgentLiveness) -> Outcome:
    if command.liveness not in LIVENESS:
        raise Refused("invalid_request", f"liveness is one of {', '.join(LIVENESS)}")
    items: list[Item] = []
    for item in command.items:
        agent = _believed(ctx, item)
        if agent is None or agent.liveness == command.liveness:
            items.append(Item(0, item.agent_id))
            continue
        before = msgspec.structs.replace(agent)
        revision = ctx.take_revision()
        agent.liveness = command.liveness
        _write(ctx, agent, before, revision)
        items.append(Item(200, agent.agent_id, revision))
    return Outcome(ctx.meta.revision, tuple(items))


def _requeue_work(ctx: Context, command: RequeueAgentWork) -> Outcome:
    """Items: numbers = (offers taken back,); nothing to do, or no longer gone: status 0."""
    effects = Effects()
    items: list[Item] = []
    for item in command.items:
        agent = _believed(ctx, item)
        gone = agent is not None and agent.liveness in (agent_record.UNRESPONSIVE, OFFLINE)
        taken = requeue_offers(ctx, agent.number, effects) if agent is not None and gone else 0
        items.append(Item(200, item.agent_id, effects.taken, (taken,)) if taken else Item(0, item.agent_id))
    return Outcome(ctx.meta.revision, tuple(items))


HANDLERS: dict[type[Command], Callable[[Context, Any], Outcome]] = {
    RegisterAgent: _register,
    DrainAgent: _drain,
    DeleteAgent: _delete,
    ResetLearned: _reset_learned,
    SetAgentLiveness: _set_liveness,
    RequeueAgentWork: _requeue_work,
}
