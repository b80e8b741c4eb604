"""The invariants of settings, and of what agents learned."""

from __future__ import annotations

from statemachine import limits, proficiency, settings
from statemachine.agent_record import Load
from statemachine.keys import end_of
from statemachine.store import Reader


def check(reader: Reader, faults: list[str]) -> None:
    """One record, each known value within its range."""
    for key, _ in reader.scan(settings.KEY, end_of(settings.KEY)):
        if key != settings.KEY:
            faults.append(f"key {key!r} is no record of settings")
    now = settings.read(reader)
    if now.values and not now.revision:
        faults.append("settings were set at no revision")
    for name, value in now.values.items():
        known = settings.SETTINGS.get(name)
        if known is not None and not known.least <= value <= known.most:
            faults.append(f"setting {name} is {value}")


def faults_of_learned(load: Load) -> list[str]:
    """What is wrong with what an agent's attempts taught."""
    rates = proficiency.read(load.learned)
    counts = load.success, load.attempts, load.completed + load.failed, load.cost_micro or 0
    faults = [f"rate of {rate.name} is {rate.rate} after {rate.attempts}" for rate in rates if not _possible(rate)]
    if not 0 <= load.success <= 10_000 or not 0 <= load.attempts <= load.completed + load.failed or min(counts) < 0:
        faults.append(f"impossible figures: success, attempts, ended, cost {counts}")
    if len(rates) > limits.LEARNED_MAX or any(rate.attempts > load.attempts for rate in rates):
        faults.append("more was learned than was tried")
    return faults


def _possible(rate: proficiency.Rate) -> bool:
    return bool(rate.name) and 0 <= rate.rate <= 10_000 and rate.attempts >= 1
