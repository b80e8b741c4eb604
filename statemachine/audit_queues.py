"""The invariants of queues: their counts are those of the tasks, whatever path a task took."""

from __future__ import annotations

from collections import Counter

from statemachine import limits, queues
from statemachine.audit_tasks import Tasks
from statemachine.store import Reader
from statemachine.task_states import TaskState


def check(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    """Counts by state and of held tasks, recounted from the tasks; settings within their limits."""
    counts: dict[tuple[int, str], Counter[TaskState]] = {}
    held: Counter[tuple[int, str]] = Counter()
    for task in tasks.values():
        place = task.project_no, task.queue
        if task.status is not TaskState.PENDING:
            counts.setdefault(place, Counter())[task.status] += 1
        held[place] += int(task.holder_no > 0)
    found = {(queue.project_no, queue.queue): queue for queue in queues.scan(reader)}
    faults.extend(f"queue {name} of project {no} has no record" for no, name in counts.keys() - found.keys())
    for place, queue in found.items():
        counted = {state: number for state in queues.COUNTED if (number := queue.count(state))}
        wanted = dict(counts.get(place, {}))
        if counted != wanted:
            faults.append(f"queue {queue.queue} counts {counted} where there are {wanted}")
        if queue.held != held[place]:
            faults.append(f"queue {queue.queue} counts {queue.held} held tasks where there are {held[place]}")
        if not queue.configured and not wanted and not held[place]:
            faults.append(f"queue {queue.queue} has a record for nothing")
        if not 1 <= queue.max_running_per_key <= limits.MAX_RUNNING_PER_KEY_MAX:
            faults.append(f"queue {queue.queue} lets {queue.max_running_per_key} run with one key")
        if queue.rate_milli is not None and not 1 <= queue.rate_milli <= limits.QUEUE_RATE_MILLI_MAX:
            faults.append(f"queue {queue.queue} has a rate of {queue.rate_milli}")
