"""Reading tasks: pure functions over a reader, for the API and the leader. None scans more than what it
is asked for.

Lists are iterators over positions (task numbers), also over those that do not match, so that whoever
reads can stop after a bounded amount of work and hand out the last position as a cursor.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from heapq import merge
from operator import itemgetter
from typing import NamedTuple

import msgspec

from statemachine import groups, limits, task_dependencies, task_record
from statemachine.commands import Json
from statemachine.keys import end_of, from_u64, u64
from statemachine.labels import written as label_written
from statemachine.store import Reader
from statemachine.task_record import Task
from statemachine.task_states import FINAL, TaskState

_POSITION_END = 1 << 63
_held_key = struct.Struct(">cQIQ").pack
_held_tail = struct.Struct(">IQ").unpack_from
_due = struct.Struct(">QIQ").unpack_from
_timer = struct.Struct(">QBIQ").unpack_from
_labels_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Pending(NamedTuple):
    """A pending task in dispatch order: smaller comes first."""

    rank: int
    number: int
    project_no: int
    queue: str

    @property
    def priority(self) -> int:
        """As the user gave it, 9 first."""
        return limits.PRIORITY_MAX - self.rank


class Timer(NamedTuple):
    """Something time will do to a task (kinds: `task_rows.TIMER_*`)."""

    at: int
    kind: int
    project_no: int
    number: int


class Ended(NamedTuple):
    """A task that ended then."""

    at: int
    project_no: int
    number: int


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """What a list of tasks is to show; None does not filter. `label` are (key, value) pairs that must
    all be there."""

    status: Collection[str] | None = None
    queue: Collection[str] | None = None
    type: Collection[str] | None = None
    agent_id: Collection[str] | None = None
    session_id: Collection[str] | None = None
    group_id: Collection[str] | None = None
    unique_key: Collection[str] | None = None
    depends_on: Collection[str] | None = None
    ids: Collection[str] | None = None
    label: tuple[tuple[str, str], ...] = ()
    created_since: int | None = None
    updated_since: int | None = None
    waiting_for: Collection[str] | None = None

    def matches(self, task: Task) -> bool:
        """Whether the task is wanted, apart from `depends_on` and `ids`, which choose the positions."""
        for name in ("status", "queue", "type", "agent_id", "session_id", "group_id", "unique_key"):
            wanted = getattr(self, name)
            if wanted is not None and getattr(task, name) not in wanted:
                return False
        if self.created_since is not None and task.created_at < self.created_since:
            return False
        if self.updated_since is not None and task.updated_at < self.updated_since:
            return False
        if self.waiting_for is not None and not _waits_for(task, self.waiting_for):
            return False
        return not self.label or _has_labels(task.labels, self.label)


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: positions between two (both excluded), newest first unless `ascending`."""

    after: int = -1
    before: int = _POSITION_END
    ascending: bool = False


def _waits_for(task: Task, wanted: Collection[str]) -> bool:
    """Whether the task waits for something of that kind or name now."""
    if task.status is not TaskState.WAITING or task.wait is None:
        return False
    return task.wait.kind in wanted or task.wait.name in wanted


def _has_labels(labels: Json | None, wanted: tuple[tuple[str, str], ...]) -> bool:
    if labels is None:
        return False
    present = _labels_decoder.decode(labels)
    return all(key in present and label_written(present[key]) == value for key, value in wanted)


def list_tasks(
    reader: Reader, project_no: int, wanted: TaskFilter, page: Page | None = None
) -> Iterator[tuple[int, Task | None]]:
    """(position, task or None when it does not match), in the page's order and bounds.

    Continue newest first with `Page(before=position)`, ascending with `Page(after=position, ascending=True)`.
    """
    for number in _positions(reader, project_no, wanted, page or Page()):
        task = task_record.get(reader, project_no, number)
        if task is None:
            raise AssertionError(f"index names task {number} of project {project_no}, which is not there")
        yield number, task if wanted.matches(task) else None


