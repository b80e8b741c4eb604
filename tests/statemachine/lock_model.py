"""Who holds which locks, told by the changes that watchers see, and not by what the state machine keeps of locks."""

from __future__ import annotations

from collections.abc import Iterable

from statemachine.changes import Change
from statemachine.task_record import Task

PATHS_OF = {
    "a/b.py": {"a/b.py"},
    "a/c.py": {"a/c.py"},
    "a/*.py": {"a/b.py", "a/c.py"},
    "a/**": {"a", "a/b.py", "a/c.py", "a/x/y"},
    "**/y": {"a/x/y"},
    "d/[bc].py": {"d/b.py", "d/c.py"},
    "d/?.py": {"d/b.py", "d/c.py"},
    "d/b.py": {"d/b.py"},
}
"""Patterns, and what they match of the few paths that matter here."""

ENDED = {"completed", "failed", "cancelled", "expired"}


class LockModel:
    """`holds` are tasks that were granted and have not let go since; `kept` those that parked and did not start."""

    def __init__(self) -> None:
        self.holds: set[tuple[str, str]] = set()
        self.kept: set[tuple[str, str]] = set()

    def follow(self, changes: Iterable[Change]) -> None:
        """Take in what an entry changed."""
        for change in changes:
            if change.resource == "task" and change.data is not None and "to" in change.data:
                self._follow(change, str(change.data.get("from")), str(change.data["to"]))

    def _follow(self, change: Change, was: str, to: str) -> None:
        key = change.project, change.resource_id
        if to in {"assigned", "running"}:
            self.holds.add(key)
            if to == "running":
                self.kept.discard(key)
        elif to == "waiting" or (change.type == "task.pending" and was in {"assigned", "running"}):
            self.kept.add(key)
        elif to in ENDED and was == "running" and change.type in {"task.cancelled", "task.expired"}:
            pass  # until its agent confirms
        elif to in ENDED or (was == "running" and to in {"pending", "scheduled"}):
            self.holds.discard(key)
            self.kept.discard(key)
        elif was == "assigned" and to in {"pending", "scheduled"} and key not in self.kept:
            self.holds.discard(key)

    def check(self, tasks: Iterable[Task]) -> None:
        """No path is locked by two tasks, unless all of them share it."""
        modes: dict[tuple[str, str], dict[str, bool]] = {}
        for task in tasks:
            if (task.project, task.task_id) in self.holds:
                for lock in task.locks:
                    for path in PATHS_OF[lock.path]:
                        of_path = modes.setdefault((task.project, path), {})
                        of_path[task.task_id] = of_path.get(task.task_id, False) or lock.exclusive
        for place, of_path in modes.items():
            assert len(of_path) == 1 or not any(of_path.values()), (place, of_path)
