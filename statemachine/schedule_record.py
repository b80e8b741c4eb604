"""The schedule as it is kept: what happens to it (`Schedule`, rewritten by every run) apart from what the user said of
it (`Definition`, which may be large)."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from statemachine import keys, limits, task_record
from statemachine.commands import Definition, NewTask
from statemachine.store import Overlay, Reader

SKIP, QUEUE, REPLACE = "skip", "queue", "replace"
OVERLAPS = (SKIP, QUEUE, REPLACE)
"""What happens when a run is due and an earlier one has not ended."""

RUN_ONCE, RUN_ALL = "run_once", "run_all"
MISSED_RUNS = (SKIP, RUN_ONCE, RUN_ALL)
"""What happens with runs that came due while nobody could start them."""


class Skip(msgspec.Struct, array_like=True, frozen=True):
    """The last run that was not made, and why: `overlap`, `queue_full`, `missed`, or the code of a refusal."""

    due_at: int
    reason: str


class Schedule(msgspec.Struct, array_like=True):
    """A schedule. `number` is its place in the order of creation, `content` the digest of what it was created as.

    `definition_revision` is when the user last changed it, `defined_at` the time of that entry: nothing is due by this
    definition at or before it. `next_run_at` is None while paused, and after the last run. `last_run_at` is the time
    that run was due at. `open_tasks` are numbers of its tasks that had not ended at the last run.
    """

    schedule_id: str
    number: int
    content: bytes
    created_at: int
    created_revision: int
    updated_at: int
    revision: int
    definition_revision: int
    defined_at: int
    next_run_at: int | None
    last_run_at: int | None = None
    last_task_id: str | None = None
    last_skip: Skip | None = None
    runs: int = 0
    skipped: int = 0
    missed: int = 0
    open_tasks: tuple[int, ...] = ()


class Due(NamedTuple):
    """A schedule that waits for a time."""

    at: int
    project_no: int
    number: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Schedule)
_definition_decoder = msgspec.msgpack.Decoder(Definition)
_PLAIN_TASK = NewTask("")


def content_of(definition: Definition) -> bytes:
    """A digest by which the same creation is known again. Defaults at the end of the task are left out, so that a field
    which tasks get later does not change it."""
    values = [getattr(definition.task, name) for name in NewTask.__struct_fields__]
    defaults = [getattr(_PLAIN_TASK, name) for name in NewTask.__struct_fields__]
    while values and values[-1] == defaults[len(values) - 1]:
        values.pop()
    rest = msgspec.structs.replace(definition, task=_PLAIN_TASK)
    whole = (values, [getattr(rest, name) for name in Definition.__struct_fields__ if name != "task"])
    return blake2b(_encoder.encode(whole), digest_size=16).digest()


def key(project_no: int, number: int) -> bytes:
    """The key of a schedule's record."""
    return b"Y" + keys.u32(project_no) + keys.u64(number)


def id_key(project_no: int, schedule_id: str) -> bytes:
    """The key of the row that maps an id to a number."""
    return b"i" + keys.u32(project_no) + keys.name(schedule_id)


def definition_key(project_no: int, number: int) -> bytes:
    """The key of a schedule's definition."""
    return b"V" + keys.u32(project_no) + keys.u64(number)


def due_key(project_no: int, schedule: Schedule | None) -> bytes | None:
    """Where the index of next runs holds this schedule, if it does."""
    if schedule is None or schedule.next_run_at is None:
        return None
    return b"v" + keys.u64(schedule.next_run_at) + keys.u32(project_no) + keys.u64(schedule.number)


def decode(data: bytes) -> Schedule:
    """The schedule of these bytes: a fresh copy that its reader may change."""
    return _decoder.decode(data)


def get(reader: Reader, project_no: int, number: int) -> Schedule | None:
    """The schedule of that number."""
    data = reader.get(key(project_no, number))
    return None if data is None else _decoder.decode(data)


def find(reader: Reader, project_no: int, schedule_id: str) -> Schedule | None:
    """The schedule of that id."""
    if not task_record.is_name(schedule_id):
        return None
    number = reader.get(id_key(project_no, schedule_id))
    return None if number is None else get(reader, project_no, keys.from_u64(number))


