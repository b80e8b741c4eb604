"""What the holder of a task may do: accept, checkpoint, complete, fail, release, park.

The fencing rule (API.md section 4): a verb is accepted only while the task is `assigned` or `running`,
the agent holds it and the attempt is equal. Repeating a verb that this attempt already won is answered
again; anything else is refused with `stale_attempt` and changes nothing. A verb on an offer that was
not accepted yet accepts it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any

from statemachine import agent_record, budgets, events, task_record, task_store, task_submit, task_waits
from statemachine.commands import (
    AcceptTasks,
    Checkpoint,
    CheckpointTasks,
    CompleteTasks,
    Completion,
    FailTasks,
    Failure,
    Held,
    Park,
    ParkTasks,
    Release,
    ReleaseTasks,
)
from statemachine.context import Context
from statemachine.outcome import Item, Made, Outcome, Refusal, Refused
from statemachine.task_dependencies import Effects, settle
from statemachine.task_failure import end_attempt
from statemachine.task_grants import require_epoch, start
from statemachine.task_record import LastFailure, Task
from statemachine.task_states import HELD, STOPPED, TaskState, Verb

Usage = tuple[int, int, int]

# An Enum's member costs a look-up in its class each time.
_ASSIGNED, _RUNNING, _COMPLETED = TaskState.ASSIGNED, TaskState.RUNNING, TaskState.COMPLETED
_ACCEPT, _COMPLETE = Verb.ACCEPT, Verb.COMPLETE


def stale(task: Task) -> Refused:
    """The refusal of a caller that no longer holds the task."""
    detail = f"the task is {task.status} at attempt {task.attempt}: stop working on it"
    return Refused("stale_attempt", detail, task_store.current(task))


def holds(task: Task, agent_id: str, attempt: int) -> bool:
    """The fencing rule."""
    return task.status in HELD and task.agent_id == agent_id and task.attempt == attempt


def _won(task: Task, agent_id: str, attempt: int, verb: Verb) -> Item | None:
    for won in task.wins:
        if won.attempt == attempt and won.verb == verb and won.agent_id == agent_id:
            return Item(200, task.task_id, won.revision)
    return None


def _each(ctx: Context, command: Any, one: Callable[[Context, Task, str, Any, Effects], Item], verb: Verb) -> Outcome:
    """Every item on its own: fence, repeat, then `one` decides."""
    project_no = ctx.require_project().number
    agent_id = command.agent_id
    if command.epoch is not None:
        require_epoch(agent_id, agent_record.find(ctx.state, agent_id), command.epoch)
    effects = Effects()
    items: list[Item] = []
    for item in command.items:
        try:
            task = task_record.find(ctx.state, project_no, item.task_id)
            if task is None:
                raise task_store.not_found(item.task_id)
            repeated = _won(task, agent_id, item.attempt, verb)
            items.append(repeated or one(ctx, task, agent_id, item, effects))
        except Refused as error:
            items.append(Item(0, item.task_id, refusal=Refusal(error.code, error.detail, error.current)))
    return Outcome(ctx.meta.revision, tuple(items))


def accept_tasks(ctx: Context, command: AcceptTasks) -> Outcome:
    """AcceptTasks."""
    return _each(ctx, command, _accept, Verb.ACCEPT)


def _accept(ctx: Context, task: Task, agent_id: str, item: Held, _: Effects) -> Item:
    if not holds(task, agent_id, item.attempt):
        raise stale(task)
    if task.status is _RUNNING:
        return Made(200, task.task_id, task.revision, record=task)
    before = task_store.place(task)
    task.grant_ms = task.lease_ms
    start(ctx, task)
    revision = ctx.take_revision()
    task_store.move(ctx, before, _ACCEPT, _RUNNING, revision)
    return Made(200, task.task_id, revision, record=task)


def checkpoint_tasks(ctx: Context, command: CheckpointTasks) -> Outcome:
    """CheckpointTasks."""
    return _each(ctx, command, _checkpoint, Verb.CHECKPOINT)


def _checkpoint(ctx: Context, task: Task, agent_id: str, item: Checkpoint, _: Effects) -> Item:
    if not holds(task, agent_id, item.attempt):
        raise stale(task)
    before = task_store.place(task)
    accepts = task.status is TaskState.ASSIGNED
    _accept_if_offered(ctx, task)
    if item.fraction is not None:
        task.fraction = item.fraction
    if item.message is not None:
        task.progress_message = item.message
    if item.checkpoint is not None:
        task_record.set_body(ctx.state, task, "checkpoint", item.checkpoint)
    revision = ctx.take_revision()
    if accepts:
        task_store.move(ctx, before, Verb.CHECKPOINT, TaskState.RUNNING, revision)
    else:
        task.revision, task.updated_at = revision, ctx.time_ms
        task_store.save(ctx, before)
        task_store.report(ctx, task, "task.progress", {"attempt": task.attempt, "agent_id": agent_id}, agent_id)
    return Made(200, task.task_id, revision, record=task)


def _accept_if_offered(ctx: Context, task: Task) -> None:
    if task.status is _ASSIGNED:
        task.grant_ms = task.lease_ms
        start(ctx, task)


def complete_tasks(ctx: Context, command: CompleteTasks) -> Outcome:
    """CompleteTasks."""
    return _each(ctx, command, _complete, Verb.COMPLETE)


def _complete(ctx: Context, task: Task, agent_id: str, item: Completion, effects: Effects) -> Item:
    if not holds(task, agent_id, item.attempt):
        raise stale(task)
    if not item.tasks and not item.events:
        return _complete_alone(ctx, task, item, effects)
    # Follow-ups and events may be refused after the task was written.
    mark, effects_left = ctx.mark(), effects.left
    try:
        done = _complete_alone(ctx, task, item, effects)
        task_submit.submit(ctx, item.tasks, path="tasks", revision=done.revision)
        for session_id, pairs in groupby(item.events, key=itemgetter(0)):
            events.append(ctx, session_id, tuple(event for _, event in pairs), done.revision)
    except Refused:
        ctx.undo(mark)
        effects.left = effects_left
        raise
    return done


def _complete_alone(ctx: Context, task: Task, item: Completion, effects: Effects) -> Item:
    before = task_store.place(task)
    _accept_if_offered(ctx, task)
    if item.result is not None:
        task_record.set_body(ctx.state, task, "result", item.result)
    if item.artifacts is not None:
        task_record.set_body(ctx.state, task, "artifacts", item.artifacts)
    task.failure = None
    revision = ctx.take_revision()
    if item.usage is not None:
        _add_usage(ctx, task, item.usage, revision)
    task_store.win(task, _COMPLETE, revision)
    task_store.move(ctx, before, _COMPLETE, _COMPLETED, revision)
    settle(ctx, task, effects.under(task.revision))
    return Made(200, task.task_id, revision, record=task)


def _add_usage(ctx: Context, task: Task, usage: Usage, revision: int) -> None:
    """What the attempt used. BEFORE the holder is forgotten, whose budget is charged too."""
    was = task.usage
    task.usage = (was[0] + usage[0], was[1] + usage[1], was[2] + usage[2])
    if ctx.meta.budgets and task.agent_id is not None:
        budgets.charge(ctx, task, task.agent_id, usage, revision)


def fail_tasks(ctx: Context, command: FailTasks) -> Outcome:
    """FailTasks."""
    return _each(ctx, command, _fail, Verb.FAIL)


def _fail(ctx: Context, task: Task, agent_id: str, item: Failure, effects: Effects) -> Item:
    if not holds(task, agent_id, item.attempt):
        raise stale(task)
    before = task_store.place(task)
    _accept_if_offered(ctx, task)
    revision = ctx.take_revision()
    if item.usage is not None:
        _add_usage(ctx, task, item.usage, revision)
    task_store.win(task, Verb.FAIL, revision)
    failure = LastFailure(item.reason, item.message, item.attempt, ctx.time_ms)
    task.avoid_agent_id = agent_id
    end_attempt(ctx, before, Verb.FAIL, revision, failure=failure, retryable=item.retryable, random=item.random)
    if task.status is TaskState.FAILED:
        settle(ctx, task, effects.under(task.revision))
    return Made(200, task.task_id, revision, record=task)


def release_tasks(ctx: Context, command: ReleaseTasks) -> Outcome:
    """ReleaseTasks."""
    return _each(ctx, command, _release, Verb.RELEASE)


def _release(ctx: Context, task: Task, agent_id: str, item: Release, _: Effects) -> Item:
    if task.status in STOPPED and task.agent_id == agent_id and task.attempt == item.attempt:
        return _confirm_stop(ctx, task)
    if not holds(task, agent_id, item.attempt):
        raise stale(task)
    before = task_store.place(task)
    if task.status is TaskState.RUNNING:
        task.tries -= 1
    if item.checkpoint is not None:
        task_record.set_body(ctx.state, task, "checkpoint", item.checkpoint)
    if item.message is not None:
        # A note for whoever takes over: the next grant shows it.
        task.progress_message = item.message
    revision = ctx.take_revision()
    task_store.win(task, Verb.RELEASE, revision)
    # Without this the next offer would go to the one that just declined.
    task.avoid_agent_id = agent_id
    task_store.move(ctx, before, Verb.RELEASE, TaskState.PENDING, revision, reason=item.message)
    return Made(200, task.task_id, revision, record=task)


def _confirm_stop(ctx: Context, task: Task) -> Item:
    """The holder of a cancelled or expired task has stopped: its slot is free. Harmless when it was
    free already."""
    if not task.holder_no:
        return Made(200, task.task_id, task.revision, record=task)
    before = task_store.place(task)
    revision = ctx.take_revision()
    task_store.move(ctx, before, Verb.RELEASE, task.status, revision, reason="confirmed")
    return Made(200, task.task_id, revision, record=task)


def park_tasks(ctx: Context, command: ParkTasks) -> Outcome:
    """ParkTasks."""
    return _each(ctx, command, _park, Verb.PARK)


def _park(ctx: Context, task: Task, agent_id: str, item: Park, _: Effects) -> Item:
    if not holds(task, agent_id, item.attempt):
        raise stale(task)
    task_waits.check_park(item)
    before = task_store.place(task)
    _accept_if_offered(ctx, task)
    # Waiting is no failure: the next attempt is the same try.
    task.tries -= 1
    if item.checkpoint is not None:
        task_record.set_body(ctx.state, task, "checkpoint", item.checkpoint)
    revision = ctx.take_revision()
    if item.usage is not None:
        _add_usage(ctx, task, item.usage, revision)
    task_store.win(task, Verb.PARK, revision)
    task_waits.begin(ctx, before, item, agent_id, revision)
    return Made(200, task.task_id, revision, record=task)
