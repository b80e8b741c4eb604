"""Queues: settings, and counts of tasks by state, kept with every transition.

A queue exists as soon as a task or a setting names it. What is `pending` is counted among the counters of the project
(`queue.<name>.pending`), since a new pending task must cost no further write; everything else is counted in the
queue's own record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from statemachine import limits, task_record
from statemachine.commands import Command, UpdateQueue
from statemachine.context import Context
from statemachine.keys import end_of, name, u32
from statemachine.outcome import Made, Outcome, Refused, accepted
from statemachine.store import Overlay, Reader
from statemachine.task_states import TaskState

_TABLE = b"q"
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000

COUNTED = (
    TaskState.BLOCKED,
    TaskState.SCHEDULED,
    TaskState.ASSIGNED,
    TaskState.RUNNING,
    TaskState.WAITING,
    TaskState.COMPLETED,
    TaskState.FAILED,
    TaskState.CANCELLED,
    TaskState.EXPIRED,
)
"""States by their place in `Queue.counts`: only ever add at the end."""

_PLACE = {state: place for place, state in enumerate(COUNTED)}
_STATES = len(COUNTED)
_PENDING = TaskState.PENDING
_QUEUES_REMEMBERED = 1_024
SETTINGS = ("paused", "max_running", "rate_milli", "max_running_per_key")


class Queue(msgspec.Struct, array_like=True, gc=False):
    """A queue of one project.

    `held` counts tasks that occupy a slot: assigned, running, and ended by decree while their agent has not confirmed.
    That is what `max_running` limits. `rate_milli` is in thousandths of a grant per second. `next_grant_ns` is when
    the bucket of tokens will be full again (Unix nanoseconds of entry time). `configured`: a user has named it.
    """

    project_no: int
    queue: str
    created_at: int
    created_revision: int
    revision: int
    configured: bool = False
    paused: bool = False
    max_running: int | None = None
    rate_milli: int | None = None
    max_running_per_key: int = 1
    held: int = 0
    next_grant_ns: int = 0
    counts: list[int] = []

    def count(self, state: TaskState) -> int:
        """How many tasks of the queue are in that state, which is not `pending`."""
        place = _PLACE[state]
        return self.counts[place] if place < len(self.counts) else 0

    @property
    def limited(self) -> bool:
        """Whether any setting may keep a task of it from an agent."""
        return self.paused or self.max_running is not None or self.rate_milli is not None

    def tokens(self, time_ms: int) -> int | None:
        """How many grants the rate allows at this moment; None: any number."""
        if self.rate_milli is None:
            return None
        free_ns = time_ms * _NS_PER_MS + self.spread_ns - max(self.next_grant_ns, time_ms * _NS_PER_MS)
        return 0 if free_ns < 0 else free_ns // self.interval_ns + 1

    def next_token_ms(self) -> int:
        """From when on the rate allows a grant, Unix milliseconds."""
        return -((self.spread_ns - self.next_grant_ns) // _NS_PER_MS)

    @property
    def interval_ns(self) -> int:
        """Time between two grants at the rate, rounded up: never faster."""
        return -(-1000 * _NS_PER_S // (self.rate_milli or 1))

    @property
    def spread_ns(self) -> int:
        """How far grants may run ahead of the rate: a burst is what a second allows, and at least one."""
        return (max(1, (self.rate_milli or 0) // 1000) - 1) * self.interval_ns


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Queue)
_decode = _decoder.decode


@lru_cache(maxsize=_QUEUES_REMEMBERED)
def _key(project_no: int, queue: str) -> bytes:
    return _TABLE + u32(project_no) + name(queue)


def get(reader: Reader, project_no: int, queue: str) -> Queue | None:
    """The queue's record; None where none was written: only pending tasks, if any, are in it, and nothing is set."""
    data = reader.get(_key(project_no, queue))
    return None if data is None else _decoder.decode(data)


def look(state: Overlay, project_no: int, queue: str) -> Queue | None:
    """As `get`, without a copy: NOT TO BE CHANGED."""
    return state.look(_key(project_no, queue), _decode)


def scan(reader: Reader, project_no: int | None = None, after: str = "") -> Iterator[Queue]:
    """All records, or those of one project whose name comes after `after`, in order of project and name."""
    prefix = _TABLE if project_no is None else _TABLE + u32(project_no)
    start = prefix if project_no is None or not after else end_of(prefix + name(after))
    for _, data in reader.scan(start, end_of(prefix)):
        yield _decoder.decode(data)


def put(state: Overlay, queue: Queue) -> None:
    """Write a record as it is now; one that counts nothing, and that no setting names, is removed."""
    key = _key(queue.project_no, queue.queue)
    if _says_something(queue):
        state.put(key, _encoder.encode(queue))
    else:
        state.delete(key)


def _says_something(queue: Queue) -> bool:
    return queue.configured or queue.held > 0 or any(queue.counts)