def definition_of(reader: Reader, project_no: int, schedule: Schedule) -> Definition:
    """What the user said of a schedule."""
    data = reader.get(definition_key(project_no, schedule.number))
    if data is None:
        raise AssertionError(f"schedule {schedule.schedule_id} has no definition")
    return _definition_decoder.decode(data)


def put(state: Overlay, project_no: int, schedule: Schedule, *, waited_for: bytes | None) -> None:
    """Write a schedule's record. `waited_for` is its `due_key` as it was before."""
    state.put(key(project_no, schedule.number), _encoder.encode(schedule))
    waits_for = due_key(project_no, schedule)
    if waits_for == waited_for:
        return
    if waited_for is not None:
        state.delete(waited_for)
    if waits_for is not None:
        state.put(waits_for, b"")


def put_definition(state: Overlay, project_no: int, schedule: Schedule, definition: Definition) -> None:
    """Write what the user said of a schedule."""
    state.put(definition_key(project_no, schedule.number), _encoder.encode(definition))


def put_new(state: Overlay, project_no: int, schedule: Schedule, definition: Definition) -> None:
    """Write a schedule that was not there before."""
    state.put(id_key(project_no, schedule.schedule_id), keys.u64(schedule.number))
    put_definition(state, project_no, schedule, definition)
    put(state, project_no, schedule, waited_for=None)


def remove(state: Overlay, project_no: int, schedule: Schedule) -> None:
    """Take a schedule out of the state."""
    state.delete(id_key(project_no, schedule.schedule_id))
    state.delete(key(project_no, schedule.number))
    state.delete(definition_key(project_no, schedule.number))
    waited_for = due_key(project_no, schedule)
    if waited_for is not None:
        state.delete(waited_for)


def task_bytes(task: NewTask) -> int:
    """How large a task is that a schedule makes; `limits.SCHEDULE_TASK_BYTES_MAX` bounds it."""
    return len(_encoder.encode(task))


def due(reader: Reader, until_ms: int | None = None) -> Iterator[Due]:
    """Schedules by the time they wait for, earliest first, up to a time (included)."""
    end = keys.end_of(b"v") if until_ms is None else b"v" + keys.u64(until_ms + 1)
    for row, _ in reader.scan(b"v", end):
        yield Due(keys.from_u64(row[1:9]), int.from_bytes(row[9:13], "big"), keys.from_u64(row[13:]))


class ScheduleFilter(msgspec.Struct, frozen=True):
    """Which schedules are wanted: all that are given must hold. `updated_since` is Unix milliseconds, inclusive."""

    paused: bool | None = None
    queues: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    updated_since: int | None = None

    def takes(self, schedule: Schedule, definition: Definition) -> bool:
        """Whether this schedule is wanted."""
        return (
            (self.paused is None or definition.paused is self.paused)
            and (not self.queues or definition.task.queue in self.queues)
            and (not self.types or definition.task.type in self.types)
            and (not self.ids or schedule.schedule_id in self.ids)
            and (self.updated_since is None or schedule.updated_at >= self.updated_since)
        )


def scan(
    reader: Reader,
    project_no: int,
    wanted: ScheduleFilter,
    *,
    after: int | None = None,
    ascending: bool = False,
) -> Iterator[tuple[int, tuple[Schedule, Definition] | None]]:
    """(position, schedule with its definition) in order of creation, newest first; None stands for one that is not
    wanted. `after` is the position to go on behind."""
    start, end = keys.behind(b"Y" + keys.u32(project_no), after, ascending=ascending)
    for _, data in reader.scan(start, end, reverse=not ascending):
        schedule = _decoder.decode(data)
        definition = definition_of(reader, project_no, schedule)
        yield schedule.number, (schedule, definition) if wanted.takes(schedule, definition) else None


def is_id(text: str) -> bool:
    """Whether a schedule may have this id, as far as the key and the ids of its runs are concerned."""
    return task_record.is_name(text) and len(text.encode()) <= limits.SCHEDULE_ID_BYTES_MAX
