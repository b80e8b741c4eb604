"""What users do to tasks that exist: change, cancel (one or a group). Redriving: `task_redrive`."""

from __future__ import annotations

from itertools import islice

from statemachine import groups, task_record, task_store, work
from statemachine.commands import CancelGroup, CancelTask, UpdateTask
from statemachine.context import Context
from statemachine.keys import order_number
from statemachine.outcome import Item, Made, Outcome, Refused, accepted
from statemachine.task_dependencies import Effects, first_state, settle
from statemachine.task_record import Task
from statemachine.task_states import ENDED, TaskState, Verb

EDITABLE = frozenset({"priority", "labels", "metadata", "deadline", "not_before", "queue"})
EDITABLE_AFTER_END = frozenset({"labels", "metadata"})


def update_task(ctx: Context, command: UpdateTask) -> Outcome:
    """UpdateTask: a task that has ended takes only new labels and metadata."""
    task = task_store.require(ctx, command.task_id)
    if command.if_revision is not None and command.if_revision != task.revision:
        current = {**task_store.current(task), "revision": task.revision}
        raise Refused("conflict", f"the task is at revision {task.revision}", current)
    fields = frozenset(command.fields)
    if not fields <= EDITABLE:
        raise Refused("invalid_request", f"only {', '.join(sorted(EDITABLE))} can be changed")
    if not task_record.is_name(command.queue):
        raise Refused("invalid_request", "queue is no name")
    if task.status in ENDED and not fields <= EDITABLE_AFTER_END:
        raise task_store.conflict(task, f"the task is {task.status}: only its labels and metadata can change")
    if not _differs(ctx, task, command, fields):
        return accepted(Made(200, task.task_id, task.revision, record=task))
    before = task_store.place(task)
    for field in sorted(fields):
        if field == "metadata":
            task_record.set_body(ctx.state, task, field, command.metadata)
        else:
            setattr(task, field, getattr(command, field))
    revision = ctx.take_revision()
    task.revision, task.updated_at = revision, ctx.time_ms
    to = _state_after(ctx, task) if "not_before" in fields else task.status
    if to is not task.status:
        task_store.move(ctx, before, Verb.RESCHEDULE, to, revision, reason="not_before")
    else:
        task_store.save(ctx, before)
        task_store.report(ctx, task, "task.updated", {"fields": sorted(fields)})
    return accepted(Made(200, task.task_id, revision, record=task))


def _differs(ctx: Context, task: Task, command: UpdateTask, fields: frozenset[str]) -> bool:
    now = {field: getattr(task, field) for field in fields}
    if "metadata" in now:
        now["metadata"] = task_record.json_body(ctx.state, task, "metadata")
    return any(getattr(command, field) != value for field, value in now.items())


def _state_after(ctx: Context, task: Task) -> TaskState:
    """Where a new `not_before` leaves a task. Back-off is never shortened by it; a held task is left
    alone."""
    if task.status is TaskState.SCHEDULED and task.failure is not None:
        task.due_at = max(task.due_at or 0, task.not_before or 0)
        return TaskState.SCHEDULED
    if task.status in (TaskState.SCHEDULED, TaskState.PENDING):
        return first_state(task, ctx.time_ms)
    return task.status


def cancel_task(ctx: Context, command: CancelTask) -> Outcome:
    """CancelTask."""
    task = task_store.require(ctx, command.task_id)
    if task.status is TaskState.CANCELLED:
        return accepted(Made(200, task.task_id, task.revision, record=task))
    if task.status in ENDED:
        raise task_store.conflict(task, f"the task is {task.status}: it can not be cancelled any more")
    effects = Effects(revision=ctx.take_revision())
    cancel(ctx, task, effects)
    return accepted(Made(200, task.task_id, effects.taken, record=task))


def cancel(ctx: Context, task: Task, effects: Effects) -> None:
    """Cancel a task that has not ended; what follows from it too."""
    before = task_store.place(task)
    task.due_at = None
    task_store.move(ctx, before, Verb.CANCEL, TaskState.CANCELLED, effects.revision(ctx), reason="cancelled")
    settle(ctx, task, effects)


def cancel_group(ctx: Context, command: CancelGroup) -> Outcome:
    """CancelGroup: tasks that join the group later are not cancelled."""
    project_no = ctx.require_project().number
    group_id = command.group_id
    if not task_record.is_name(group_id) or groups.get(ctx.state, project_no, group_id) is None:
        raise Refused("not_found", f"no group {group_id!r} in this project")
    effects = Effects()
    until = order_number(ctx.meta.revision + 1, 0)
    cancelled = _cancel_members(ctx, project_no, group_id, effects, after=-1, until=until)
    return accepted(Item(200, group_id, ctx.meta.revision, (cancelled,)))


def _cancel_members(ctx: Context, project_no: int, group_id: str, effects: Effects, *, after: int, until: int) -> int:
    """Cancel members between the numbers; members looked at count as effects, cancelled or not."""
    members = groups.members(ctx.state, project_no, group_id, after=after, before=until)
    numbers = list(islice(members, effects.left + 1))
    budget = effects.left
    if len(numbers) > budget:
        payload: dict[str, int | str] = {"project": project_no, "group": group_id, "after": 0, "until": until}
        payload["after"] = numbers[budget - 1] if budget else after
        work.add(ctx, "cancel_group", payload)
    effects.left -= min(budget, len(numbers))
    cancelled = 0
    for number in numbers[:budget]:
        task = task_record.get(ctx.state, project_no, number)
        if task is None:
            raise AssertionError(f"group {group_id} has member {number}, which is not there")
        if task.status not in ENDED:
            cancel(ctx, task, effects)
            cancelled += 1
    return cancelled


def _drain_group(
    ctx: Context, payload: dict[str, int | str], effects_max: int
) -> tuple[int, dict[str, int | str] | None]:
    effects = Effects(effects_max)
    after, until = int(payload["after"]), int(payload["until"])
    _cancel_members(ctx, int(payload["project"]), str(payload["group"]), effects, after=after, until=until)
    return effects_max - effects.left, None


work.KINDS["cancel_group"] = _drain_group
