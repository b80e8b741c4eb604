"""New tasks: dependencies resolved, each item accepted or refused on its own, or all or none."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from statemachine import former_tasks, limits, path_locks, task_dependencies, task_record, task_rows, task_store
from statemachine.commands import NewTask, SubmitTasks
from statemachine.context import Context
from statemachine.keys import from_u64, order_number
from statemachine.outcome import Item, Made, Outcome, Refusal, Refused
from statemachine.task_record import Task
from statemachine.task_states import ENDED, TaskState

_encoder = msgspec.msgpack.Encoder()
_LARGE = limits.TASK_BODY_INLINE_BYTES_MAX
_FIRST_FIELDS = b"\xdc\x00\x19"
"""How msgpack begins the 25 fields that a new task had first."""


@dataclass(slots=True)
class Dependency:
    """A task that others of this command depend on, as it stands."""

    number: int
    task_id: str
    status: TaskState


class _Submission:
    """The items of one command on their way in.

    With `revision` every new task takes that one (an atomic batch, follow-ups of a completion);
    without, each its own. `index_by_id` is empty, and nothing `known`, when no item depends on anything.
    """

    __slots__ = ("ctx", "index_by_id", "items", "known", "path", "project", "project_no", "results", "revision")

    def __init__(self, ctx: Context, items: tuple[NewTask, ...], path: str, revision: int | None) -> None:
        project = ctx.require_project()
        self.ctx = ctx
        self.items = items
        self.path = path
        self.revision = revision
        self.project_no = project.number
        self.project = project.name
        self.results: list[Item | None] = [None] * len(items)
        self.index_by_id: dict[str, int] = {}
        self.known: dict[str, Dependency] = {}


def submit_tasks(ctx: Context, command: SubmitTasks) -> Outcome:
    """SubmitTasks."""
    ctx.require_project()
    if not command.atomic:
        items = submit(ctx, command.items, path="items")
        return Outcome(ctx.meta.revision, items)
    revision = ctx.meta.revision + 1
    items = submit(ctx, command.items, path="items", revision=revision)
    if any(item.status == 201 for item in items):
        ctx.take_revision()
    return Outcome(ctx.meta.revision, items)


def submit(ctx: Context, items: tuple[NewTask, ...], *, path: str, revision: int | None = None) -> tuple[Item, ...]:
    """Make tasks. With a `revision` the first refusal is raised (the caller undoes all), else it is
    that item's answer.

    `path` is where the items stand in the request, for messages such as `items[3].depends_on[0]`.
    """
    dependencies = sum([len(item.depends_on) for item in items])
    if dependencies > limits.COMMAND_DEPENDENCIES_MAX:
        raise Refused(
            "invalid_request",
            f"the tasks of one request may have {limits.COMMAND_DEPENDENCIES_MAX} dependencies together",
            _errors(path, "too many dependencies in all"),
        )
    run = _Submission(ctx, items, path, revision)
    if dependencies:
        for index, new in enumerate(items):
            run.index_by_id.setdefault(new.task_id, index)
    for index, new in enumerate(items):
        if run.results[index] is None:
            if new.depends_on:
                _submit_in_order(run, index)
            else:
                _submit_one(run, index, None)
    return tuple([item for item in run.results if item is not None])


def _submit_in_order(run: _Submission, first: int) -> None:
    """Submit an item after those of the same command that it depends on (depth first, without recursion)."""
    path_now: dict[int, int] = {first: 0}
    stack = [first]
    while stack:
        index = stack[-1]
        depends_on = run.items[index].depends_on
        cycle: Refused | None = None
        while path_now[index] < len(depends_on):
            position = path_now[index]
            path_now[index] += 1
            other = run.index_by_id.get(depends_on[position])
            if other is None or run.results[other] is not None:
                continue
            if other in path_now:
                cycle = _refuse(run, index, position, f"{depends_on[position]!r} depends on this task: a cycle")
                break
            stack.append(other)
            path_now[other] = 0
            break
        if cycle is not None or stack[-1] == index:
            stack.pop()
            del path_now[index]
            _submit_one(run, index, cycle)


def _submit_one(run: _Submission, index: int, refusal: Refused | None) -> None:
    try:
        if refusal is not None:
            raise refusal
        run.results[index] = _accept(run, index)
    except Refused as error:
        if run.revision is not None:
            raise
        run.results[index] = Item(0, run.items[index].task_id, refusal=Refusal(error.code, error.detail, error.current))


def _accept(run: _Submission, index: int) -> Item:
    new, ctx = run.items[index], run.ctx
    content = _encoder.encode(new)
    if new.locks:
        _check_locks(run, index)
    else:
        # A field that NewTask gets later must stay out of this while it has its default: a repeat from before an
        # upgrade would look like other content.
        content = _FIRST_FIELDS + content[len(_FIRST_FIELDS) : -1]
    digest = blake2b(content, digest_size=16).digest()
    _check_names(run, index)
    id_key = task_record.id_key(run.project_no, new.task_id)
    number = ctx.state.get(id_key)
    if number is not None and len(number) == 8:
        existing = task_record.get(ctx.state, run.project_no, from_u64(number))
        if existing is None:
            raise AssertionError(f"task {new.task_id} has an id and no record")
        if existing.digest == digest:
            return _answer(run, new, existing)
        raise Refused(
            "exists",
            f"task {new.task_id!r} exists with other content",
            {"task_id": new.task_id, **task_store.current(existing), "revision": existing.revision},
        )
    if new.unique_key is not None:
        held = ctx.state.get(task_rows.unique_key(run.project_no, new.unique_key))
        holder = None if held is None else task_record.get(ctx.state, run.project_no, from_u64(held))
        if holder is not None:
            return _answer(run, new, holder)
    dependencies = _resolve(run, index) if new.depends_on else []
    return _create(run, index, digest, dependencies, id_key, number)


def _answer(run: _Submission, new: NewTask, task: Task) -> Item:
    """200 with a task that was there before; items that depend on the new id then depend on that one."""
    if run.index_by_id:
        run.known[new.task_id] = Dependency(task.number, task.task_id, task.status)
    return Item(200, task.task_id, task.revision)


def _create(
    run: _Submission, index: int, digest: bytes, dependencies: list[Dependency], id_key: bytes, former: bytes | None
) -> Item:
    """`former` is what the id's row (`id_key`) says of a task that was removed."""
    ctx, new = run.ctx, run.items[index]
    if run.revision is None:
        revision, number = ctx.take_revision(), order_number(ctx.meta.revision, 0)
    else:
        revision, number = run.revision, order_number(run.revision, index)
    task = _record(run, new, digest, number, revision)
    task.status = _first_state(task, dependencies, ctx.time_ms)
    if new.locks:
        task.locks = new.locks
    if former is not None:
        former_tasks.take_over(ctx, task, id_key, former)
    if dependencies:
        task_record.set_body(ctx.state, task, "depends_on", tuple(other.task_id for other in dependencies))
        _put_dependencies(ctx, task, dependencies)
    for name, value in (("payload", new.payload), ("description", new.description), ("metadata", new.metadata)):
        # Characters: at most four bytes each.
        if value is not None and len(value) * 4 > _LARGE:
            task_record.set_body(ctx.state, task, name, value)
    task_store.create(ctx, task, id_key)
    if run.index_by_id:
        run.known[new.task_id] = Dependency(number, task.task_id, task.status)
    return Made(201, task.task_id, revision, record=task)


