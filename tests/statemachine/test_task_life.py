"""Random agents, users, leaders, failures and clocks against the state machine: `life` and `whole_life` say what is
checked after each step. `HIVE_LIVES` many of them, from seed `HIVE_LIVES_SEED` on."""

from __future__ import annotations

import os

import pytest

from statemachine import limits
from tests.statemachine.whole_life import WholeLife

LIVES = int(os.environ.get("HIVE_LIVES", "8"))
SEED = int(os.environ.get("HIVE_LIVES_SEED", "1"))
STEPS = 300


@pytest.mark.parametrize("effects_max", [2, limits.SIDE_EFFECTS_MAX])
def test_random_lives(monkeypatch: pytest.MonkeyPatch, effects_max: int) -> None:
    """With a tiny bound nearly everything that follows from a command goes through work rows."""
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", effects_max)
    for seed in range(SEED, SEED + LIVES):
        life = WholeLife(seed)
        try:
            life.live(STEPS)
        except BaseException as error:
            error.add_note(f"HIVE_LIVES_SEED={seed}, after {len(life.trace)} steps: {' '.join(life.trace[-8:])}")
            raise


def test_much_happens_in_these_lives() -> None:
    """A life in which nothing is granted, parked, redriven, removed or fired would prove nothing."""
    seen: set[str] = set()
    attempts = 0
    for seed in range(SEED, SEED + 5):
        life = WholeLife(seed)
        life.live(STEPS)
        attempts += sum(life.h.highest.values())
        seen.update(change.type for _, change in life.h.all_changes)
    wanted = {"task.waiting", "task.resumed", "task.deleted", "task.expired", "task.requeued", "task.released"}
    wanted |= {"schedule.fired", "schedule.skipped", "queue.updated", "task.completed", "task.failed", "task.cancelled"}
    wanted |= {f"budget.{what}" for what in ("created", "updated", "exceeded", "restored", "reset", "deleted")}
    assert wanted <= seen, wanted - seen
    assert attempts > 50
