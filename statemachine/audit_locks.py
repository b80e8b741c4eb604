"""The invariants of locks: held by those that hold them by their records, and never two that do not go together."""

from __future__ import annotations

from collections import Counter

from statemachine import limits, path_locks
from statemachine.audit_tasks import Tasks
from statemachine.keys import end_of, from_u64
from statemachine.store import Reader


def check(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    """Rows against the tasks both ways, their counts, and each holder against all others."""
    wanted: dict[bytes, bytes] = {}
    for task in tasks.values():
        wanted.update(path_locks.rows_of(task))
    counts = Counter(int.from_bytes(key[1:5], "big") for key in wanted)
    found: dict[bytes, bytes] = {}
    counted: dict[int, int] = {}
    for key, value in reader.scan(b"l", end_of(b"l")):
        if len(key) > len(path_locks.count_key(0)):
            found[key] = value
        else:
            counted[int.from_bytes(key[1:], "big")] = from_u64(value)
    faults.extend(f"the locks lack {key!r}" for key in wanted.keys() - found.keys())
    faults.extend(f"the locks have {key!r} for no task" for key in found.keys() - wanted.keys())
    faults.extend(
        f"another lock lies under {key!r}" for key in wanted.keys() & found.keys() if wanted[key] != found[key]
    )
    if counted != counts or max(counted.values(), default=0) > limits.LOCKS_HELD_MAX:
        faults.append(f"held locks are counted as {counted} where there are {dict(counts)}")
    for task in tasks.values():
        if task.locks and path_locks.holds(task):
            for conflict in path_locks.conflicts(reader, task.project_no, task.number, task.locks):
                other = tasks.get((task.project_no, conflict.holder_no))
                who = conflict.holder_no if other is None else other.task_id
                faults.append(f"tasks {task.task_id} and {who} hold locks that do not go together: {conflict.path}")
