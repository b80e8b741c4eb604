"""What stays of a removed task for a while: its last attempt.

Its id may be used again, by the same agents. A task that is made under it goes on counting attempts where the former
one stopped: so a verb, a fence or a leader's belief that is about the former task finds another attempt, and changes
nothing.

A task that nobody was ever granted leaves nothing.
"""

from __future__ import annotations

from statemachine import task_record
from statemachine.context import Context
from statemachine.former_ids import FormerIds
from statemachine.task_record import Task

_FORMER = FormerIds(b"f", b"t", "former_tasks")
scan = _FORMER.scan


def keep(ctx: Context, task: Task) -> None:
    """A task is removed, and its id free."""
    _FORMER.keep(ctx, task_record.id_key(task.project_no, task.task_id), task.attempt)


def take_over(ctx: Context, task: Task, id_key: bytes, former: bytes) -> None:
    """A new task gets the id of a former one; `former` is what the id's row says of it."""
    task.attempt = _FORMER.take_over(ctx, id_key, former)