def _positions(reader: Reader, project_no: int, wanted: TaskFilter, page: Page) -> Iterator[int]:
    if wanted.ids is not None:
        numbers = {task_record.number_of(reader, project_no, task_id) for task_id in wanted.ids}
        chosen = sorted(number for number in numbers if number is not None and page.after < number < page.before)
        return iter(chosen if page.ascending else reversed(chosen))
    if wanted.depends_on is not None:
        return _distinct(_merged(_dependent_ranges(reader, project_no, wanted.depends_on, page), page))
    if wanted.group_id is not None:
        bounds = {"after": page.after, "before": page.before}
        group_ids = sorted(group_id for group_id in set(wanted.group_id) if task_record.is_name(group_id))
        return _merged(
            [
                groups.members(reader, project_no, group_id, reverse=not page.ascending, **bounds)
                for group_id in group_ids
            ],
            page,
        )
    few = [state for state in task_record.ASIDE if wanted.status is not None and state in wanted.status]
    if wanted.waiting_for is not None or (few and len(few) == len(set(wanted.status or ()))):
        states = [TaskState.WAITING] if wanted.waiting_for is not None else few
        bounds = {"after": page.after, "before": page.before}
        return _merged(
            [aside(reader, project_no, state, reverse=not page.ascending, **bounds) for state in states], page
        )
    start, end = task_record.key(project_no, page.after + 1), task_record.key(project_no, page.before)
    return (int.from_bytes(key[-8:], "big") for key, _ in reader.scan(start, end, reverse=not page.ascending))


def _merged(ranges: list[Iterator[int]], page: Page) -> Iterator[int]:
    return merge(*ranges, reverse=not page.ascending)


def _dependent_ranges(reader: Reader, project_no: int, ids: Collection[str], page: Page) -> list[Iterator[int]]:
    ranges: list[Iterator[int]] = []
    bounds = {"after": page.after, "before": page.before}
    for task_id in sorted(set(ids)):
        number = task_record.number_of(reader, project_no, task_id)
        if number is not None:
            rows = task_dependencies.dependents(reader, project_no, number, reverse=not page.ascending, **bounds)
            ranges.append(map(itemgetter(0), rows))
    return ranges


def aside(
    reader: Reader,
    project_no: int,
    state: TaskState,
    *,
    after: int = -1,
    before: int = _POSITION_END,
    reverse: bool = False,
) -> Iterator[int]:
    """Numbers of a project's tasks in one of the states of `task_record.ASIDE`, between two numbers (both excluded)."""
    why = task_record.ASIDE[state]
    start, end = (task_record.aside_key(project_no, why, number) for number in (after + 1, before))
    for key, _ in reader.scan(start, end, reverse=reverse):
        yield from_u64(key[-8:])


def ended(reader: Reader, after: bytes = b"") -> Iterator[tuple[bytes, Ended]]:
    """(position, what it is) of all ended tasks, those that ended first first, from behind a position on."""
    for key, _ in reader.scan(after + b"\0" if after else b"Z", end_of(b"Z")):
        yield key, Ended(*_due(key, 1))


def _distinct(numbers: Iterator[int]) -> Iterator[int]:
    last = -1
    for number in numbers:
        if number != last:
            yield number
        last = number


def pending(reader: Reader, project_no: int | None = None, queues: Collection[str] | None = None) -> Iterator[Pending]:
    """Pending tasks in dispatch order (priority, then creation) of a project or of all, of some queues
    or of all."""
    streams = [_queue(reader, number, queue) for number, queue in pending_queues(reader, project_no, queues)]
    return streams[0] if len(streams) == 1 else merge(*streams)


