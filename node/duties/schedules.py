"""The runs of schedules: the leader sleeps until one is due, and proposes it with the time of the next.

Nothing is remembered here: what is due is read from the state each time, and `apply` takes each due time once. So it is
harmless that a deposed leader has proposed it too, or that this one repeats itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

from cluster.replica import Replica, View
from node.duties.frames import frame
from node.recurrence import Recurrence, recurrence_of
from statemachine import limits, projects, schedule_record
from statemachine.commands import Definition, FireSchedule
from statemachine.outcome import Outcome
from statemachine.schedule_record import RUN_ALL, SKIP, Due, Schedule

_log = logging.getLogger("hive.duties")

FIRES_MAX = 64
"""After so many runs a step takes no further schedule: each is a task, and may cancel others."""

LOOK_MAX = 256
"""Due times of one schedule that one step looks at: a schedule that is far behind catches up in several."""

SLEEP_MS_MAX = 10_000
"""The clock may be set while the leader sleeps."""

Propose = Callable[[list[bytes]], Coroutine[Any, Any, list[Outcome]]]


class ScheduleRuns:
    """The step of a pump (`pump.Step`). `retry_ms`: when to look again at what was not accepted."""

    def __init__(self, replica: Replica, propose: Propose, retry_ms: int) -> None:
        self._replica = replica
        self._propose = propose
        self._retry_s = retry_ms / 1000
        self._unknown: set[tuple[int, int, int]] = set()

    async def step(self) -> float | None:
        """Fire what is due; seconds until something may be due again, None when nothing waits."""
        now_ms = self._replica.now_ms()
        with self._replica.view() as view:
            frames = self._frames(view, now_ms)
        if not frames:
            return self._sleep_s(now_ms)
        outcomes = await self._propose(frames)
        if not any(item.status for outcome in outcomes for item in outcome.items):
            # The entry's time may be a little behind this clock: what it passed over is due again in a moment.
            return self._retry_s
        return 0

    def _sleep_s(self, now_ms: int) -> float | None:
        with self._replica.view() as view:
            waiting = next((due for due in schedule_record.due(view) if self._is_known(view, due)), None)
        return None if waiting is None else min(max(waiting.at - now_ms, 1), SLEEP_MS_MAX) / 1000

    def _frames(self, view: View, now_ms: int) -> list[bytes]:
        frames: list[bytes] = []
        for due in schedule_record.due(view, now_ms):
            if len(frames) >= FIRES_MAX:
                break
            if not self._is_known(view, due):
                continue
            project, schedule = projects.get(view, due.project_no), _schedule(view, due)
            if project is None:
                raise AssertionError(f"a schedule is in project {due.project_no}, which is not there")
            definition = schedule_record.definition_of(view, due.project_no, schedule)
            try:
                commands = runs(schedule, definition, now_ms)
            except ValueError as error:
                self._unknown.add((due.project_no, due.number, schedule.definition_revision))
                _log.warning("schedule %s of project %s cannot run here: %s", schedule.schedule_id, project.name, error)
                continue
            frames.extend(frame(command, project.name) for command in commands)
        return frames

    def _is_known(self, view: View, due: Due) -> bool:
        """Whether this version can reckon the schedule's times; a newer node may have accepted more than it knows."""
        if not self._unknown:
            return True
        place = (due.project_no, due.number, _schedule(view, due).definition_revision)
        return place not in self._unknown


if FIRES_MAX + limits.SCHEDULE_MADE_UP_RUNS_MAX > limits.ENTRY_COMMANDS_MAX:
    raise AssertionError("an entry must hold the runs of one step")


def _schedule(view: View, due: Due) -> Schedule:
    schedule = schedule_record.get(view, due.project_no, due.number)
    if schedule is None:
        raise AssertionError("the index of next runs names a schedule that is not there")
    return schedule


def runs(schedule: Schedule, definition: Definition, now_ms: int) -> list[FireSchedule]:
    """What a schedule that is due by now calls for: a command for each run, or one for runs that are all missed.

    A run is missed when it is later than `starting_deadline_ms` (with `skip` a minute, unless said), or when a later
    one is due already; `run_all` makes up for the latest `limits.SCHEDULE_MADE_UP_RUNS_MAX` of the latter.
    """
    due_ms = schedule.next_run_at
    if due_ms is None:
        return []
    recurrence = recurrence_of(definition)
    skipped, times = _due_times(recurrence, due_ms, now_ms)
    if len(times) > LOOK_MAX:
        return [_pass_over(schedule, due_ms, skipped, times)]
    next_ms = recurrence.next_after(times[-1])
    wanted = [at for at in times if at > schedule.defined_at and now_ms - at <= _lateness_ms(definition, now_ms)]
    wanted = wanted[-limits.SCHEDULE_MADE_UP_RUNS_MAX :] if definition.missed_runs == RUN_ALL else wanted[-1:]
    after = [*times[1:], next_ms]
    missed = skipped + sum(at > schedule.defined_at for at in times) - len(wanted)
    if not wanted:
        return [_fire(schedule, due_ms, None, missed, next_ms)]
    commands = []
    for run_ms, following_ms in zip(times, after, strict=True):
        if run_ms in wanted:
            commands.append(_fire(schedule, due_ms, run_ms, missed, following_ms))
            due_ms, missed = following_ms or 0, 0
    return commands


def _fire(schedule: Schedule, due_ms: int, run_ms: int | None, missed: int, next_ms: int | None) -> FireSchedule:
    return FireSchedule(schedule.schedule_id, schedule.definition_revision, due_ms, run_ms, missed, next_ms)


def _lateness_ms(definition: Definition, now_ms: int) -> int:
    """How late a run may begin."""
    if definition.starting_deadline_ms is not None:
        return definition.starting_deadline_ms
    return limits.SCHEDULE_ON_TIME_MS if definition.missed_runs == SKIP else now_ms


def _due_times(recurrence: Recurrence, due_ms: int, now_ms: int) -> tuple[int, list[int]]:
    """(runs before these, due times up to now): from `due_ms` on, one more than `LOOK_MAX` at most. Intervals are
    reckoned, not counted."""
    skipped = 0
    if recurrence.every_ms is not None:
        until_ms = now_ms if recurrence.ends_at is None else min(now_ms, recurrence.ends_at)
        skipped = max((until_ms - due_ms) // recurrence.every_ms + 1 - LOOK_MAX, 0)
        due_ms += skipped * recurrence.every_ms
    times = [due_ms]
    for at in islice(recurrence.after(due_ms), LOOK_MAX):
        if at > now_ms:
            break
        times.append(at)
    return skipped, times


def _pass_over(schedule: Schedule, due_ms: int, skipped: int, times: list[int]) -> FireSchedule:
    """Far behind: all but the latest that may be made up for are missed; the next step goes on from there."""
    count = len(times) - limits.SCHEDULE_MADE_UP_RUNS_MAX
    missed = skipped + sum(at > schedule.defined_at for at in times[:count])
    return _fire(schedule, due_ms, None, missed, times[count])
