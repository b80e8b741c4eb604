"""Schedules in the simulated cluster: leaders change, stall, lose their clocks, and others act as if they led. Each due
time comes to one end: fired, skipped or missed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from node.duties.schedules import runs
from statemachine import schedule_record
from statemachine.changes import Change
from statemachine.commands import CreateSchedule, Definition, NewTask
from statemachine.schedule_record import Schedule
from statemachine.store import MemoryStore
from tests.sim.load import Result
from tests.sim.many import nodes_of
from tests.sim.plan import plan_of, settings_of
from tests.sim.silence import silence
from tests.sim.simulation import Simulation

EVERY_MS = 1_000
POLICIES = {"all": ("queue", "run_all"), "once": ("replace", "run_once"), "skip": ("skip", "skip")}
TROUBLE_S = 10.0


def create(sim: Simulation, schedule_id: str, tries: int = 0) -> None:
    """Create a schedule at whoever is awake, until it is known to have happened: a repeat is the same schedule."""

    def again() -> None:
        create(sim, schedule_id, tries + 1)

    def done(result: Result) -> None:
        if isinstance(result, Exception):
            sim.scheduler.after(0.2, again)

    member = next((member for member in sim.members if member.awake), None)
    if member is None:
        sim.scheduler.after(0.2, again)
        return
    overlap, missed_runs = POLICIES[schedule_id]
    now_ms = member.core.entry_time.now_ms()
    definition = Definition(NewTask("", queue="runs"), every_ms=EVERY_MS, overlap=overlap, missed_runs=missed_runs)
    command = CreateSchedule(schedule_id, definition, now_ms - now_ms % EVERY_MS + EVERY_MS)
    sim.load.write(member, [(f"schedule-{schedule_id}-{tries}", command, None)], 1.0, done)


def told(sim: Simulation, schedule_id: str) -> list[dict[str, Any]]:
    """What the feed says of the schedule's due times, in order."""
    groups = sorted(sim.checks.history.replay().changes.items())
    changes = [msgspec.msgpack.decode(data, type=Change) for _, group in groups for data in group]
    kinds = ("schedule.fired", "schedule.skipped")
    return [change.data or {} for change in changes if change.type in kinds and change.resource_id == schedule_id]


def usurp(sim: Simulation, number: int = 0) -> None:
    """Somebody who does not lead fires what is due by the state of its own machine, however old that is."""
    sim.scheduler.after(0.15, lambda: usurp(sim, number + 1))
    member = sim.members[number % len(sim.members)]
    if not member.awake:
        return
    store = member.core.state.store  # type: ignore[attr-defined]  # a MemoryState
    schedule = schedule_record.find(store, 1, list(POLICIES)[number // 7 % len(POLICIES)])
    if schedule is None:
        return
    definition = schedule_record.definition_of(store, 1, schedule)
    fires = runs(schedule, definition, member.core.entry_time.now_ms())
    if fires and sim.scheduler.now_s < TROUBLE_S:
        frames = [(f"usurper-{number}.{place}", fire, None) for place, fire in enumerate(fires)]
        sim.load.write(member, frames, 3.0, lambda _: None)


def first_due(end: dict[str, Any]) -> int:
    """The first of the due times that this is about: those before a run that were missed, and its own."""
    due_at: int = end["due_at"]
    return due_at if end.get("reason") == "missed" else due_at - EVERY_MS * end["missed"]


def schedule_of(sim: Simulation, schedule_id: str) -> Schedule:
    store = MemoryStore(sim.checks.history.replay().content)
    schedule = schedule_record.find(store, 1, schedule_id)
    assert schedule is not None
    return schedule


@pytest.mark.parametrize(
    ("seed", "focus"), [(7, None), (21, "clocks"), (34, "leases"), (48, "disks"), (55, "snapshots")]
)
def test_each_due_time_comes_to_one_end(seed: int, focus: str | None) -> None:
    plan = replace(plan_of(seed, nodes_of(seed), TROUBLE_S, focus), fleet=True)  # with the leader's duties
    with silence(), settings_of(plan):
        sim = Simulation(seed, plan)
        for schedule_id in POLICIES:
            sim.scheduler.after(1.0, lambda name=schedule_id: create(sim, name))  # type: ignore[misc]  # bound now
        sim.scheduler.after(2.0, lambda: usurp(sim))
        report = sim.run()
    assert report.violations == []
    for schedule_id in POLICIES:
        schedule, ends = schedule_of(sim, schedule_id), told(sim, schedule_id)
        waits_for = first = first_due(ends[0])
        for end in ends:
            assert first_due(end) == waits_for, f"{schedule_id}: a due time twice, or none: {ends}"
            waits_for += EVERY_MS * (end["missed"] + (end.get("reason") != "missed"))
        assert schedule.next_run_at == waits_for
        # The clock of the node that was asked may be a little ahead of the cluster's.
        assert schedule.defined_at < first <= schedule.defined_at + 2 * EVERY_MS
        assert waits_for - first >= TROUBLE_S * 1000
        assert schedule.runs + schedule.skipped + schedule.missed == (waits_for - first) // EVERY_MS
        assert schedule.missed == 0 or schedule_id != "all"
