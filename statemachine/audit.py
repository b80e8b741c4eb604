"""Every invariant of the state, checked by recounting: for tests, the simulator, and operators on a stopped node.

Slow on purpose: it reads everything, and believes no index. The parts of the nouns stand in `audit_tasks`,
`audit_agents`, `audit_budgets`, `audit_locks`, `audit_log`, `audit_members`, `audit_queues`,
`audit_schedules` and `audit_settings`.
"""

from __future__ import annotations

from statemachine import (
    audit_agents,
    audit_budgets,
    audit_locks,
    audit_log,
    audit_members,
    audit_queues,
    audit_schedules,
    audit_settings,
    audit_tasks,
)
from statemachine.keys import TABLES
from statemachine.store import Reader


def audit(reader: Reader) -> list[str]:
    """What is wrong with the state, one sentence each; empty when nothing is."""
    faults: list[str] = []
    for key, _ in reader.scan(b"\x00", b"\xff"):
        if key[:1] not in TABLES:
            faults.append(f"key {key!r} belongs to no table")
    tasks = audit_tasks.read_tasks(reader, faults)
    audit_tasks.check(reader, tasks, faults)
    audit_queues.check(reader, tasks, faults)
    audit_agents.check(reader, tasks, faults)
    audit_budgets.check(reader, tasks, faults)
    audit_locks.check(reader, tasks, faults)
    audit_log.check(reader, faults)
    audit_members.check(reader, faults)
    audit_schedules.check(reader, faults)
    audit_settings.check(reader, faults)
    return faults