def _record(run: _Submission, new: NewTask, digest: bytes, number: int, revision: int) -> Task:
    now = run.ctx.time_ms
    return Task(
        run.project_no,
        number,
        run.project,
        new.task_id,
        digest,
        TaskState.PENDING,
        now,
        revision,
        now,
        revision,
        new.queue,
        new.type,
        new.title,
        new.description,
        new.payload,
        new.priority,
        new.requires,
        new.labels,
        (),
        new.on_dependency_failure,
        new.group_id,
        new.not_before if new.delay_ms is None else now + new.delay_ms,
        new.deadline if new.deadline_in_ms is None else now + new.deadline_in_ms,
        new.expires_unstarted_ms,
        new.run_timeout_ms,
        new.lease_ms,
        new.max_attempts,
        new.backoff,
        new.unique_key,
        new.concurrency_key,
        new.session_id,
        new.metadata,
    )


def _first_state(task: Task, dependencies: list[Dependency], time_ms: int) -> TaskState:
    if not dependencies:
        return task_dependencies.first_state(task, time_ms)
    policy = task.on_dependency_failure
    unmet = [other for other in dependencies if not task_dependencies.satisfies(other.status, policy)]
    if policy == task_dependencies.CANCEL:
        for other in unmet:
            if other.status in ENDED:
                task.failure = task_dependencies.dependency_failure(other.task_id, other.status, time_ms)
                task.completed_at = time_ms
                return TaskState.CANCELLED
    task.unmet = len(unmet)
    return TaskState.BLOCKED if unmet else task_dependencies.first_state(task, time_ms)


