"""Tasks that wait for a person, an event or a time: parked by their agent, resumed by whoever has the answer.

A waiting task has no holder: no slot, no lease. An answer goes by the NAME of what is waited for, so it may come before
its wait, and is kept for it. Answers to earlier waits stay with the task: each later attempt begins anew, and must not
ask again what it was told.
"""

from __future__ import annotations

import msgspec

from statemachine import task_record, task_resumes, task_store
from statemachine.commands import Park, ResumeTasks, Resumption
from statemachine.context import Context
from statemachine.outcome import Item, Made, Outcome, Refusal, Refused
from statemachine.task_record import Task, Wait
from statemachine.task_resumes import Resume
from statemachine.task_states import ENDED, TaskState, Verb

APPROVAL, EVENT, TIME = "approval", "event", "time"
KINDS = (APPROVAL, EVENT, TIME)
"""What a task may wait for: a person, an event, a time."""

RESUME, FAIL, CANCEL = "resume", "fail", "cancel"
ON_TIMEOUT = (RESUME, FAIL, CANCEL)
"""What may happen when nothing comes in time."""


def check_park(item: Park) -> None:
    """Refuse a wait that no later version may be asked to make sense of either."""
    if item.kind not in KINDS or item.on_timeout not in ON_TIMEOUT:
        raise Refused("invalid_request", f"a task can not wait for {item.kind!r} and then {item.on_timeout!r}")
    if item.kind == TIME and item.timeout_ms is None:
        raise Refused("invalid_request", "timeout_ms: a wait for a time must say how long")


def begin(ctx: Context, before: task_store.Placement, item: Park, agent_id: str, revision: int) -> None:
    """Park a task; with its answer kept already, it is pending at once. The question of that name is asked anew: an
    older answer to it is forgotten."""
    task = before.task
    until = None if item.timeout_ms is None else ctx.time_ms + item.timeout_ms
    task.wait = Wait(
        item.kind,
        item.name,
        item.prompt,
        item.options,
        item.assignee,
        ctx.time_ms,
        until,
        item.on_timeout,
        item.attempt,
        agent_id,
    )
    resumes = task_resumes.read(ctx.state, task)
    answer = next((resume for resume in resumes if not resume.used and resume.name == item.name), None)
    left = [resume for resume in resumes if resume is not answer and not (resume.used and resume.name == item.name)]
    if answer is not None:
        left.append(msgspec.structs.replace(answer, kind=item.kind))
    if tuple(left) != resumes:
        task_resumes.write(ctx.state, task, left)
    to = TaskState.WAITING if answer is None else TaskState.PENDING
    task_store.move(ctx, before, Verb.PARK, to, revision, reason=f"{item.kind} {item.name}")


def resume_tasks(ctx: Context, command: ResumeTasks) -> Outcome:
    """ResumeTasks."""
    project_no = ctx.require_project().number
    items: list[Item] = []
    for item in command.items:
        try:
            task = task_record.find(ctx.state, project_no, item.task_id)
            if task is None:
                raise task_store.not_found(item.task_id)
            items.append(_resume(ctx, task, item))
        except Refused as error:
            items.append(Item(0, item.task_id, refusal=Refusal(error.code, error.detail, error.current)))
    return Outcome(ctx.meta.revision, tuple(items))


def _resume(ctx: Context, task: Task, item: Resumption) -> Item:
    if task.status in ENDED:
        raise task_store.conflict(task, f"the task is {task.status}: it waits for nothing any more")
    wait = task.wait if task.status is TaskState.WAITING else None
    name = item.name if item.name is not None or wait is None else wait.name
    if name is None:
        detail = f"the task is {task.status} and waits for nothing now: name what the answer is for"
        raise task_store.conflict(task, detail)
    if wait is None or wait.name != name:
        return _keep(ctx, task, Resume(name, item.data, item.actor, ctx.time_ms))
    revision = ctx.take_revision()
    go_on(ctx, task, Resume(name, item.data, item.actor, ctx.time_ms, wait.kind), revision)
    return Made(200, task.task_id, revision, record=task)


def go_on(ctx: Context, task: Task, answer: Resume, revision: int) -> None:
    """A waiting task is pending again, with the answer. `wait` stays until somebody starts: who parked the task is
    preferred."""
    before = task_store.place(task)
    resumes = task_resumes.read(ctx.state, task)
    left = [resume for resume in resumes if not (resume.used and resume.name == answer.name)]
    task_resumes.write(ctx.state, task, [*left, answer])
    reason = f"{answer.name}: {'timeout' if answer.timed_out else answer.actor or 'resumed'}"
    task_store.move(ctx, before, Verb.RESUME, TaskState.PENDING, revision, reason=reason)


def _keep(ctx: Context, task: Task, early: Resume) -> Item:
    """An answer to what the task does not wait for now."""
    resumes = task_resumes.read(ctx.state, task)
    for known in resumes:
        if known.name != early.name or (known.used and known.kind != APPROVAL):
            continue
        if (known.data, known.actor, known.timed_out) == (early.data, early.actor, early.timed_out):
            return Made(200, task.task_id, task.revision, record=task)
        if known.used:
            raise _answered(task, known)
    if not task_resumes.fits([*[resume for resume in resumes if not resume.used], early]):
        raise task_store.conflict(task, "too many answers are kept for waits of this task that have not come")
    before = task_store.place(task)
    task_resumes.write(ctx.state, task, [*resumes, early])
    task.revision, task.updated_at = ctx.take_revision(), ctx.time_ms
    task_store.save(ctx, before)
    task_store.report(ctx, task, "task.updated", {"fields": ["resumes"], "name": early.name})
    return Made(200, task.task_id, task.revision, record=task)


def _answered(task: Task, known: Resume) -> Refused:
    """A decision stands: the second one to be made is told of the first."""
    who = "its timeout" if known.timed_out else known.actor or "somebody"
    resume = {"name": known.name, "actor": known.actor, "answered_at": known.at}
    current = {**task_store.current(task), "resume": resume}
    return Refused("conflict", f"{known.name!r} was answered already, by {who}", current)
