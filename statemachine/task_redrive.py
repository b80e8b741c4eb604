"""Failed tasks begin anew: one by its id, or all that fit a filter, at a bounded rate.

A mass redrive looks at `limits.SIDE_EFFECTS_MAX` tasks in its own step; the rest is a row of work. So that a queue is
not flooded, only `rate_per_second` of them are pending at once: later ones are scheduled for later seconds.
"""

from __future__ import annotations

from itertools import islice

from statemachine import limits, task_queries, task_record, task_resumes, task_rows, task_store, work
from statemachine.commands import RetryTask, RetryTasks
from statemachine.context import Context
from statemachine.keys import from_u64, order_number
from statemachine.outcome import Item, Made, Outcome, Refused, accepted
from statemachine.store import Reader
from statemachine.task_dependencies import Effects
from statemachine.task_record import Task
from statemachine.task_states import TaskState, Verb

Left = dict[str, int | str]
"""A mass redrive under way. Filters: empty for any. `done` of them were redriven, from `begun_ms` on."""


def retry_task(ctx: Context, command: RetryTask) -> Outcome:
    """RetryTask: tries begin anew, `attempt` goes on growing, so that no old attempt comes back to life."""
    task = task_store.require(ctx, command.task_id)
    if task.status is not TaskState.FAILED:
        raise task_store.conflict(task, f"the task is {task.status}: only a failed one can be retried")
    holder = _key_holder(ctx.state, task)
    if holder is not None:
        current = {"task_id": holder.task_id, **task_store.current(holder)}
        raise Refused("conflict", f"task {holder.task_id!r} has taken over the unique key", current)
    revision = ctx.take_revision()
    _redrive(ctx, task, revision, due_at=None)
    return accepted(Made(200, task.task_id, revision, record=task))


def _redrive(ctx: Context, task: Task, revision: int, *, due_at: int | None) -> None:
    before = task_store.place(task)
    task.tries = 0
    task.failure = None
    task.completed_at = None
    task.due_at = due_at
    # It comes back from nothing: above all it has no locks that it might have kept while it waited.
    task.wait = None
    # Questions are asked anew: it may have failed BECAUSE of an answer.
    resumes = task_resumes.read(ctx.state, task)
    if resumes:
        task_resumes.write(ctx.state, task, [resume for resume in resumes if not resume.used])
    ctx.meta.tasks_ended -= 1
    to = TaskState.PENDING if due_at is None else TaskState.SCHEDULED
    task_store.move(ctx, before, Verb.RETRY, to, revision, reason="retry")


def _key_holder(reader: Reader, task: Task) -> Task | None:
    """The task that took over the unique key of a failed one."""
    if task.unique_key is None:
        return None
    number = reader.get(task_rows.unique_key(task.project_no, task.unique_key))
    return None if number is None else task_record.get(reader, task.project_no, from_u64(number))


def retry_tasks(ctx: Context, command: RetryTasks) -> Outcome:
    """RetryTasks: tasks that fail after this are not redriven by it."""
    project_no = ctx.require_project().number
    left: Left = {
        "project": project_no,
        "queue": command.queue or "",
        "reason": command.reason or "",
        "group": command.group_id or "",
        "after": -1,
        "until": order_number(ctx.meta.revision + 1, 0),
        "begun_ms": ctx.time_ms,
        "done": 0,
        "limit": min(max(command.limit, 1), limits.RETRY_LIMIT_MAX),
        "rate": min(max(command.rate_per_second, 1), limits.RETRY_RATE_MAX),
    }
    left, more = _redrive_some(ctx, left, Effects())
    if more:
        work.add(ctx, "retry_tasks", left)
    return accepted(Item(200, "", ctx.meta.revision, (int(left["done"]), int(more))))


def _redrive_some(ctx: Context, left: Left, effects: Effects) -> tuple[Left, bool]:
    """(what is left, whether there may be more). Tasks looked at count as effects, redriven or not."""
    project_no, done = int(left["project"]), int(left["done"])
    rows = task_queries.aside(
        ctx.state, project_no, TaskState.FAILED, after=int(left["after"]), before=int(left["until"])
    )
    numbers = list(islice(rows, effects.left + 1))
    more = len(numbers) > effects.left
    after = int(left["after"])
    for number in numbers[: effects.left]:
        if done == left["limit"]:
            return left, False
        after, effects.left = number, effects.left - 1
        task = task_record.get(ctx.state, project_no, number)
        if task is None:
            raise AssertionError(f"failed task {number} of project {project_no} is not there")
        if _wanted(ctx.state, task, left):
            due_at = int(left["begun_ms"]) + done // int(left["rate"]) * 1_000
            _redrive(ctx, task, effects.revision(ctx), due_at=due_at if due_at > ctx.time_ms else None)
            done += 1
        left = {**left, "after": after, "done": done}
    return left, more and done < int(left["limit"])


def _wanted(reader: Reader, task: Task, left: Left) -> bool:
    failure = task.failure
    return (
        (not left["queue"] or task.queue == left["queue"])
        and (not left["group"] or task.group_id == left["group"])
        and (not left["reason"] or (failure is not None and failure.reason == left["reason"]))
        and (task.completed_at or 0) <= int(left["begun_ms"])
        and _key_holder(reader, task) is None
    )


def _drain(ctx: Context, payload: Left, effects_max: int) -> tuple[int, Left | None]:
    effects = Effects(effects_max)
    left, more = _redrive_some(ctx, payload, effects)
    return effects_max - effects.left, left if more else None


work.KINDS["retry_tasks"] = _drain
