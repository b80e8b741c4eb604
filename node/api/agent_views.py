"""Agents as requests bring them and as the API shows them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from cluster.replica import View
from node.api import ids
from node.api.body import Body, OpenObject, absent, open_object
from node.api.ids import Id
from node.api.live import AgentLive, AgentPerformance, raw_metrics
from node.api.problem import invalid
from node.api.query import Text
from node.api.reply import NULL, raw
from node.api.task_bodies import Ratio, labels_of, ten_thousandths
from node.api.times import text, text_or_none
from node.api.usage import MICRO
from statemachine import agent_record, limits, names, proficiency, task_queries
from statemachine.agent_record import ANY_PROJECT, Agent, Load
from statemachine.commands import Capability, RegisterAgent
from statemachine.labels import is_plain
from statemachine.labels import written as label_written

PROJECTS_MAX = 100
RATIO = 10_000

_labels = msgspec.json.Decoder(dict[str, msgspec.Raw])


class CapabilityBody(Body):
    """Something an agent can do, and how well."""

    name: Text
    proficiency: Ratio = 1.0


class AgentBody(Body):
    """`POST /api/agents`."""

    agent_id: Id | None = None
    name: Text | None = None
    endpoint: Annotated[str, msgspec.Meta(max_length=limits.TITLE_BYTES_MAX)] | None = None
    model: Text | None = None
    specialization: Annotated[str, msgspec.Meta(max_length=limits.TITLE_BYTES_MAX)] | None = None
    capabilities: Annotated[list[CapabilityBody], msgspec.Meta(max_length=limits.CAPABILITIES_MAX)] = []
    hardware: OpenObject = absent()
    performance_targets: OpenObject = absent()
    labels: OpenObject = absent()
    projects: Annotated[list[Text], msgspec.Meta(max_length=PROJECTS_MAX)] = []
    max_concurrent: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_CONCURRENT_MAX)] = 1
    instance_id: Text | None = None
    metadata: OpenObject = absent()


class CapabilityView(msgspec.Struct):
    """Something an agent can do; `proficiency` 0 to 1."""

    name: str
    proficiency: float


class LearnedView(msgspec.Struct):
    """How often attempts at something succeeded lately (0 to 1: `statemachine/proficiency.py`), and of how many.
    `name`: a capability that tasks required, or the type of those that required none."""

    name: str
    proficiency: float
    attempts: int


class CurrentTask(msgspec.Struct):
    """A task an agent holds."""

    project: str
    task_id: str
    attempt: int
    status: str


class AgentLiveView(msgspec.Struct):
    """What only the leader knows of an agent."""

    as_of: str
    last_seen: str | None
    free_slots: int
    open_poll: bool
    metrics: Any


class AgentView(msgspec.Struct, kw_only=True):
    """An agent. `learned_proficiency`: how often its attempts succeeded lately, `learned` the same by what they were
    about, `average_cost_usd` what one cost lately; null before there is one to tell of."""

    agent_id: str
    name: str | None
    status: str
    epoch: int
    instance_id: str | None
    endpoint: str | None
    model: str | None
    specialization: str | None
    capabilities: list[CapabilityView]
    hardware: msgspec.Raw
    performance_targets: msgspec.Raw
    labels: msgspec.Raw
    metadata: msgspec.Raw
    projects: tuple[str, ...]
    max_concurrent: int
    draining: bool
    free_slots: int
    current_tasks: list[CurrentTask] | msgspec.UnsetType = msgspec.UNSET
    last_seen: str | msgspec.UnsetType | None = msgspec.UNSET
    performance: AgentPerformance | msgspec.UnsetType | None = msgspec.UNSET
    completed: int
    failed: int
    learned_proficiency: float | None
    learned: list[LearnedView]
    average_cost_usd: float | None
    registered_at: str
    created_at: str
    updated_at: str
    revision: int
    created_revision: int
    live: AgentLiveView | msgspec.UnsetType | None = msgspec.UNSET


class Registered(msgspec.Struct):
    """What a registration answers: the epoch goes with every later call."""

    agent: AgentView
    epoch: int
    heartbeat_interval_ms: int


class Deleted(msgspec.Struct):
    """What a delete answers."""

    agent_id: str
    revision: int
    deleted: bool = True


class LearnedReset(Body):
    """`POST /api/agents/{id}/learned/reset`: these names, or everything."""

    names: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=limits.LEARNED_MAX)] | None = None


def registration(body: AgentBody, project: str) -> RegisterAgent:
    """The command. Raises Problem."""
    agent_id = ids.new_id() if body.agent_id is None else ids.check("agent_id", body.agent_id)
    seen: set[str] = set()
    for number, capability in enumerate(body.capabilities):
        if capability.name in seen:
            raise invalid(f"capabilities[{number}].name", f"{capability.name!r} is given twice")
        seen.add(capability.name)
    labels = labels_of(body.labels, "labels")
    return RegisterAgent(
        agent_id,
        body.name,
        body.endpoint,
        body.model,
        body.specialization,
        tuple(Capability(has.name, ten_thousandths(has.proficiency)) for has in body.capabilities),
        _object(body.hardware, "hardware"),
        _object(body.performance_targets, "performance_targets"),
        labels,
        _projects(body.projects, project),
        body.max_concurrent,
        body.instance_id,
        _object(body.metadata, "metadata"),
        _label_names(labels),
    )


def _label_names(labels: bytes | None) -> tuple[str, ...]:
    """`name=value` of each label that a task can require: texts, numbers, true and false, as long as a name may be."""
    if labels is None:
        return ()
    names: list[str] = []
    for name, raw_value in _labels.decode(labels).items():
        written = f"{name}={label_written(raw_value)}"
        if is_plain(raw_value) and len(written) <= limits.LABEL_BYTES_MAX:
            names.append(written)
    return tuple(names)


def _object(value: msgspec.Raw, path: str) -> bytes | None:
    return open_object(value, path, "metadata_bytes_max", limits.METADATA_BYTES_MAX)


def _projects(given: list[str], project: str) -> tuple[str, ...]:
    for number, name in enumerate(given):
        if name == ANY_PROJECT:
            if len(given) > 1:
                raise invalid(f"projects[{number}]", "* stands for all projects: give it alone")
        elif wrong := names.check_id(name):
            raise invalid(f"projects[{number}]", wrong)
    return tuple(given) or (project,)


def agent_view(agent: Agent, load: Load, *, full: bool = True) -> AgentView:
    """An agent as shown; without `full` its open objects are left out."""
    cost_micro = load.cost_micro
    return AgentView(
        agent_id=agent.agent_id,
        name=agent.name,
        status=agent_record.status_of(agent, load),
        epoch=agent.epoch,
        instance_id=agent.instance_id,
        endpoint=agent.endpoint,
        model=agent.model,
        specialization=agent.specialization,
        capabilities=[CapabilityView(has.name, has.proficiency / RATIO) for has in agent.capabilities],
        hardware=raw(agent.hardware if full else None),
        performance_targets=raw(agent.performance_targets if full else None),
        labels=msgspec.Raw(b"{}") if agent.labels is None else msgspec.Raw(agent.labels),
        metadata=raw(agent.metadata) if full else NULL,
        projects=agent.projects,
        max_concurrent=agent.max_concurrent,
        draining=agent.draining,
        free_slots=agent_record.free_slots(agent, load),
        completed=load.completed,
        failed=load.failed,
        learned_proficiency=load.success / RATIO if load.attempts else None,
        learned=[LearnedView(one.name, one.rate / RATIO, one.attempts) for one in proficiency.read(load.learned)],
        average_cost_usd=None if cost_micro is None else cost_micro / MICRO,
        registered_at=text(agent.registered_at),
        created_at=text(agent.created_at),
        updated_at=text(agent.updated_at),
        revision=agent.revision,
        created_revision=agent.created_revision,
    )


def current_tasks(view: View, agent: Agent) -> list[CurrentTask]:
    """The tasks that occupy the agent's slots, in all projects."""
    return [
        CurrentTask(task.project, task.task_id, task.attempt, task.status.value)
        for task in task_queries.tasks_held_by(view, agent.number)
    ]


def live_view(as_of_ms: int, live: AgentLive) -> AgentLiveView:
    """What the leader knows of an agent."""
    return AgentLiveView(
        text(as_of_ms), text_or_none(live.last_seen_ms), live.free_slots, live.open_poll, raw_metrics(live)
    )
