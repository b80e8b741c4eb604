"""What the leader reads from the state to build its memory. Each read is a scan of just what is needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from node.duties.lanes import Found
from statemachine import projects, task_queries, task_record, task_store
from statemachine.keys import end_of, from_u64, u64
from statemachine.store import Reader
from statemachine.task_record import Task


def project_number(reader: Reader, project: str) -> int | None:
    """The number of the project of that name."""
    found = projects.find(reader, project)
    return None if found is None else found.number


def found(task: Task) -> Found:
    """A pending task as the dispatcher needs it."""
    requires = tuple((need.name, need.min_proficiency) for need in task.requires)
    avoid = None if task.avoid_agent_id is None else (task.avoid_agent_id, task.updated_at)
    return Found(task.task_id, task.number, task.attempt, requires, avoid)


def pending_queues(reader: Reader) -> Iterator[tuple[str, str]]:
    """(project, queue) of every queue that has pending tasks."""
    for project_no, queue in task_queries.pending_queues(reader):
        project = projects.get(reader, project_no)
        if project is not None:
            yield project.name, queue


def pending_from(reader: Reader, run: tuple[int, str, int], least: int, count_max: int) -> list[Found]:
    """Up to `count_max` pending tasks of a run (project number, queue, priority), from number `least` on, in order."""
    project_no, queue, priority = run
    prefix = task_store.pending_prefix(project_no, queue) + bytes([task_store.PRIORITY_TOP - priority])
    tasks: list[Found] = []
    for key, _ in islice(reader.scan(prefix + u64(least), end_of(prefix)), count_max):
        task = task_record.get(reader, project_no, from_u64(key[-8:]))
        if task is None:
            raise AssertionError("a pending task is not there")
        tasks.append(found(task))
    return tasks
