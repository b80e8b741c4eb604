"""Retention: which ended tasks and sessions need not be kept any longer. The leader looks, and proposes small batches.

A sweep goes once through the ended tasks, earliest end first, as far as they are too old or too many. What must
stay for the sake of others is passed over, and looked at again by the next sweep, which comes the later the more of it
there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from cluster.replica import View
from node.duties.frames import frame
from node.duties.settings import DutySettings
from statemachine import (
    limits,
    machine,
    projects,
    session_record,
    session_removal,
    task_queries,
    task_record,
    task_removal,
)
from statemachine.commands import Believed, EndedSession, RemoveEndedSessions, RemoveEndedTasks

KEPT_PAUSE_MS = 1
"""How much later the next sweep comes for each task that was passed over: looking at it took about a twentieth."""


@dataclass(slots=True)
class Batch:
    """What to propose now, and when to look again; None: at once."""

    frames: list[bytes]
    again_ms: int | None


class Retention:
    """The sweep of one term of leadership. `settings` may change at any time."""

    def __init__(self, settings: DutySettings) -> None:
        self.settings = settings
        self._position = b""
        self._passed = 0
        self._surplus = 0

    def next(self, view: View, now_ms: int) -> Batch:
        """Look at the next few; the view is not kept."""
        if not self._position:
            sessions = self._sessions(view, now_ms)
            if sessions:
                # The first of them is removed for certain; of the others as many as a step may.
                return Batch([frame(RemoveEndedSessions(tuple(sessions)))], None)
            self._passed = 0
            kept_max = self.settings.ended_tasks_kept_max
            self._surplus = machine.read_meta(view).tasks_ended - kept_max if kept_max else 0
        frames, swept = self._tasks(view, now_ms)
        if not swept:
            return Batch(frames, None)
        self._position = b""
        return Batch(frames, self.settings.retention_interval_ms + self._passed * KEPT_PAUSE_MS)

    def _tasks(self, view: View, now_ms: int) -> tuple[list[bytes], bool]:
        """(proposals, whether the sweep is over)."""
        settings = self.settings
        until_ms = now_ms - settings.ended_tasks_kept_ms if settings.ended_tasks_kept_ms else -1
        items: list[Believed] = []
        rows, looked_at = 0, 0
        for position, ended in islice(task_queries.ended(view, self._position), settings.removed_per_batch):
            if (ended.at > until_ms and self._surplus <= 0) or rows >= limits.SIDE_EFFECTS_MAX:
                break
            looked_at += 1
            self._position = position
            task = task_record.get(view, ended.project_no, ended.number)
            if task is None:
                raise AssertionError("the index of ended tasks names one that is not there")
            found = task_removal.look(view, task)
            rows += found.rows
            if found.freed is None:
                self._passed += 1
                continue
            items.append(Believed(task.task_id, task.project, task.attempt, task.status))
            self._surplus -= 1
        frames = [frame(RemoveEndedTasks(tuple(items)))] if items else []
        return frames, looked_at < settings.removed_per_batch and rows < limits.SIDE_EFFECTS_MAX

    def _sessions(self, view: View, now_ms: int) -> list[EndedSession]:
        settings = self.settings
        if not settings.ended_sessions_kept_ms:
            return []
        found: list[EndedSession] = []
        until_ms = now_ms - settings.ended_sessions_kept_ms
        for ended in islice(session_removal.ended(view, until_ms), settings.removed_per_batch):
            session = session_record.get(view, ended.project_no, ended.number)
            project = projects.get(view, ended.project_no)
            if session is None or project is None:
                raise AssertionError("the index of ended sessions names one that is not there")
            found.append(EndedSession(session.session_id, project.name, session.revision))
        return found
