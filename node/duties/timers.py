"""What time does to the state: tasks wake, expire, run too long; sessions expire; work that was left is done.

The leader sleeps until the next of these is due, reads what is due, and proposes it in bounded steps. `apply` checks
every item again against the entry's time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from cluster.replica import View
from node.duties.frames import frame
from statemachine import limits, projects, sessions, task_queries, task_record, work
from statemachine.commands import Believed, DoWork, EndWaits, ExpireRuns, ExpireSessions, ExpireTasks, WakeTasks
from statemachine.store import Reader
from statemachine.task_queries import Timer
from statemachine.task_rows import TIMER_RUN, TIMER_WAIT

RANDOM_BITS = 32


def next_due_ms(view: View) -> int | None:
    """When the state wants something done next, Unix milliseconds; 0 when there is work left over."""
    if work.waiting(view):
        return 0
    timer = next(task_queries.timers(view), None)
    times = (task_queries.next_due_ms(view), None if timer is None else timer.at, sessions.next_expiry_ms(view))
    return min((at for at in times if at is not None), default=None)


def due_frames(view: View, now_ms: int, count_max: int) -> list[bytes]:
    """Frames for what is due, at most `count_max` of each kind."""
    frames: list[bytes] = []
    if work.waiting(view):
        frames.append(frame(DoWork()))
    wakes_ms = task_queries.next_due_ms(view)
    if wakes_ms is not None and wakes_ms <= now_ms:
        frames.append(frame(WakeTasks(min(count_max, limits.SIDE_EFFECTS_MAX))))
    frames.extend(_timer_frames(view, now_ms, count_max))
    frames.extend(_session_frames(view, now_ms, count_max))
    return frames


def _timer_frames(view: View, now_ms: int, count_max: int) -> Iterator[bytes]:
    expire: dict[tuple[str, str], Believed] = {}
    stop: dict[tuple[str, str], Believed] = {}
    resume: dict[tuple[str, str], Believed] = {}
    for timer in islice(task_queries.timers(view, now_ms), count_max):
        believed = _believed(view, timer)
        kind = {TIMER_RUN: stop, TIMER_WAIT: resume}.get(timer.kind, expire)
        kind[believed.project, believed.task_id] = believed
    if expire:
        yield frame(ExpireTasks(tuple(expire.values())))
    # What expires as a whole needs no other end.
    items = tuple(item for key, item in stop.items() if key not in expire)
    if items:
        yield frame(ExpireRuns(items, tuple(random.getrandbits(RANDOM_BITS) for _ in items)))
    waits = tuple(item for key, item in resume.items() if key not in expire)
    if waits:
        yield frame(EndWaits(waits))


def _believed(reader: Reader, timer: Timer) -> Believed:
    task = task_record.get(reader, timer.project_no, timer.number)
    if task is None:
        raise AssertionError("a timer names a task that is not there")
    return Believed(task.task_id, task.project, task.attempt, task.status)


def _session_frames(view: View, now_ms: int, count_max: int) -> Iterator[bytes]:
    by_project: dict[int, list[str]] = {}
    for project_no, session in islice(sessions.due(view, now_ms), min(count_max, limits.SIDE_EFFECTS_MAX)):
        by_project.setdefault(project_no, []).append(session.session_id)
    for project_no, session_ids in by_project.items():
        project = projects.get(view, project_no)
        if project is not None:
            yield frame(ExpireSessions(tuple(session_ids)), project.name)
