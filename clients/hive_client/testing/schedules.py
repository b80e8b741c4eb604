"""The fake's schedules: definitions, and their runs when the world's time comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from hive_client.idempotency import uuid7
from hive_client.models.schedules import ScheduleFields
from hive_client.models.tasks import ENDED
from hive_client.testing import calendar
from hive_client.testing.exchange import Answer, Asked, page
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.queue import TaskQueue
from hive_client.testing.task_state import TaskState, new_task
from hive_client.testing.verbs import Verbs
from hive_client.testing.world import World

UPCOMING = 5
MADE_UP_RUNS_MAX = 100
ON_TIME_MS = 60_000
_DEFAULTS: dict[str, Any] = {
    "cron": None, "every_ms": None, "timezone": "UTC", "task": {}, "overlap": "skip", "missed_runs": "skip",
    "starting_deadline_ms": None, "starts_at": None, "ends_at": None, "paused": False, "metadata": None,
}  # fmt: skip
_CHOICES = {"overlap": ("skip", "queue", "replace"), "missed_runs": ("skip", "run_once", "run_all")}
_MADE_BY_RUNS = ("task_id", "depends_on", "not_before", "deadline")


@dataclass
class ScheduleState:
    """Times are Unix milliseconds."""

    schedule_id: str
    project: str
    content: dict[str, Any]
    fields: dict[str, Any]
    shown: dict[str, Any]
    next_ms: int | None
    open: list[TaskState] = field(default_factory=list)


class ScheduleBook:
    """All schedules of all projects."""

    def __init__(self, world: World, queue: TaskQueue, verbs: Verbs) -> None:
        self._world = world
        self._queue = queue
        self._verbs = verbs
        self._schedules: dict[tuple[str, str], ScheduleState] = {}
        # Before the queue's own, so that what becomes due is handed out at once.
        world.timers.insert(0, self.tick)

    def table(self) -> list[tuple[str, str, Any]]:
        return [
            ("POST", "/api/schedules", self._create),
            ("GET", "/api/schedules", self._list),
            ("GET", "/api/schedules/{}", lambda a, s: Answer(200, self._whole(self._get(a.project, s)))),
            ("PATCH", "/api/schedules/{}", lambda a, s: self._change(self._get(a.project, s), a.document())),
            ("DELETE", "/api/schedules/{}", self._delete),
            ("POST", "/api/schedules/{}/pause", lambda a, s: self._change(self._get(a.project, s), {"paused": True})),
            ("POST", "/api/schedules/{}/resume", lambda a, s: self._change(self._get(a.project, s), {"paused": False})),
            ("POST", "/api/schedules/{}/trigger", self._trigger),
        ]

    # Looking.

    def _get(self, project: str, schedule_id: str) -> ScheduleState:
        schedule = self._schedules.get((project, schedule_id))
        if schedule is None:
            raise Problem("not_found", f"schedule {schedule_id} is unknown here at revision {self._world.revision}")
        return schedule

    def _document(self, schedule: ScheduleState) -> dict[str, Any]:
        named = {"schedule_id": schedule.schedule_id, "project": schedule.project}
        return {**named, **schedule.fields, **schedule.shown, "next_run_at": _text(schedule.next_ms)}

    def _whole(self, schedule: ScheduleState) -> dict[str, Any]:
        next_ms = schedule.next_ms
        later = [] if next_ms is None else [next_ms, *islice(_times(schedule.fields, next_ms), UPCOMING - 1)]
        return {**self._document(schedule), "upcoming": [_text(at) for at in later]}

    def _list(self, asked: Asked) -> Answer:
        known = [schedule for (project, _), schedule in self._schedules.items() if project == asked.project]
        if (paused := asked.query.get("paused")) is not None:
            known = [schedule for schedule in known if schedule.fields["paused"] is (paused == "true")]
        if (ids := asked.values("ids")) is not None:
            known = [schedule for schedule in known if schedule.schedule_id in ids]
        for name, default in (("queue", "default"), ("type", "task")):
            if (wanted := asked.values(name)) is not None:
                known = [schedule for schedule in known if schedule.fields["task"].get(name, default) in wanted]
        return Answer(200, page(asked, [self._document(schedule) for schedule in known], newest_first=True))

    # Writing.

    def _create(self, asked: Asked) -> Answer:
        body = asked.document()
        schedule_id = str(body.get("schedule_id") or uuid7())
        given = {name: value for name, value in body.items() if name != "schedule_id"}
        if "task" not in given:
            raise invalid("task", "required field is missing")
        fields = self._checked(asked.project, {**_DEFAULTS, **given})
        known = self._schedules.get((asked.project, schedule_id))
        if known is not None and asked.query.get("dry_run") != "true":
            if known.content != given:
                current = self._document(known)
                raise Problem("exists", f"schedule {schedule_id} has other content", current=current)
            return Answer(200, self._whole(known))
        now = self._world.text_time()
        shown = {
            "last_run_at": None, "last_task_id": None, "last_skipped": None, "runs": 0, "skipped": 0, "missed": 0,
            "created_at": now, "updated_at": now, "revision": 0, "created_revision": 0, "definition_revision": 0,
        }  # fmt: skip
        schedule = ScheduleState(schedule_id, asked.project, given, fields, shown, self._first_ms(fields))
        if asked.query.get("dry_run") == "true":
            return Answer(200, self._whole(schedule))
        with self._world.write():
            shown["created_revision"] = self._world.next_revision
            self._schedules[asked.project, schedule_id] = schedule
            self._changed(schedule, "schedule.created", {}, defined=True)
        return Answer(201, self._whole(schedule), {"Location": f"/api/schedules/{schedule_id}"})

    def _change(self, schedule: ScheduleState, changes: Mapping[str, Any]) -> Answer:
        values = {name: value for name, value in changes.items() if name != "if_revision"}
        for given, other in (("cron", "every_ms"), ("every_ms", "cron")):
            if values.get(given) is not None:
                values.setdefault(other, None)
        wanted = changes.get("if_revision")
        if wanted is not None and not schedule.shown["definition_revision"] <= wanted <= schedule.shown["revision"]:
            raise Problem("conflict", "the schedule was changed", current=self._document(schedule))
        fields = self._checked(schedule.project, {**schedule.fields, **values})
        if fields != schedule.fields:
            with self._world.write():
                schedule.fields = fields
                schedule.next_ms = self._first_ms(fields)
                self._changed(schedule, "schedule.updated", {"fields": sorted(values)}, defined=True)
        return Answer(200, self._whole(schedule))

    def _delete(self, asked: Asked, schedule_id: str) -> Answer:
        schedule = self._get(asked.project, schedule_id)
        with self._world.write():
            del self._schedules[asked.project, schedule_id]
            self._changed(schedule, "schedule.deleted", {}, defined=True)
        revision = self._world.revision
        return Answer(200, {"schedule_id": schedule_id, "revision": revision, "deleted": True})

    def _checked(self, project: str, fields: dict[str, Any]) -> dict[str, Any]:
        for name in fields:
            if name not in ScheduleFields.__annotations__:
                raise invalid(name, "unknown field")
        for name, choices in _CHOICES.items():
            if fields[name] not in choices:
                raise invalid(name, f"must be one of {', '.join(choices)}")
        if (fields["cron"] is None) == (fields["every_ms"] is None):
            raise invalid("cron", "give it or every_ms, one of the two")
        if fields["every_ms"] is not None and (not isinstance(fields["every_ms"], int) or fields["every_ms"] < 1000):
            raise invalid("every_ms", "must be at least 1000")
        for name, check in (("timezone", calendar.zone), ("cron", calendar.parse)):
            try:
                check(fields[name] or "UTC") if name == "timezone" or fields[name] is not None else None
            except ValueError as error:
                raise invalid(name, str(error)) from error
        for name in _MADE_BY_RUNS:
            if name in fields["task"]:
                raise invalid(f"task.{name}", "is made by each run")
        new_task(self._world, project, "checked", fields["task"], "task.")
        return fields

    def _first_ms(self, fields: Mapping[str, Any]) -> int | None:
        return None if fields["paused"] else next(_times(fields, self._now_ms), None)

    # Running.

    @property
    def _now_ms(self) -> int:
        return _ms(self._world.text_time())

    def tick(self) -> float | None:
        """Run what is due; returns when the next is, in the world's seconds."""
        for schedule in list(self._schedules.values()):
            if schedule.next_ms is not None and schedule.next_ms <= self._now_ms:
                self._fall_due(schedule, schedule.next_ms)
        due = [schedule.next_ms for schedule in self._schedules.values() if schedule.next_ms is not None]
        return self._world.seconds_at(_text(min(due)) or "") if due else None

    def _fall_due(self, schedule: ScheduleState, due_ms: int) -> None:
        now_ms, fields = self._now_ms, schedule.fields
        times = [due_ms]
        for at in _times(fields, due_ms):
            if at > now_ms:
                break
            times.append(at)
        deadline_ms = fields["starting_deadline_ms"] or (ON_TIME_MS if fields["missed_runs"] == "skip" else now_ms)
        wanted = [at for at in times if now_ms - at <= deadline_ms]
        wanted = wanted[-MADE_UP_RUNS_MAX:] if fields["missed_runs"] == "run_all" else wanted[-1:]
        schedule.next_ms = next(_times(fields, times[-1]), None)
        schedule.shown["missed"] += len(times) - len(wanted)
        for at in wanted:
            with self._world.write():
                reason = self._start(schedule, f"{schedule.schedule_id}:{at}", fields["overlap"])
                if reason is None:
                    schedule.shown["last_run_at"] = _text(at)
                    data = {"task_id": schedule.shown["last_task_id"], "due_at": _text(at)}
                    self._changed(schedule, "schedule.fired", data)
                else:
                    schedule.shown["skipped"] += 1
                    schedule.shown["last_skipped"] = {"due_at": _text(at), "reason": reason}
                    self._changed(schedule, "schedule.skipped", schedule.shown["last_skipped"])

    def _start(self, schedule: ScheduleState, task_id: str, overlap: str) -> str | None:
        """Make the task of a run; or why not."""
        schedule.open = [task for task in schedule.open if task.status not in ENDED]
        body = {**schedule.fields["task"], "task_id": task_id}
        if schedule.open and overlap == "skip":
            return "overlap"
        if schedule.open and overlap == "queue":
            body |= {"depends_on": [task.task_id for task in schedule.open], "on_dependency_failure": "run"}
        if overlap == "replace":
            for task in reversed(schedule.open):
                self._verbs.cancel(task)
            schedule.open = []
        task, created = self._queue.submit(schedule.project, body)
        if not created:
            return "exists" if task.task_id == task_id else "unique_key"
        schedule.open.append(task)
        schedule.shown["last_task_id"] = task_id
        schedule.shown["runs"] += 1
        return None

    def _trigger(self, asked: Asked, schedule_id: str) -> Answer:
        schedule = self._get(asked.project, schedule_id)
        overlap = asked.document().get("overlap") or schedule.fields["overlap"]
        if overlap not in _CHOICES["overlap"]:
            raise invalid("overlap", f"must be one of {', '.join(_CHOICES['overlap'])}")
        with self._world.write():
            task_id = f"{schedule_id}:r{self._world.next_revision}"
            if self._start(schedule, task_id, overlap) is not None:
                last = schedule.open[-1]
                current = {"task_id": last.task_id, "status": last.status, "attempt": last.attempt}
                raise Problem("conflict", f"run {last.task_id} is {last.status}", current=current)
            schedule.shown["last_run_at"] = self._world.text_time()
            self._changed(schedule, "schedule.fired", {"task_id": task_id, "triggered": True})
        shown = self._queue.get(asked.project, task_id).document(self._world)
        return Answer(201, shown, {"Location": f"/api/tasks/{task_id}"})

    def _changed(self, schedule: ScheduleState, kind: str, data: dict[str, Any], *, defined: bool = False) -> None:
        schedule.shown["revision"] = self._world.next_revision
        schedule.shown["updated_at"] = self._world.text_time()
        if defined:
            schedule.shown["definition_revision"] = self._world.next_revision
        self._world.change(kind, schedule.project, schedule.schedule_id, data)


def _times(fields: Mapping[str, Any], after_ms: int) -> Iterator[int]:
    """Due times later than this."""
    starts_ms = None if fields["starts_at"] is None else _ms(fields["starts_at"])
    ends_ms = None if fields["ends_at"] is None else _ms(fields["ends_at"])
    if starts_ms is not None:
        after_ms = max(after_ms, starts_ms - 1)
    for at in (
        _intervals(fields["every_ms"], starts_ms or 0, after_ms) if fields["every_ms"] else _calendar(fields, after_ms)
    ):
        if ends_ms is not None and at > ends_ms:
            return
        yield at


def _intervals(every_ms: int, anchor_ms: int, after_ms: int) -> Iterator[int]:
    at = anchor_ms + (max(after_ms - anchor_ms, -1) // every_ms + 1) * every_ms
    while True:
        yield at
        at += every_ms


def _calendar(fields: Mapping[str, Any], after_ms: int) -> Iterator[int]:
    moment = datetime.fromtimestamp(after_ms / 1000, UTC)
    for due in calendar.due_after(fields["cron"], fields["timezone"], moment):
        yield round(due.timestamp() * 1000)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _text(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
