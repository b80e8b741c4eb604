"""Agents as callers: whether who calls is the agent it says it is, checked before it is told no."""

from __future__ import annotations

from typing import Any

from node.api.problem import Problem
from node.api.request import Request
from statemachine import agent_record
from statemachine.agent_record import Agent


def unknown_agent(agent_id: str) -> Problem:
    """404 for an agent that is not registered."""
    return Problem("not_found", f"agent {agent_id!r} is not registered; register it first")


def stale_epoch(agent_id: str, epoch: int | None) -> Problem:
    """409 for a caller whose epoch is over."""
    detail = f"agent {agent_id!r} is at epoch {epoch}: this one must stop, or register again"
    return Problem("stale_epoch", detail, current={"epoch": epoch})


async def check_caller(request: Request[Any, Any], agent_id: str, epoch: int | None) -> Agent:
    """The agent as a linearizable read shows it. Raises Problem `not_found`, `stale_epoch`, and the replica's errors.

    Whoever was told no by memory or by a state that may be behind is asked here again, before a worker hears that it
    must stop.
    """
    await request.api.replica.read_barrier(max(request.seconds_left(), 1.0))
    with request.view() as view:
        agent = agent_record.find(view, agent_id)
    if agent is None:
        raise unknown_agent(agent_id)
    if epoch is not None and agent.epoch != epoch:
        raise stale_epoch(agent_id, agent.epoch)
    return agent
