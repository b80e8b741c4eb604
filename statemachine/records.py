"""The machine's own records; those of sessions, tasks and agents stand with their nouns."""

from __future__ import annotations

import msgspec


class Meta(msgspec.Struct, array_like=True, gc=False):
    """One record for the whole state, rewritten by every entry.

    `revision` is the last one taken, `time_ms` the time of the last entry, `next_project` the next project
    number, `compacted_revision` the last revision no longer in the change feed. `tasks_ended` counts the
    ended tasks of all projects that are kept, `former_tasks` the removed ones whose last attempt is kept,
    `former_sessions` the removed sessions whose last seq is; `budgets` counts those of the whole cluster.
    """

    revision: int = 0
    time_ms: int = 0
    next_project: int = 1
    compacted_revision: int = 0
    feed_groups: int = 0
    feed_revisions: int = 0
    internal_errors: int = 0
    next_work: int = 1
    next_agent: int = 1
    tasks_ended: int = 0
    former_tasks: int = 0
    former_sessions: int = 0
    budgets: int = 0


class Project(msgspec.Struct, array_like=True, gc=False):
    """A project, and the bookkeeping of its idempotency records.

    `idempotency_records` counts all, `idempotency_kept` those that may not be dropped early; UUIDv7 keys up
    to `idempotency_horizon_ms` may have been dropped. `schedules` counts the project's schedules.
    """

    number: int
    name: str
    created_at: int
    created_revision: int
    revision: int
    idempotency_records: int = 0
    idempotency_horizon_ms: int = 0
    idempotency_kept: int = 0
    schedules: int = 0