def _put_dependencies(ctx: Context, task: Task, dependencies: list[Dependency]) -> None:
    for other in dependencies:
        satisfied = task_dependencies.satisfies(other.status, task.on_dependency_failure)
        value = task_dependencies.SATISFIED if satisfied else task_dependencies.UNMET
        ctx.state.put(task_dependencies.row(task.project_no, other.number, task.number), value)


def _resolve(run: _Submission, index: int) -> list[Dependency]:
    """The tasks an item depends on, each once, in its order."""
    new = run.items[index]
    if len(new.depends_on) > limits.DEPENDENCIES_MAX:
        path = f"{run.path}[{index}].depends_on"
        raise Refused(
            "invalid_request",
            f"{path}: a task may depend on {limits.DEPENDENCIES_MAX} others; put joining tasks between",
            _errors(path, f"more than {limits.DEPENDENCIES_MAX} items"),
        )
    found: dict[int, Dependency] = {}
    for position, task_id in enumerate(new.depends_on):
        other = run.known.get(task_id)
        if other is None:
            other = run.known[task_id] = _find(run, index, position, task_id)
        found.setdefault(other.number, other)
    return list(found.values())


def _find(run: _Submission, index: int, position: int, task_id: str) -> Dependency:
    in_command = run.index_by_id.get(task_id)
    if in_command is not None:
        raise _refuse(run, index, position, f"{task_id!r} is refused: see {run.path}[{in_command}]")
    task = task_record.find(run.ctx.state, run.project_no, task_id)
    if task is None:
        raise _refuse(run, index, position, f"no task {task_id!r} in this project")
    return Dependency(task.number, task.task_id, task.status)


def _check_names(run: _Submission, index: int) -> None:
    """What becomes part of a key must fit into one: the edge has checked it, but a key too long would
    stop the node."""
    new, is_name = run.items[index], task_record.is_name
    if is_name(new.task_id) and is_name(new.queue) and new.group_id is None and new.unique_key is None:
        return
    names = (("task_id", new.task_id), ("queue", new.queue), ("group_id", new.group_id), ("unique_key", new.unique_key))
    for name, text in names:
        if text is not None and not is_name(text):
            path = f"{run.path}[{index}].{name}"
            message = f"must have 1 to {limits.ID_BYTES_MAX} bytes, none of them zero"
            raise Refused("invalid_request", f"{path}: {message}", _errors(path, message))


def _check_locks(run: _Submission, index: int) -> None:
    """The edge has checked them; a pattern that cannot be parsed would stop the node at the first grant."""
    fault = path_locks.fault_of(run.items[index].locks)
    if fault is not None:
        path, message = f"{run.path}[{index}].{fault[0]}", fault[1]
        raise Refused("invalid_request", f"{path}: {message}", _errors(path, message))


def _refuse(run: _Submission, index: int, position: int, message: str) -> Refused:
    path = f"{run.path}[{index}].depends_on[{position}]"
    return Refused("invalid_request", f"{path}: {message}", _errors(path, message))


def _errors(path: str, message: str) -> dict[str, list[dict[str, str]]]:
    return {"errors": [{"path": path, "message": message}]}
