"""What stays of a removed task for a while: its last attempt.

Its id may be used again, by the same agents. A task that is made under it goes on counting attempts where the former
one stopped: so a verb, a fence or a leader's belief that is about the former task finds another attempt, and changes
nothing.

It stands in the row of the id itself, where whoever makes a task looks anyway: 16 bytes instead of 8. A task that
nobody was ever granted leaves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from statemachine import limits, task_record
from statemachine.context import Context
from statemachine.keys import end_of, from_u64, name, u32, u64
from statemachine.store import Reader
from statemachine.task_record import Task

_TABLE = b"f"


def keep(ctx: Context, task: Task) -> None:
    """A task is removed, and its id free. Of those that were removed before it some may be forgotten."""
    id_key = task_record.id_key(task.project_no, task.task_id)
    if task.attempt:
        ctx.state.put(id_key, u64(task.attempt) + u64(ctx.time_ms))
        ctx.state.put(_time_key(ctx.time_ms, task.project_no, task.task_id), b"")
        ctx.meta.former_tasks += 1
    else:
        ctx.state.delete(id_key)
    _forget(ctx)


def take_over(ctx: Context, task: Task, former: bytes) -> None:
    """A new task gets the id of a former one; `former` is what the id's row says of it."""
    task.attempt = from_u64(former[:8])
    ctx.state.delete(_time_key(from_u64(former[8:]), task.project_no, task.task_id))
    ctx.meta.former_tasks -= 1


def scan(reader: Reader) -> Iterator[tuple[int, bytes]]:
    """(when it was removed, the row of its id) of each former task, longest ago first."""
    for key, _ in reader.scan(_TABLE, end_of(_TABLE)):
        yield from_u64(key[1:9]), b"t" + key[9:]


def _forget(ctx: Context) -> None:
    """Each removal forgets more than it adds, as long as there is something to forget."""
    for at, id_key in list(islice(scan(ctx.state), limits.FORMER_TASKS_FORGOTTEN_PER_REMOVAL)):
        if ctx.meta.former_tasks <= limits.FORMER_TASKS_MAX and at + limits.FORMER_TASK_KEPT_MS > ctx.time_ms:
            return
        ctx.state.delete(_TABLE + u64(at) + id_key[1:])
        ctx.state.delete(id_key)
        ctx.meta.former_tasks -= 1


def _time_key(at: int, project_no: int, task_id: str) -> bytes:
    return _TABLE + u64(at) + u32(project_no) + name(task_id)
