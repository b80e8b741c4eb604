"""What an agent has to hear: its offers, what it holds, what was cancelled or lost. Read from this node's state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from node.duties.messages import Running
from node.duties.state_reads import project_number
from statemachine import task_queries, task_record
from statemachine.agent_record import Agent
from statemachine.store import Reader
from statemachine.task_record import Task
from statemachine.task_states import STOPPED, TaskState

DRAIN = "drain"

NewsKey = tuple[str, str, str, int]
"""(kind, project, task id, attempt)."""


@dataclass(slots=True)
class AgentNews:
    """`lost` pairs what the agent said it runs with the task as it is, or None when it is not there."""

    agent: Agent
    offers: list[Task] = field(default_factory=list)
    held: list[Task] = field(default_factory=list)
    stopped: list[Task] = field(default_factory=list)
    lost: list[tuple[Running, Task | None]] = field(default_factory=list)

    def keys(self) -> list[NewsKey]:
        """What is worth ending a long-poll for."""
        keys = [("offer", task.project, task.task_id, task.attempt) for task in self.offers]
        keys += [("cancel", task.project, task.task_id, task.attempt) for task in self.stopped]
        keys += [("lost", item.project or "", item.task_id, item.attempt) for item, _ in self.lost]
        if self.agent.draining:
            keys.append((DRAIN, "", "", self.agent.epoch))
        return keys


def read(reader: Reader, agent: Agent, running: Sequence[Running], project: str) -> AgentNews:
    """The news of an agent that says it runs `running`; items without a project are looked for in all it works for,
    and if they are lost, described as they are in `project`."""
    news = AgentNews(agent)
    for task in task_queries.tasks_held_by(reader, agent.number):
        if task.status is TaskState.ASSIGNED:
            news.offers.append(task)
        elif task.status in STOPPED:
            news.stopped.append(task)
        else:
            news.held.append(task)
    holds = [(task.project, task.task_id, task.attempt) for task in (*news.offers, *news.held, *news.stopped)]
    for item in running:
        if any(_is(item, *key) for key in holds):
            continue
        other = _find(reader, item.project or project, item.task_id)
        if other is None or not _ended_itself(other, agent.agent_id, item.attempt):
            news.lost.append((item, other))
    return news


def _is(item: Running, project: str, task_id: str, attempt: int) -> bool:
    return (item.task_id, item.attempt) == (task_id, attempt) and item.project in (None, project)


def _find(reader: Reader, project: str, task_id: str) -> Task | None:
    number = project_number(reader, project)
    return None if number is None else task_record.find(reader, number, task_id)


def _ended_itself(task: Task, agent_id: str, attempt: int) -> bool:
    """Whether the agent ended this attempt after it had said that it runs it: then it lost nothing."""
    return any((won.attempt, won.agent_id) == (attempt, agent_id) for won in task.wins)
