"""What requests bring that park and resume tasks, singly and as items of batches."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from node.api.body import Anything, Body, Count, absent, anything
from node.api.ids import Id
from node.api.problem import invalid, too_large
from node.api.query import Text
from node.api.task_bodies import DurationMs, Message
from node.api.task_verb_bodies import Attempt, Caller
from node.api.usage import Usage, usage_inside
from statemachine import limits, task_waits
from statemachine.commands import Park, Resumption

Options = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=limits.WAIT_OPTIONS_MAX)]


class WaitFor(Body):
    """What is waited for. `name` is what the answer goes by; absent: the kind. `options` are for whoever answers."""

    kind: Literal["approval", "event", "time"]
    name: Text | None = None
    prompt: Message | None = None
    options: Options | None = None
    assignee: Text | None = None


class WaitFields(Attempt, kw_only=True):
    """How an attempt is parked. A wait for a time needs its `timeout_ms`."""

    wait_for: WaitFor = msgspec.field(name="for")
    checkpoint: Anything = absent()
    timeout_ms: DurationMs | None = None
    on_timeout: Literal["resume", "fail", "cancel"] = "resume"
    usage: Usage | None = None


class WaitBody(WaitFields, kw_only=True):
    """`POST /api/tasks/{id}/wait`."""

    agent_id: Id
    epoch: Count | None = None


class WaitItem(WaitFields, kw_only=True):
    """One item of `POST /api/tasks/wait`."""

    task_id: Id


class WaitBatch(Caller, kw_only=True):
    """`POST /api/tasks/wait`."""

    items: list[WaitItem]


class ResumeBody(Body, kw_only=True):
    """`POST /api/tasks/{id}/resume`. Without `name`: for what the task waits for now."""

    name: Text | None = None
    data: Anything = absent()
    actor: Text | None = None


class ResumeItem(ResumeBody, kw_only=True):
    """One item of `POST /api/tasks/resume`."""

    task_id: Id


class ResumeBatch(Body, kw_only=True):
    """`POST /api/tasks/resume`."""

    items: list[ResumeItem]


def parked(task_id: str, body: WaitFields, path: str) -> Park:
    """The wait as commands carry it; `path` leads to it in the request, and ends in a dot or is empty. Raises
    Problem."""
    wanted = body.wait_for
    if wanted.kind == task_waits.TIME and body.timeout_ms is None:
        raise invalid(f"{path}timeout_ms", "required for a wait of kind time")
    return Park(
        task_id,
        body.attempt,
        wanted.kind,
        wanted.name or wanted.kind,
        wanted.prompt,
        _options(wanted.options, f"{path}for.options"),
        wanted.assignee,
        anything(body.checkpoint, f"{path}checkpoint", "checkpoint_bytes_max", limits.CHECKPOINT_BYTES_MAX),
        body.timeout_ms,
        body.on_timeout,
        usage_inside(body.usage),
    )


def _options(options: list[msgspec.Raw] | None, path: str) -> bytes | None:
    """The options as one JSON array, each as the user sent it."""
    if options is None:
        return None
    data = b"[" + b",".join([bytes(option) for option in options]) + b"]"
    if len(data) > limits.WAIT_OPTIONS_BYTES_MAX:
        raise too_large("wait_options_bytes_max", limits.WAIT_OPTIONS_BYTES_MAX, path)
    return data


def resumption(task_id: str, body: ResumeBody, path: str) -> Resumption:
    """The answer as commands carry it. Raises Problem."""
    data = anything(body.data, f"{path}data", "resume_data_bytes_max", limits.RESUME_DATA_BYTES_MAX)
    return Resumption(task_id, body.name, data, body.actor)
