"""Tasks as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict

from hive_client.models.record import Record


class TaskStatus(StrEnum):
    """The states of a task. ``Task.status`` is a plain string, so that a newer server's states do not
    break a reader.
    """

    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.EXPIRED})
STARTED = ENDED | {TaskStatus.RUNNING, TaskStatus.WAITING}


class TaskFields(TypedDict, total=False):
    """What a user may say of a new task; API.md section 4 has the meanings, all are optional."""

    task_id: str
    queue: str
    type: str
    title: str
    description: str
    payload: Any
    priority: int | str
    requires: list[dict[str, Any]]
    labels: dict[str, Any]
    depends_on: list[str]
    on_dependency_failure: str
    group_id: str
    not_before: str
    delay_ms: int
    deadline: str
    deadline_in_ms: int
    expires_unstarted_ms: int
    run_timeout_ms: int
    lease_ms: int
    max_attempts: int
    backoff: dict[str, Any]
    unique_key: str
    concurrency_key: str
    locks: list[dict[str, Any]]
    session_id: str
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Progress(Record):
    """How far an attempt says it is."""

    fraction: float | None = None
    message: str | None = None
    checkpoint: Any = None


@dataclass(frozen=True, kw_only=True)
class Failure(Record):
    """Why an attempt failed; ``reason`` is a word of the API or of the agent."""

    reason: str = ""
    message: str = ""
    attempt: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Usage(Record):
    """Tokens and money that were used."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Dependency(Record):
    """A task that this one waited for, with what it left behind. ``omitted``: too large to come along; read it."""

    task_id: str = ""
    status: str = ""
    result: Any = None
    artifacts: list[Any] = field(default_factory=list)
    omitted: bool = False


@dataclass(frozen=True, kw_only=True)
class Waiting(Record):
    """What a parked task waits for; ``on_timeout`` is what happens at ``timeout_at``."""

    kind: str = ""
    name: str = ""
    prompt: str | None = None
    options: Any = None
    assignee: str | None = None
    since: datetime | None = None
    timeout_at: datetime | None = None
    on_timeout: str = "resume"
    attempt: int = 0
    agent_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Resume(Record):
    """The answer to a wait. ``timed_out``: nobody gave one, the time was over."""

    kind: str = ""
    name: str = ""
    data: Any = None
    actor: str | None = None
    at: datetime | None = None
    timed_out: bool = False


@dataclass(frozen=True, kw_only=True)
class Lock(Record):
    """A lock on the paths that a pattern matches, granted with its task and let go with it."""

    path: str = ""
    exclusive: bool = True


@dataclass(frozen=True, kw_only=True)
class Task(Record):
    """A task. ``attempt`` is the fence and grows with every offer; ``tries`` counts accepted ones."""

    task_id: str = ""
    project: str = "default"
    status: str = ""
    queue: str = "default"
    type: str = "task"
    title: str | None = None
    description: str | None = None
    payload: Any = None
    priority: int = 5
    requires: list[Any] = field(default_factory=list)
    labels: Mapping[str, Any] = field(default_factory=dict)
    depends_on: list[str] = field(default_factory=list)
    on_dependency_failure: str = "block"
    group_id: str | None = None
    not_before: datetime | None = None
    deadline: datetime | None = None
    run_timeout_ms: int | None = None
    lease_ms: int = 60_000
    max_attempts: int = 3
    backoff: Any = None
    unique_key: str | None = None
    concurrency_key: str | None = None
    locks: list[Lock] = field(default_factory=list)
    session_id: str | None = None
    metadata: Any = None
    attempt: int = 0
    tries: int = 0
    agent_id: str | None = None
    progress: Progress | None = None
    result: Any = None
    artifacts: list[Any] = field(default_factory=list)
    failure: Failure | None = None
    usage: Usage | None = None
    waiting: Waiting | None = None
    history: list[Any] = field(default_factory=list)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    revision: int = 0
    created_revision: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def started(self) -> bool:
        return self.status in STARTED


@dataclass(frozen=True, kw_only=True)
class Grant(Task):
    """A task that was offered to, or claimed by, an agent. ``resume`` is the newest of ``resumes``, the answers to all
    its waits.
    """

    lease_remaining_ms: int | None = None
    offer_expires_in_ms: int | None = None
    dependencies: list[Dependency] = field(default_factory=list)
    checkpoint: Any = None
    resume: Resume | None = None
    resumes: list[Resume] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Lease(Record):
    """The answer to renew and progress; held in the leader's memory (``durable`` false)."""

    task_id: str = ""
    attempt: int = 0
    lease_remaining_ms: int | None = None
    durable: bool = True
    warnings: list[Any] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Reason(Record):
    """One reason why a task is not running."""

    code: str = ""
    message: str = ""
    data: Any = None


@dataclass(frozen=True, kw_only=True)
class Explanation(Record):
    """Why a task is where it is, and which agents could take it."""

    status: str = ""
    reasons: list[Reason] = field(default_factory=list)
    agents: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Group(Record):
    """Tasks with one ``group_id``: ``counts`` by status, ids of the ``failed``."""

    group_id: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    revision: int = 0

    @property
    def unended(self) -> int:
        return sum(count for status, count in self.counts.items() if status not in ENDED)


@dataclass(frozen=True, kw_only=True)
class GroupCancelled(Record):
    """How many tasks of a group were cancelled."""

    group_id: str = ""
    cancelled: int = 0
    revision: int = 0


@dataclass(frozen=True, kw_only=True)
class Redriven(Record):
    """How many failed tasks began anew with this answer; ``more``: the rest follows by itself."""

    retried: int = 0
    more: bool = False
    revision: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchItem(Record):
    """One item's own answer: ``status`` as of a single call, ``body`` the resource (``return=full``) or the problem."""

    status: int = 0
    id: str = ""
    body: Any = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, kw_only=True)
class Batch(Record):
    """The items' answers in the order of the request."""

    revision: int = 0
    items: list[BatchItem] = field(default_factory=list)

    @property
    def refused(self) -> list[BatchItem]:
        return [item for item in self.items if not item.ok]
