"""What the leader reads from the state to build its memory. Each read is a scan of just what is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from node.duties.affinity import sites_of
from node.duties.lanes import Found
from statemachine import path_locks, projects, queue_limits, task_queries, task_record, task_rows
from statemachine.keys import end_of, from_u64, u64
from statemachine.store import Reader
from statemachine.task_record import Task

ROWS_MAX = 4_096
"""Rows of the index of pending tasks that one read looks at, when most belong to sessions and are passed over."""
KEYED_LOOKED_AT_MAX = 256
"""Tasks of sessions without budget that are passed over at the front of a concurrency key."""
NEEDS_MAX = 64
"""What tasks of one concurrency key may need, each of which is looked at once when the key has room."""


def project_number(reader: Reader, project: str) -> int | None:
    """The number of the project of that name."""
    found = projects.find(reader, project)
    return None if found is None else found.number


def found(task: Task) -> Found:
    """A pending task as the dispatcher needs it. What it waited before its own time does not count as waiting."""
    return Found(
        task.task_id,
        task.number,
        task.attempt,
        tuple((need.name, need.min_proficiency) for need in task.requires),
        _avoid(task),
        priority=task.priority,
        since_ms=max(task.created_at, task.not_before or 0),
        session=task.session_id,
        concurrency_key=task.concurrency_key,
        prefers=None if task.wait is None else task.wait.agent_id,
        sites=sites_of(task.project, task.session_id, task.labels),
        locks=task.locks,
    )


def _avoid(task: Task) -> tuple[str, int, bool] | None:
    if task.avoid_agent_id is None:
        return None
    # After a failure the back-off has kept them apart long enough if there is nobody else.
    failed = task.failure is not None and task.failure.attempt == task.attempt
    return task.avoid_agent_id, task.updated_at, not failed


def pending_queues(reader: Reader) -> Iterator[tuple[str, str]]:
    """(project, queue) of every queue that has pending tasks."""
    for project_no, queue in task_queries.pending_queues(reader):
        project = projects.get(reader, project_no)
        if project is not None:
            yield project.name, queue


SessionPlace = tuple[int, bytes, str]
"""(project number, queue, session): where a scan of the sessions with pending tasks goes on."""


def pending_sessions(
    reader: Reader, after: SessionPlace | None = None
) -> Iterator[tuple[SessionPlace, tuple[str, str, str]]]:
    """Every session that has pending tasks in a queue, behind a place: its place, and (project, queue, session)."""
    for project_no, queue in task_queries.pending_queues(reader):
        at, behind = (project_no, queue.encode()), None if after is None else after[:2]
        if behind is not None and at < behind:
            continue
        last = after[2] if after is not None and at == behind else None
        for number in queue_limits.pending_of_sessions(reader, project_no, queue, after=last):
            task = _pending(reader, project_no, number)
            if task.session_id is not None:
                yield (*at, task.session_id), (task.project, queue, task.session_id)


def pending_chunk(
    reader: Reader, run: tuple[int, str, str | None], priority: int, least: int, count_max: int
) -> tuple[list[Found], int | None]:
    """Up to `count_max` pending tasks of a run (project number, queue, session) at one priority, from number `least`
    on, in order; and where to read on, None at the end. A run without session passes over tasks that have one."""
    project_no, queue, session = run
    if session is None:
        prefix = task_rows.pending_prefix(project_no, queue)
    else:
        prefix = queue_limits.session_prefix(project_no, queue, session)
    prefix += bytes([task_rows.PRIORITY_TOP - priority])
    tasks: list[Found] = []
    for looked_at, (key, value) in enumerate(reader.scan(prefix + u64(least), end_of(prefix)), 1):
        if value != task_rows.OF_SESSION:
            one = found(_pending(reader, project_no, from_u64(key[-8:])))
            # Decided by the row, not by the record: a row that says nothing of a session has none in the other table.
            one.session = session
            tasks.append(one)
        if len(tasks) == count_max or looked_at == ROWS_MAX:
            return tasks, from_u64(key[-8:]) + 1
    return tasks, None


def pending_with_key(
    reader: Reader, project_no: int, concurrency_key: str, most: Callable[[str], int], closed: Callable[[str], bool]
) -> Iterator[tuple[str, list[Found]]]:
    """(queue, its first pending tasks of the key and of one need, as many as `most` says), for `NEEDS_MAX` of all
    queues and needs that have some. Sessions that are `closed`, for want of budget, are passed over."""
    for queue, numbers in islice(queue_limits.pending_with_key(reader, project_no, concurrency_key), NEEDS_MAX):
        count = most(queue)
        if count:
            tasks = (_pending(reader, project_no, number) for number in islice(numbers, KEYED_LOOKED_AT_MAX + count))
            open_ones = (task for task in tasks if task.session_id is None or not closed(task.session_id))
            yield queue, [found(task) for task in islice(open_ones, count)]


def lock_holders(reader: Reader) -> Iterator[Task]:
    """Every task that holds locks."""
    for project_no, number in dict.fromkeys(path_locks.holders(reader)):
        task = task_record.get(reader, project_no, number)
        if task is None:
            raise AssertionError("a task that holds locks is not there")
        yield task


def _pending(reader: Reader, project_no: int, number: int) -> Task:
    task = task_record.get(reader, project_no, number)
    if task is None:
        raise AssertionError("a pending task is not there")
    return task
