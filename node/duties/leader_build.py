"""What a new leader reads row by row: agents, held tasks, sessions with pending tasks; some at a time.

There may be ten thousand agents and a hundred thousand held tasks. Read at once they would hold up heartbeats to the
followers, who would then elect another leader, which has to read them as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from cluster.replica import View
from node.duties import state_reads
from node.duties.pending import PendingTasks
from node.duties.state_reads import SessionPlace
from statemachine import agent_record, task_queries
from statemachine.agent_record import Agent
from statemachine.task_record import Task

ROWS_AT_ONCE = 1_000
"""Rows that are read before others get their turn: some milliseconds."""

OpenView = Callable[[], AbstractContextManager[View]]


class Built(Protocol):
    """Who is told what was read."""

    pending: PendingTasks

    def see_agent(self, view: View, agent: Agent) -> None: ...

    def see_task(self, task: Task) -> None: ...


def rows(memory: Built, open_view: OpenView) -> Iterator[None]:
    """Read everything, each part by a view of its own. `memory` may hear of changes in between: what was read is
    as they leave it, what was not will be read as it is then."""
    agent_no: int | None = 0
    while agent_no is not None:
        yield
        agent_no = _agents(memory, open_view, agent_no)
    holder_no: int | None = 0
    while holder_no is not None:
        yield
        holder_no = _held(memory, open_view, holder_no)
    yield
    place = _sessions(memory, open_view, None)
    while place is not None:
        yield
        place = _sessions(memory, open_view, place)


def _agents(memory: Built, open_view: OpenView, after: int) -> int | None:
    with open_view() as view:
        for count, agent in enumerate(agent_record.scan(view, after=after), 1):
            memory.see_agent(view, agent)
            if count == ROWS_AT_ONCE:
                return agent.number
    return None


def _held(memory: Built, open_view: OpenView, after: int) -> int | None:
    last, count = after, 0
    with open_view() as view:
        for agent_no, task in task_queries.held(view, after_agent=after):
            if count >= ROWS_AT_ONCE and agent_no != last:
                return last
            last, count = agent_no, count + 1
            memory.see_task(task)
    return None


def _sessions(memory: Built, open_view: OpenView, after: SessionPlace | None) -> SessionPlace | None:
    with open_view() as view:
        for count, (place, session) in enumerate(state_reads.pending_sessions(view, after), 1):
            memory.pending.news(*session)
            if count == ROWS_AT_ONCE:
                return place
    return None
