"""Routes of agents (API.md section 5), apart from their heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from cluster.replica import View
from node.api.agent_views import (
    AgentBody,
    AgentLiveView,
    AgentView,
    Deleted,
    LearnedReset,
    Registered,
    agent_view,
    current_tasks,
    live_view,
    registration,
)
from node.api.pages import Page, page, position_of
from node.api.problem import Problem, invalid
from node.api.query import REPEATED, ListQuery, ReadQuery, Text, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.times import text_or_none
from node.api.writes import decide, replay_headers, write
from node.duties.duties import Duties
from statemachine import agent_record, context, counters
from statemachine.agent_record import ANY_PROJECT, Agent
from statemachine.commands import DeleteAgent, DrainAgent, ResetLearned
from statemachine.labels import written as label_written
from statemachine.outcome import Item

LIVE_TIMEOUT_S = 1.0
_KIND = "agents"
_labels = msgspec.json.Decoder(dict[str, msgspec.Raw])

Status = Literal["online", "busy", "draining", "unresponsive", "offline"]


class ListAgents(ListQuery, kw_only=True):
    """Filters of `GET /api/agents`. `capability`: one of these, `name=value` of a label being one; `label`: all."""

    status: tuple[Status, ...] = ()
    capability: tuple[Text, ...] = ()
    label: Annotated[tuple[Text, ...], REPEATED] = ()
    live: bool = False


class GetAgent(ReadQuery, kw_only=True):
    """`live` adds what only the leader knows."""

    live: bool = False


async def register_agent(request: Request[WriteQuery, AgentBody]) -> Reply:
    """Register an agent: a new epoch, or the same one for the same `instance_id`."""
    command = registration(request.body, request.project)
    outcome = await decide(request, command)
    item = outcome.items[0]
    with request.view() as view:
        agent = agent_record.find(view, item.resource_id)
        if agent is None:
            raise Problem("not_found", f"agent {item.resource_id!r} was deleted again")
        shown = agent_view(agent, agent_record.load_of(view, agent.number))
        interval_ms = request.api.part(Duties).settings.interval_of(agent.agent_id, _fleet_size(view))
    shown.revision = item.revision
    headers = replay_headers(outcome)
    if item.status == 201:
        headers = (*headers, ("Location", f"/api/agents/{item.resource_id}"))
    return json_reply(Registered(shown, item.numbers[0], interval_ms), item.status, headers)


def _fleet_size(view: View) -> int:
    counts = counters.read(view, context.CLUSTER)
    return sum(count for name, count in counts.items() if name.startswith("agents.") and name != "agents.offline")


async def list_agents(request: Request[ListAgents, Any]) -> Reply:
    """Agents, newest first. With `project` (header or parameter) given, only those that work for it."""
    query = request.query
    labels = [_label(label) for label in query.label]
    position = position_of(request, _KIND)
    live: dict[str, AgentLiveView] = {}
    if query.live:
        found = await request.api.live.live_agents(None, LIVE_TIMEOUT_S)
        if found is not None:
            live = {agent.agent_id: live_view(found.as_of_ms, agent) for agent in found.agents}
    with request.view() as view:
        request.require_project(view)

        def render(agent: Agent) -> AgentView:
            shown = agent_view(agent, agent_record.load_of(view, agent.number))
            if query.live:
                shown.live = live.get(agent.agent_id)
            return shown

        return page(request, _KIND, _rows(request, view, labels, position), render, AgentView)


def _rows(
    request: Request[ListAgents, Any], view: View, labels: list[tuple[str, str]], position: int | None
) -> Iterator[tuple[int, Agent | None]]:
    query = request.query
    if query.order == "asc":
        agents = agent_record.scan(view, after=position or 0)
    elif position is None:
        agents = agent_record.scan(view, reverse=True)
    else:
        agents = agent_record.scan(view, before=position, reverse=True)
    only = request.project if query.project is not None or request.header("Hive-Project") is not None else None
    for agent in agents:
        wanted = _is_wanted(view, agent, query, labels, only)
        yield agent.number, agent if wanted else None


def _is_wanted(view: View, agent: Agent, query: ListAgents, labels: list[tuple[str, str]], project: str | None) -> bool:
    if project is not None and project not in agent.projects and ANY_PROJECT not in agent.projects:
        return False
    if query.capability and not any(agent.proficiency(name) >= 0 for name in query.capability):
        return False
    if query.status and agent_record.status_of(agent, agent_record.load_of(view, agent.number)) not in query.status:
        return False
    return not labels or _has_labels(agent.labels, labels)


def _label(label: str) -> tuple[str, str]:
    name, separator, value = label.partition("=")
    if not separator or not name:
        raise invalid("label", "must be name=value")
    return name, value


def _has_labels(data: bytes | None, wanted: list[tuple[str, str]]) -> bool:
    if data is None:
        return False
    present = _labels.decode(data)
    return all(name in present and label_written(present[name]) == value for name, value in wanted)


async def get_agent(request: Request[GetAgent, Any]) -> Reply:
    """One agent, with what it holds and, while there is a leader, how it is doing."""
    agent_id = request.parameters["agent_id"]
    found = await request.api.part(Duties).live.one(agent_id, LIVE_TIMEOUT_S)
    as_of_ms, seen, performance = (0, None, None) if found is None else found
    with request.view() as view:
        agent = agent_record.find(view, agent_id)
        if agent is None:
            raise Problem("not_found", f"agent {agent_id!r} is unknown here at revision {view.revision}")
        shown = agent_view(agent, agent_record.load_of(view, agent.number))
        shown.current_tasks = current_tasks(view, agent)
    shown.last_seen = None if seen is None else text_or_none(seen.last_seen_ms)
    shown.performance = performance
    if request.query.live:
        shown.live = None if seen is None else live_view(as_of_ms, seen)
    return json_reply(shown)


def _show(view: View, item: Item) -> AgentView | None:
    agent = agent_record.find(view, item.resource_id)
    return None if agent is None else agent_view(agent, agent_record.load_of(view, agent.number))


async def drain_agent(request: Request[WriteQuery, Any]) -> Reply:
    """No new work for this agent; what it holds it may finish."""
    return await write(request, DrainAgent(request.parameters["agent_id"], draining=True), _show)


async def undrain_agent(request: Request[WriteQuery, Any]) -> Reply:
    """The agent gets work again."""
    return await write(request, DrainAgent(request.parameters["agent_id"], draining=False), _show)


async def reset_learned(request: Request[WriteQuery, LearnedReset]) -> Reply:
    """Forget what the agent's attempts taught: it is trusted as on its first day. Nothing to forget: 200 as well."""
    names = request.body.names
    command = ResetLearned(request.parameters["agent_id"], None if names is None else tuple(names))
    return await write(request, command, _show)


