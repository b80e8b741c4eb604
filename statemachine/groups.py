"""Groups of tasks: counts by status, kept with every transition, so that waiting for a group scans
nothing."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from statemachine import limits
from statemachine.keys import end_of, from_u64, name, u32, u64
from statemachine.store import Overlay, Reader
from statemachine.task_record import Task
from statemachine.task_states import ENDED, TaskState


class Group(msgspec.Struct, array_like=True):
    """A group. It exists from its first task on.

    `counts` by status, without zeros. `failed` holds ids of tasks that are `failed` now, in the order
    they failed, and no more than `limits.GROUP_FAILED_IDS_MAX`: `counts["failed"]` is the true number.
    """

    group_id: str
    created_at: int
    created_revision: int
    revision: int
    counts: dict[str, int]
    failed: list[str]

    @property
    def total(self) -> int:
        """How many tasks the group has."""
        return sum(self.counts.values())

    @property
    def ended(self) -> bool:
        """Whether all of its tasks have ended."""
        return all(state in ENDED for state in self.counts)


_encoder = msgspec.msgpack.Encoder(order="sorted")
_decoder = msgspec.msgpack.Decoder(Group)


def get(reader: Reader, project_no: int, group_id: str) -> Group | None:
    """The group of that id."""
    data = reader.get(_key(project_no, group_id))
    return None if data is None else _decoder.decode(data)


def add(state: Overlay, task: Task) -> None:
    """A new task joins its group; the first one makes the group."""
    project_no, group_id, revision = task.project_no, task.group_id, task.created_revision
    if group_id is None:
        return
    group = get(state, project_no, group_id) or Group(group_id, task.created_at, revision, revision, {}, [])
    group.counts[task.status] = group.counts.get(task.status, 0) + 1
    group.revision = revision
    state.put(_key(project_no, group_id), _encoder.encode(group))
    state.put(_member_key(project_no, group_id, task.number), b"")


def move(state: Overlay, task: Task, before: TaskState) -> None:
    """A task went from the status `before` to the one it has now."""
    project_no, group_id, task_id, after = task.project_no, task.group_id, task.task_id, task.status
    if group_id is None:
        return
    group = get(state, project_no, group_id)
    if group is None or group.counts.get(before, 0) < 1:
        raise AssertionError(f"group {group_id} counts no {before} task")
    group.counts[before] -= 1
    if not group.counts[before]:
        del group.counts[before]
    group.counts[after] = group.counts.get(after, 0) + 1
    if before is TaskState.FAILED and task_id in group.failed:
        group.failed.remove(task_id)
    if after is TaskState.FAILED and len(group.failed) < limits.GROUP_FAILED_IDS_MAX:
        group.failed.append(task_id)
    group.revision = task.revision
    state.put(_key(project_no, group_id), _encoder.encode(group))


def remove(state: Overlay, task: Task, revision: int) -> None:
    """A task leaves the state, and with it its group; the last one ends the group."""
    project_no, group_id = task.project_no, task.group_id
    if group_id is None:
        return
    group = get(state, project_no, group_id)
    if group is None or group.counts.get(task.status, 0) < 1:
        raise AssertionError(f"group {group_id} counts no {task.status} task")
    state.delete(_member_key(project_no, group_id, task.number))
    group.counts[task.status] -= 1
    if not group.counts[task.status]:
        del group.counts[task.status]
    if task.task_id in group.failed:
        group.failed.remove(task.task_id)
    group.revision = revision
    if group.counts:
        state.put(_key(project_no, group_id), _encoder.encode(group))
    else:
        state.delete(_key(project_no, group_id))


def members(
    reader: Reader,
    project_no: int,
    group_id: str,
    *,
    after: int = -1,
    before: int = 1 << 63,
    reverse: bool = False,
) -> Iterator[int]:
    """Numbers of the group's tasks between two numbers (both excluded), oldest first, or newest first
    with `reverse`."""
    prefix = _member_key(project_no, group_id, 0)[:-8]
    for key, _ in reader.scan(prefix + u64(after + 1), prefix + u64(before), reverse=reverse):
        yield from_u64(key[-8:])


def scan(reader: Reader) -> Iterator[tuple[int, Group]]:
    """(project number, group) of every group."""
    for key, data in reader.scan(b"g", end_of(b"g")):
        yield int.from_bytes(key[1:5], "big"), _decoder.decode(data)


def _key(project_no: int, group_id: str) -> bytes:
    return b"g" + u32(project_no) + name(group_id)


def _member_key(project_no: int, group_id: str, number: int) -> bytes:
    return b"G" + u32(project_no) + name(group_id) + u64(number)
