"""The fake's queues: settings, counts, and what keeps a task from every agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hive_client.models.tasks import ENDED
from hive_client.testing import path_locks
from hive_client.testing.exchange import Answer, Asked, page
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.queue import TaskQueue
from hive_client.testing.task_routes import Handler
from hive_client.testing.task_state import TaskState
from hive_client.testing.world import World

_STATES = ("blocked", "scheduled", "pending", "assigned", "running", "waiting", *sorted(ENDED))


@dataclass
class Settings:
    """What was set of a queue. ``full_at``: when its bucket of tokens is full again."""

    paused: bool = False
    max_running: int | None = None
    rate_per_second: float | None = None
    max_running_per_key: int = 1
    full_at: float = 0.0
    revision: int = 0
    created_revision: int = 0

    def ahead_s(self) -> float:
        """How far grants may run ahead of the rate: a burst is what a second allows, and at least one."""
        rate = self.rate_per_second or 1.0
        return (max(1, int(rate)) - 1) / rate


class QueueBook:
    """All queues of all projects."""

    def __init__(self, world: World, tasks: TaskQueue) -> None:
        self._world = world
        self._tasks = tasks
        self._settings: dict[tuple[str, str], Settings] = {}
        tasks.hindrance, tasks.granted = self.hindrance, self.granted
        world.timers.append(self._next_token)

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/api/queues", self._list),
            ("GET", "/api/queues/{}", self._get),
            ("PATCH", "/api/queues/{}", self._patch),
        ]

    def hindrance(self, task: TaskState) -> dict[str, Any] | None:
        """The reason of ``explain`` why nobody is given the task, or None."""
        name = task.fields["queue"]
        known = self._settings.get((task.project, name), Settings())
        held = [other for other in self._tasks.in_project(task.project) if other.holder]
        in_queue = sum(other.fields["queue"] == name for other in held)
        if known.paused:
            return _reason("queue_paused", f"queue {name} is paused", {"queue": name})
        if known.max_running is not None and in_queue >= known.max_running:
            data = {"queue": name, "held": in_queue, "max_running": known.max_running}
            return _reason("queue_limit", f"queue {name} has {in_queue} tasks with agents", data)
        wait_s = known.full_at - known.ahead_s() - self._world.now
        if known.rate_per_second is not None and wait_s > 0:
            data = {"queue": name, "rate_per_second": known.rate_per_second, "wait_ms": max(1, int(wait_s * 1000))}
            return _reason("rate_limit", f"queue {name} grants {known.rate_per_second} tasks per second", data)
        key = task.fields["concurrency_key"]
        with_key = [other.task_id for other in held if key is not None and other.fields["concurrency_key"] == key]
        if len(with_key) >= known.max_running_per_key:
            data = {"concurrency_key": key, "held": len(with_key), "max_running": known.max_running_per_key}
            return _reason("concurrency_key", f"{', '.join(with_key)} has the key", {**data, "tasks": with_key})
        return path_locks.hindrance(task, self._tasks.in_project(task.project))

    def granted(self, task: TaskState) -> None:
        known = self._settings.get((task.project, task.fields["queue"]))
        if known is not None and known.rate_per_second is not None:
            known.full_at = max(known.full_at, self._world.now) + 1 / known.rate_per_second

    def _next_token(self) -> float | None:
        """When a rate allows the next grant."""
        now = self._world.now
        times = [s.full_at - s.ahead_s() for s in self._settings.values() if s.rate_per_second is not None]
        return min((at for at in times if at > now), default=None)

    def _document(self, project: str, name: str) -> dict[str, Any] | None:
        known = self._settings.get((project, name))
        tasks = [task for task in self._tasks.in_project(project) if task.fields["queue"] == name]
        if known is None and not tasks:
            return None
        first = min((task.created_revision for task in tasks), default=0)
        known = known or Settings(revision=first, created_revision=first)
        pending = [task for task in tasks if task.status == "pending"]
        oldest = min((task.created_at for task in pending), default=None)
        age_s = None if oldest is None else self._world.now - self._world.seconds_at(oldest)
        return {
            "name": name,
            "project": project,
            "paused": known.paused,
            "max_running": known.max_running,
            "rate_per_second": known.rate_per_second,
            "max_running_per_key": known.max_running_per_key,
            "held": sum(task.holder for task in tasks),
            "counts": {state: sum(task.status == state for task in tasks) for state in _STATES},
            "oldest_pending_at": oldest,
            "oldest_pending_age_ms": None if age_s is None else int(age_s * 1000),
            "revision": known.revision,
            "created_revision": known.created_revision,
        }

    def _list(self, asked: Asked) -> Answer:
        named = {name for project, name in self._settings if project == asked.project}
        named |= {task.fields["queue"] for task in self._tasks.in_project(asked.project)}
        documents = [self._document(asked.project, name) for name in sorted(named)]
        return Answer(200, page(asked, [one for one in documents if one is not None], newest_first=False))

    def _get(self, asked: Asked, name: str) -> Answer:
        document = self._document(asked.project, name)
        if document is None:
            raise Problem("not_found", f"no task and no setting names queue {name}")
        return Answer(200, document)

    def _patch(self, asked: Asked, name: str) -> Answer:
        body = dict(asked.document())
        known = self._settings.get((asked.project, name))
        if (wanted := body.pop("if_revision", None)) is not None and wanted != (known.revision if known else 0):
            raise Problem("conflict", "the queue has changed", current={"revision": known.revision if known else 0})
        _check(body)
        if known is None or any(getattr(known, field) != value for field, value in body.items()):
            with self._world.write():
                at = self._world.next_revision
                known = self._settings.setdefault((asked.project, name), Settings(created_revision=at))
                if body.get("rate_per_second", known.rate_per_second) != known.rate_per_second:
                    known.full_at = 0.0
                for field, value in body.items():
                    setattr(known, field, value)
                known.revision = at
                self._world.change("queue.updated", asked.project, name, {"fields": sorted(body)})
        return self._get(asked, name)


def _check(body: Mapping[str, Any]) -> None:
    for field, value in body.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = {
            "paused": isinstance(value, bool),
            "max_running": value is None or (isinstance(value, int) and number and value >= 0),
            "rate_per_second": value is None or (number and value >= 0.001),
            "max_running_per_key": isinstance(value, int) and number and value >= 1,
        }
        if not fits.get(field, False):
            raise invalid(field, "has another type or range" if field in fits else "unknown field")


def _reason(code: str, message: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "message": message, "data": data}
