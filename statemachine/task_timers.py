"""What time does to tasks, proposed by the leader. Each decision is checked again: what no longer holds
is passed over."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from statemachine import limits, projects, task_queries, task_record, task_rows, task_store, task_waits
from statemachine.commands import Believed, EndWaits, ExpireLeases, ExpireRuns, ExpireTasks, WakeTasks, WithdrawOffers
from statemachine.context import Context
from statemachine.outcome import Item, Outcome
from statemachine.task_dependencies import Effects, settle
from statemachine.task_failure import end_attempt
from statemachine.task_record import LastFailure, Task
from statemachine.task_resumes import Resume
from statemachine.task_rows import TIMER_RUN, TIMER_UNSTARTED
from statemachine.task_states import ENDED, STOPPED, TaskState, Verb


def _believed(ctx: Context, item: Believed) -> Task | None:
    """The task, if it still is what the leader believed it to be."""
    project = projects.find(ctx.state, item.project)
    task = None if project is None else task_record.find(ctx.state, project.number, item.task_id)
    if task is None or task.attempt != item.attempt or task.status != item.status:
        return None
    return task


def _each(ctx: Context, items: tuple[Believed, ...], one: Callable[[Context, int, Task, Effects], bool]) -> Outcome:
    """`one` changes the task of an item, by its position, or says no."""
    effects = Effects()
    done: list[Item] = []
    for position, item in enumerate(items):
        task = _believed(ctx, item)
        if task is None or not one(ctx, position, task, effects):
            done.append(Item(0, item.task_id))
        else:
            done.append(Item(200, item.task_id, task.revision))
    return Outcome(ctx.meta.revision, tuple(done))


def withdraw_offers(ctx: Context, command: WithdrawOffers) -> Outcome:
    """WithdrawOffers."""
    return _each(ctx, command.items, _withdraw)


def _withdraw(ctx: Context, _: int, task: Task, __: Effects) -> bool:
    if task.status is not TaskState.ASSIGNED:
        return False
    before = task_store.place(task)
    task.avoid_agent_id = task.agent_id
    task_store.move(ctx, before, Verb.WITHDRAW, TaskState.PENDING, ctx.take_revision(), reason="not_accepted")
    return True


def expire_leases(ctx: Context, command: ExpireLeases) -> Outcome:
    """ExpireLeases."""

    def lose(ctx: Context, position: int, task: Task, effects: Effects) -> bool:
        if task.status in STOPPED and task.holder_no:
            before = task_store.place(task)
            task_store.move(ctx, before, Verb.LOSE, task.status, ctx.take_revision(), reason="lease_lost")
            return True
        if task.status is not TaskState.RUNNING:
            return False
        message = f"agent {task.agent_id} did not renew its lease"
        failure = LastFailure("lease_lost", message, task.attempt, ctx.time_ms)
        _end(ctx, task, Verb.LOSE, failure, command.randoms[position])
        _settle_if_failed(ctx, task, effects)
        return True

    return _each(ctx, command.items, lose)


def expire_runs(ctx: Context, command: ExpireRuns) -> Outcome:
    """ExpireRuns."""

    def time_out(ctx: Context, position: int, task: Task, effects: Effects) -> bool:
        due = [at for at, kind in task_rows.timers(task) if kind == TIMER_RUN]
        if not due or due[0] > ctx.time_ms:
            return False
        message = f"ran longer than {task.run_timeout_ms} ms"
        failure = LastFailure("timeout", message, task.attempt, ctx.time_ms)
        _end(ctx, task, Verb.TIME_OUT, failure, command.randoms[position])
        _settle_if_failed(ctx, task, effects)
        return True

    return _each(ctx, command.items, time_out)


def _end(ctx: Context, task: Task, verb: Verb, failure: LastFailure, random: int) -> None:
    before = task_store.place(task)
    task.avoid_agent_id = task.agent_id
    end_attempt(ctx, before, verb, ctx.take_revision(), failure=failure, retryable=True, random=random)


def _settle_if_failed(ctx: Context, task: Task, effects: Effects) -> None:
    if task.status is TaskState.FAILED:
        settle(ctx, task, effects.under(task.revision))


def wake_tasks(ctx: Context, command: WakeTasks) -> Outcome:
    """WakeTasks. Items: the tasks woken."""
    items: list[Item] = []
    due = task_queries.due_scheduled(ctx.state, ctx.time_ms)
    for _, project_no, number in list(islice(due, min(command.count_max, limits.ENTRY_COMMANDS_MAX))):
        task = task_record.get(ctx.state, project_no, number)
        if task is None:
            raise AssertionError(f"scheduled task {number} of project {project_no} is not there")
        before = task_store.place(task)
        task.due_at = None
        task_store.move(ctx, before, Verb.WAKE, TaskState.PENDING, ctx.take_revision())
        items.append(Item(200, task.task_id, task.revision))
    return Outcome(ctx.meta.revision, tuple(items))


def expire_tasks(ctx: Context, command: ExpireTasks) -> Outcome:
    """ExpireTasks."""
    return _each(ctx, command.items, _expire)


def _expire(ctx: Context, _: int, task: Task, effects: Effects) -> bool:
    if task.status in ENDED:
        return False
    due = {kind for at, kind in task_rows.timers(task) if at <= ctx.time_ms and kind != TIMER_RUN}
    if not due:
        return False
    before = task_store.place(task)
    reason = "deadline"
    if TIMER_UNSTARTED in due:
        reason = "never_started"
        message = f"not started within {task.expires_unstarted_ms} ms"
        task.failure = LastFailure(reason, message, task.attempt, ctx.time_ms)
    task.due_at = None
    task_store.move(ctx, before, Verb.EXPIRE, TaskState.EXPIRED, ctx.take_revision(), reason=reason)
    settle(ctx, task, effects.under(task.revision))
    return True


def end_waits(ctx: Context, command: EndWaits) -> Outcome:
    """EndWaits."""
    return _each(ctx, command.items, _end_wait)


def _end_wait(ctx: Context, _: int, task: Task, effects: Effects) -> bool:
    wait = task.wait
    if task.status is not TaskState.WAITING or wait is None or wait.until is None or wait.until > ctx.time_ms:
        return False
    revision = ctx.take_revision()
    if wait.on_timeout == task_waits.RESUME:
        answer = Resume(wait.name, None, None, ctx.time_ms, wait.kind, timed_out=True)
        task_waits.go_on(ctx, task, answer, revision)
        return True
    before = task_store.place(task)
    message = f"{wait.kind} {wait.name!r} did not come within {wait.until - wait.since} ms"
    task.failure = LastFailure("timeout", message, task.attempt, ctx.time_ms)
    to = TaskState.FAILED if wait.on_timeout == task_waits.FAIL else TaskState.CANCELLED
    task_store.move(ctx, before, Verb.END_WAIT, to, revision, reason="timeout")
    settle(ctx, task, effects.under(revision))
    return True
