"""What requests of a task's holder bring: each verb singly, and as an item of its batch."""

from __future__ import annotations

from typing import Annotated

import msgspec

from node.api.body import Anything, Body, Count, absent
from node.api.ids import Id
from node.api.query import Text
from node.api.session_views import EventBody
from node.api.task_bodies import Message, Ratio, TaskBody
from node.api.usage import Artifacts, Usage
from statemachine import limits

FollowUps = Annotated[list[TaskBody], msgspec.Meta(max_length=limits.FOLLOW_UPS_MAX)]


class Caller(Body, kw_only=True):
    """Who speaks: the holder of the task, at this attempt."""

    agent_id: Id
    epoch: Count | None = None


class Attempt(Body, kw_only=True):
    """Which attempt it speaks of."""

    attempt: Count


class FollowUpEvent(EventBody, kw_only=True):
    """An event that comes with a completion; without `session_id` in the session of the task."""

    session_id: Id | None = None


EventsBeside = Annotated[list[FollowUpEvent], msgspec.Meta(max_length=limits.FOLLOW_UPS_MAX)]


class CompleteFields(Attempt, kw_only=True):
    """How an attempt succeeded."""

    result: Anything = absent()
    artifacts: Artifacts | None = None
    usage: Usage | None = None
    tasks: FollowUps = []
    events: EventsBeside = []


class FailFields(Attempt, kw_only=True):
    """How an attempt failed."""

    reason: Text = "error"
    message: Message = ""
    retryable: bool = True
    usage: Usage | None = None


class ReleaseFields(Attempt, kw_only=True):
    """What is handed back with a task."""

    checkpoint: Anything = absent()
    message: Message | None = None


class AcceptBody(Attempt, kw_only=True):
    """`POST /api/tasks/{id}/accept`."""

    agent_id: Id
    epoch: Count | None = None


class CompleteBody(CompleteFields, kw_only=True):
    """`POST /api/tasks/{id}/complete`."""

    agent_id: Id
    epoch: Count | None = None


class FailBody(FailFields, kw_only=True):
    """`POST /api/tasks/{id}/fail`."""

    agent_id: Id
    epoch: Count | None = None


class ReleaseBody(ReleaseFields, kw_only=True):
    """`POST /api/tasks/{id}/release`."""

    agent_id: Id
    epoch: Count | None = None


class AcceptItem(Attempt, kw_only=True):
    """One item of `POST /api/tasks/accept`."""

    task_id: Id


class CompleteItem(CompleteFields, kw_only=True):
    """One item of `POST /api/tasks/complete`."""

    task_id: Id


class FailItem(FailFields, kw_only=True):
    """One item of `POST /api/tasks/fail`."""

    task_id: Id


class ReleaseItem(ReleaseFields, kw_only=True):
    """One item of `POST /api/tasks/release`."""

    task_id: Id


class AcceptBatch(Caller, kw_only=True):
    """`POST /api/tasks/accept`."""

    items: list[AcceptItem]


class CompleteBatch(Caller, kw_only=True):
    """`POST /api/tasks/complete`."""

    items: list[CompleteItem]


class FailBatch(Caller, kw_only=True):
    """`POST /api/tasks/fail`."""

    items: list[FailItem]


class ReleaseBatch(Caller, kw_only=True):
    """`POST /api/tasks/release`."""

    items: list[ReleaseItem]


class ProgressFields(Attempt, kw_only=True):
    """How far an attempt is; with a checkpoint it is durable, and the next attempt goes on from there."""

    fraction: Ratio | None = None
    message: Message | None = None
    checkpoint: Anything = absent()


class RenewBody(Attempt, kw_only=True):
    """`POST /api/tasks/{id}/renew`."""

    agent_id: Id
    epoch: Count | None = None


class ProgressBody(ProgressFields, kw_only=True):
    """`POST /api/tasks/{id}/progress`."""

    agent_id: Id
    epoch: Count | None = None


class RenewItem(Attempt, kw_only=True):
    """One item of `POST /api/tasks/renew`."""

    task_id: Id


class ProgressItem(ProgressFields, kw_only=True):
    """One item of `POST /api/tasks/progress`."""

    task_id: Id


class RenewBatch(Caller, kw_only=True):
    """`POST /api/tasks/renew`."""

    items: list[RenewItem]


class ProgressBatch(Caller, kw_only=True):
    """`POST /api/tasks/progress`."""

    items: list[ProgressItem]