def add(
    ctx: Context,
    project_no: int,
    queue: str,
    revision: int,
    was: TaskState | None,
    now: TaskState | None,
    held: int = 0,
    *,
    granted: bool = False,
) -> None:
    """A task goes from one state to the other (None: it is not in this queue), and `held` more tasks occupy a slot;
    the first task that is not pending makes the record. `granted`: what the queue's rate allows grows less."""
    key = _key(project_no, queue)
    known: Queue | None = ctx.state.own(key, _decode)
    if known is None:
        known = Queue(project_no, queue, ctx.time_ms, revision, revision)
        ctx.state.put_record(key, known)
    counts = known.counts
    if len(counts) < _STATES:
        counts.extend([0] * (_STATES - len(counts)))
    if now is not None and now is not _PENDING:
        counts[_PLACE[now]] += 1
    if granted and known.rate_milli is not None:
        known.next_grant_ns = max(known.next_grant_ns, ctx.time_ms * _NS_PER_MS) + known.interval_ns
    known.held += held
    if known.held < 0:
        raise AssertionError(f"queue {queue} would hold less than no task")
    if was is not None and was is not _PENDING:
        place = _PLACE[was]
        counts[place] -= 1
        if counts[place] < 0:
            raise AssertionError(f"queue {queue} would count less than no {was} task")
    if not _says_something(known):
        ctx.state.delete(key)


def update_queue(ctx: Context, command: UpdateQueue) -> Outcome:
    """UpdateQueue."""
    project = ctx.require_project()
    if not task_record.is_name(command.queue):
        raise Refused("invalid_request", "queue is no name")
    fields = frozenset(command.fields)
    if not fields <= frozenset(SETTINGS):
        raise Refused("invalid_request", f"only {', '.join(SETTINGS)} can be set")
    _check_range(command)
    known = get(ctx.state, project.number, command.queue)
    if command.if_revision is not None:
        now = (known or unwritten(ctx.state, project.number, command.queue)).revision
        if command.if_revision not in (now, None if known else 0):
            raise Refused("conflict", f"the queue is at revision {now}", {"revision": now})
    if known is not None and known.configured and all(getattr(known, f) == getattr(command, f) for f in fields):
        return accepted(Made(200, command.queue, known.revision, record=known))
    revision = ctx.take_revision()
    if known is None:
        known = Queue(project.number, command.queue, ctx.time_ms, revision, revision)
    if "rate_milli" in fields and known.rate_milli != command.rate_milli:
        # A new rate begins with a full bucket; what the old one had run ahead means nothing to it.
        known.next_grant_ns = 0
    for field in sorted(fields):
        setattr(known, field, getattr(command, field))
    known.configured, known.revision = True, revision
    put(ctx.state, known)
    shown = sorted("rate_per_second" if field == "rate_milli" else field for field in fields)
    ctx.change(revision, "queue.updated", "queue", command.queue, data={"fields": shown})
    return accepted(Made(200, command.queue, revision, record=known))


def _check_range(command: UpdateQueue) -> None:
    for field, value, least, most in (
        ("max_running", command.max_running, 0, limits.QUEUE_MAX_RUNNING_MAX),
        ("rate_milli", command.rate_milli, 1, limits.QUEUE_RATE_MILLI_MAX),
        ("max_running_per_key", command.max_running_per_key, 1, limits.MAX_RUNNING_PER_KEY_MAX),
    ):
        if value is not None and not least <= value <= most:
            raise Refused("invalid_request", f"{field} must be between {least} and {most}")


HANDLERS: dict[type[Command], Callable[[Context, Any], Outcome]] = {UpdateQueue: update_queue}


def oldest_pending(reader: Reader, project_no: int, queue: str) -> int | None:
    """The number of the task of the queue that was made first of those now pending: a look-up for each priority."""
    prefix = b"Q" + u32(project_no) + name(queue)
    oldest: int | None = None
    for rank in range(limits.PRIORITY_MAX + 1):
        start = prefix + bytes([rank])
        row = next(iter(reader.scan(start, end_of(start))), None)
        if row is not None:
            number = int.from_bytes(row[0][-8:], "big")
            oldest = number if oldest is None else min(oldest, number)
    return oldest


def unwritten(reader: Reader, project_no: int, queue: str) -> Queue:
    """What is shown of a queue without a record: it began with the oldest of its tasks, which are all pending."""
    number = oldest_pending(reader, project_no, queue)
    task = None if number is None else task_record.get(reader, project_no, number)
    if task is None:
        return Queue(project_no, queue, 0, 0, 0)
    return Queue(project_no, queue, task.created_at, task.created_revision, task.created_revision)


def oldest_pending_ms(reader: Reader, project_no: int, queue: str) -> int | None:
    """When that task was made, Unix milliseconds."""
    number = oldest_pending(reader, project_no, queue)
    task = None if number is None else task_record.get(reader, project_no, number)
    return None if task is None else task.created_at


def pending_counts(counts: dict[str, int]) -> dict[str, int]:
    """How many tasks are pending, by queue, from the counters of a project."""
    return {
        counter.removeprefix("queue.").removesuffix(".pending"): count
        for counter, count in counts.items()
        if counter.startswith("queue.") and count
    }
