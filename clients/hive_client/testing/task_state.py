"""One task in the fake: what the user said of it, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hive_client.models.tasks import ENDED, TaskFields
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.world import World

WORDS = {"high": 8, "medium": 5, "low": 2}
DEFAULTS: dict[str, Any] = {
    "queue": "default", "type": "task", "title": None, "description": None, "payload": None, "priority": 5,
    "requires": [], "labels": {}, "depends_on": [], "on_dependency_failure": "block", "group_id": None,
    "expires_unstarted_ms": None, "run_timeout_ms": None, "lease_ms": 60_000, "max_attempts": 3, "unique_key": None,
    "concurrency_key": None, "locks": [], "session_id": None, "metadata": {},
    "backoff": {"initial_ms": 1000, "factor": 2, "max_ms": 60_000, "jitter": 0},
}  # fmt: skip
_STRINGS = {
    "task_id",
    "queue",
    "type",
    "title",
    "description",
    "group_id",
    "unique_key",
    "session_id",
    "concurrency_key",
}


@dataclass
class TaskState:
    """Times are seconds of the world's clock. ``holder`` outlives a cancel until the agent confirms it."""

    task_id: str
    project: str
    fields: dict[str, Any]
    content: dict[str, Any]
    status: str = "pending"
    not_before: float | None = None
    deadline: float | None = None
    attempt: int = 0
    tries: int = 0
    agent_id: str | None = None
    epoch: int = 0
    holder: bool = False
    due_at: float | None = None  # the offer's end while assigned, the lease's while running
    run_until: float | None = None
    progress: dict[str, Any] | None = None
    checkpoint: Any = None
    result: Any = None
    artifacts: list[Any] = field(default_factory=list)
    failure: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    won: tuple[str, int] | None = None
    wait: dict[str, Any] | None = None
    wait_until: float | None = None
    resumes: list[dict[str, Any]] = field(default_factory=list)
    granted_at: str | None = None
    avoid_until: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    created_at: str = ""
    updated_at: str = ""
    started_at: str | None = None
    completed_at: str | None = None
    revision: int = 0
    created_revision: int = 0
    order: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def named(self) -> dict[str, Any]:
        """How a heartbeat names this attempt."""
        return {"project": self.project, "task_id": self.task_id, "attempt": self.attempt}

    def current(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "attempt": self.attempt,
            "agent_id": self.agent_id,
            "granted_at": self.granted_at,
        }

    def document(self, world: World) -> dict[str, Any]:
        """As the API shows it."""
        shown = {name: value for name, value in self.__dict__.items() if name in _SHOWN}
        progress = self.progress
        if self.checkpoint is not None:
            progress = {**(progress or {}), "checkpoint": self.checkpoint}
        return {
            **self.fields,
            **shown,
            "progress": progress,
            "waiting": self.wait if self.status == "waiting" else None,
            "not_before": None if self.not_before is None else world.text_time(self.not_before),
            "deadline": None if self.deadline is None else world.text_time(self.deadline),
            "history": self.history[-20:],
        }


_SHOWN = frozenset(
    {
        "task_id", "project", "status", "attempt", "tries", "agent_id", "result", "artifacts", "failure", "usage",
        "created_at", "updated_at", "started_at", "completed_at", "revision", "created_revision",
    }
)  # fmt: skip


def new_task(world: World, project: str, task_id: str, body: Mapping[str, Any], path: str = "") -> TaskState:
    """A task from a request's body; refuses unknown fields and wrong types, naming the path."""
    for name, value in body.items():
        if name not in TaskFields.__annotations__:
            raise invalid(f"{path}{name}", "unknown field")
        if name in _STRINGS and not (isinstance(value, str) and value):
            raise invalid(f"{path}{name}", "must be a non-empty string")
    fields = {name: body.get(name, default) for name, default in DEFAULTS.items()}
    fields["priority"] = WORDS.get(fields["priority"], fields["priority"])
    if not isinstance(fields["priority"], int) or not 0 <= fields["priority"] <= 9:
        raise invalid(f"{path}priority", "must be 0 to 9, or high, medium, low")
    for name in ("max_attempts", "lease_ms"):
        if not isinstance(fields[name], int) or fields[name] < 1:
            raise invalid(f"{path}{name}", "must be a positive integer")
    return TaskState(
        task_id=task_id,
        project=project,
        fields=fields,
        content=dict(body),
        not_before=_moment(world, body, "not_before", "delay_ms", path),
        deadline=_moment(world, body, "deadline", "deadline_in_ms", path),
        created_at=world.text_time(),
        updated_at=world.text_time(),
        created_revision=world.next_revision,
    )


def _moment(world: World, body: Mapping[str, Any], name: str, relative: str, path: str) -> float | None:
    if relative in body:
        if not isinstance(body[relative], int) or body[relative] < 0:
            raise invalid(f"{path}{relative}", "must be milliseconds, not negative")
        return world.now + float(body[relative]) / 1000
    if name not in body:
        return None
    try:
        return world.seconds_at(body[name])
    except (TypeError, ValueError) as error:
        raise invalid(f"{path}{name}", "must be an RFC 3339 time with an offset") from error


def stale(task: TaskState) -> Problem:
    """409 `stale_attempt` with the holder."""
    return Problem("stale_attempt", "this attempt is no longer current", current=task.current())
