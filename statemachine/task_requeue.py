"""Taking back what an agent holds: because it was deleted, registered anew, or is gone."""

from __future__ import annotations

from itertools import islice

from statemachine import task_queries, task_record, task_store, work
from statemachine.context import Context
from statemachine.task_dependencies import Effects, settle
from statemachine.task_failure import end_attempt
from statemachine.task_record import LastFailure, Task
from statemachine.task_states import STOPPED, TaskState, Verb


def requeue_held(
    ctx: Context, agent_no: int, epoch_below: int, effects: Effects, *, after: tuple[int, int] = (0, -1)
) -> None:
    """Take back everything the agent was granted under epochs below `epoch_below`; what is left goes to
    a work row.

    A running attempt that is taken back was a try: without tries left the task fails. Otherwise it is
    pending at once. `after` is (project number, task number) of the last one that an earlier step
    looked at.
    """
    rows = list(islice(task_queries.held_by(ctx.state, agent_no, after=after), effects.left + 1))
    budget = effects.left
    effects.left -= min(budget, len(rows))
    if len(rows) > budget:
        last = rows[budget - 1] if budget else after
        work.add(
            ctx,
            "requeue_held",
            {"agent": agent_no, "epoch": epoch_below, "project": last[0], "task": last[1]},
        )
    for project_no, number in rows[:budget]:
        task = _held(ctx, project_no, number)
        if task.agent_epoch < epoch_below:
            _take_back(ctx, task, effects)


def requeue_offers(ctx: Context, agent_no: int, effects: Effects) -> int:
    """Take back offers the agent has not accepted; running attempts wait for their leases. Returns how
    many."""
    rows = list(islice(task_queries.held_by(ctx.state, agent_no), effects.left))
    effects.left -= len(rows)
    taken = 0
    for project_no, number in rows:
        task = _held(ctx, project_no, number)
        if task.status is TaskState.ASSIGNED:
            _take_back(ctx, task, effects)
            taken += 1
    return taken


def _held(ctx: Context, project_no: int, number: int) -> Task:
    task = task_record.get(ctx.state, project_no, number)
    if task is None:
        raise AssertionError(f"held task {number} of project {project_no} is not there")
    return task


def _take_back(ctx: Context, task: Task, effects: Effects) -> None:
    before = task_store.place(task)
    revision = effects.revision(ctx)
    if task.status in STOPPED:
        task_store.move(ctx, before, Verb.REQUEUE, task.status, revision, reason="agent_gone")
        return
    if task.status is TaskState.ASSIGNED:
        task_store.move(ctx, before, Verb.REQUEUE, TaskState.PENDING, revision, reason="agent_gone")
        return
    message = f"agent {task.agent_id} was deleted or registered anew"
    failure = LastFailure("lease_lost", message, task.attempt, ctx.time_ms)
    end_attempt(ctx, before, Verb.REQUEUE, revision, failure=failure, retryable=True, random=None)
    if task.status is TaskState.FAILED:
        settle(ctx, task, effects)


def _drain(ctx: Context, payload: dict[str, int | str], effects_max: int) -> tuple[int, dict[str, int | str] | None]:
    effects = Effects(effects_max)
    after = int(payload["project"]), int(payload["task"])
    requeue_held(ctx, int(payload["agent"]), int(payload["epoch"]), effects, after=after)
    return effects_max - effects.left, None


work.KINDS["requeue_held"] = _drain