async def delete_agent(request: Request[WriteQuery, Any]) -> Reply:
    """Remove an agent; what it holds is requeued at once."""
    outcome = await decide(request, DeleteAgent(request.parameters["agent_id"]))
    item = outcome.items[0]
    return json_reply(Deleted(item.resource_id, item.revision), 200, replay_headers(outcome))


_ONE = "/api/agents/{agent_id}"

ROUTES = (
    Route(
        "POST", "/api/agents", register_agent, "Register an agent", "agents:write",
        query=WriteQuery, body=AgentBody, reply=Registered, statuses=(201, 200),
    ),
    Route("GET", "/api/agents", list_agents, "List agents", "agents:read", query=ListAgents, reply=Page[AgentView]),
    Route("GET", _ONE, get_agent, "One agent", "agents:read", query=GetAgent, reply=AgentView),
    Route("DELETE", _ONE, delete_agent, "Remove an agent", "agents:write", query=WriteQuery, reply=Deleted),
    Route(
        "POST", _ONE + "/drain", drain_agent, "Give an agent no new work", "agents:write",
        query=WriteQuery, reply=AgentView,
    ),
    Route(
        "POST", _ONE + "/learned/reset", reset_learned, "Forget what its attempts taught", "agents:write",
        query=WriteQuery, body=LearnedReset, reply=AgentView,
    ),
    Route(
        "DELETE", _ONE + "/drain", undrain_agent, "Give an agent work again", "agents:write",
        query=WriteQuery, reply=AgentView,
    ),
)  # fmt: skip