def pending_queues(
    reader: Reader, project_no: int | None = None, queues: Collection[str] | None = None
) -> list[tuple[int, str]]:
    """(project number, queue) of queues with a pending task: one look-up each, however long they are."""
    found: list[tuple[int, str]] = []
    prefix = b"Q" if project_no is None else b"Q" + project_no.to_bytes(4, "big")
    start, end = prefix, end_of(prefix)
    while (row := next(iter(reader.scan(start, end)), None)) is not None:
        queue_prefix = row[0][:-9]
        queue = queue_prefix[5:-1].decode()
        if queues is None or queue in queues:
            found.append((int.from_bytes(queue_prefix[1:5], "big"), queue))
        start = end_of(queue_prefix)
    return found


def _queue(reader: Reader, project_no: int, queue: str) -> Iterator[Pending]:
    prefix = b"Q" + project_no.to_bytes(4, "big") + queue.encode() + b"\0"
    for key, _ in reader.scan(prefix, end_of(prefix)):
        yield Pending(key[-9], int.from_bytes(key[-8:], "big"), project_no, queue)


def due_scheduled(reader: Reader, time_ms: int) -> Iterator[tuple[int, int, int]]:
    """(due_ms, project number, task number) of scheduled tasks whose time has come, earliest first."""
    for key, _ in reader.scan(b"D", b"D" + u64(time_ms + 1)):
        yield _due(key, 1)


def next_due_ms(reader: Reader) -> int | None:
    """When the next scheduled task is due."""
    row = next(iter(reader.scan(b"D", end_of(b"D"))), None)
    return None if row is None else int(_due(row[0], 1)[0])


def timers(reader: Reader, until_ms: int | None = None) -> Iterator[Timer]:
    """Timers of tasks that have not ended, earliest first; with `until_ms` only those due by then."""
    end = end_of(b"K") if until_ms is None else b"K" + u64(until_ms + 1)
    for key, _ in reader.scan(b"K", end):
        yield Timer(*_timer(key, 1))


def held(reader: Reader, *, after_agent: int = 0) -> Iterator[tuple[int, Task]]:
    """(agent number, task) of every task that occupies a slot, agent by agent: what a new leader gives lease clocks
    to."""
    for key, _ in reader.scan(b"H" + u64(after_agent + 1), end_of(b"H")):
        project_no, number = _held_tail(key, 9)
        task = task_record.get(reader, project_no, number)
        if task is None:
            raise AssertionError(f"held task {number} of project {project_no} is not there")
        yield int.from_bytes(key[1:9], "big"), task


def held_by(reader: Reader, agent_no: int, *, after: tuple[int, int] = (0, -1)) -> Iterator[tuple[int, int]]:
    """(project number, task number) of what one agent holds, after a position."""
    start = _held_key(b"H", agent_no, after[0], after[1] + 1)
    for key, _ in reader.scan(start, end_of(b"H" + u64(agent_no))):
        yield _held_tail(key, 9)


def tasks_held_by(reader: Reader, agent_no: int) -> Iterator[Task]:
    """The tasks one agent holds."""
    for project_no, number in held_by(reader, agent_no):
        task = task_record.get(reader, project_no, number)
        if task is None:
            raise AssertionError(f"held task {number} of project {project_no} is not there")
        yield task


class DependencyResult(NamedTuple):
    """What a grant tells of a dependency."""

    task_id: str
    status: TaskState
    result: Json | None
    artifacts: Json | None


def dependency_results(reader: Reader, task: Task) -> Iterator[DependencyResult]:
    """What the dependencies of a task came to, in its order."""
    for task_id in task_record.depends_on(reader, task):
        other = task_record.find(reader, task.project_no, task_id)
        if task.status in FINAL and (other is None or other.created_revision > task.created_revision):
            continue  # retention took it: nobody who may still run needs it; another may bear its name since
        if other is None:
            raise AssertionError(f"task {task.task_id} depends on {task_id}, which is not there")
        result = task_record.json_body(reader, other, "result")
        yield DependencyResult(task_id, other.status, result, task_record.json_body(reader, other, "artifacts"))
