"""Was anything lost, was anything done twice? Counted from three sources that must agree.

1. the change feed: how often each task became `completed`;
2. the run's session: how many results were recorded for each task (event and result are one write);
3. the tasks themselves, read linearizably.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hive_client import ChangeMessage, Task


@dataclass(slots=True)
class Ledger:
    """What was submitted, and what each source says happened to it."""

    submitted: set[str] = field(default_factory=set)
    by_feed: Counter[str] = field(default_factory=Counter)
    by_session: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, Task] = field(default_factory=dict)
    revision: int = 0

    def take_message(self, message: ChangeMessage) -> None:
        """Count one revision of the feed."""
        assert message.revision > self.revision, "the feed is ordered and never repeats"
        self.revision = message.revision
        for change in message.changes:
            if change.type == "task.completed" and change.resource_id in self.submitted:
                self.by_feed[change.resource_id] += 1

    def take_recorded(self, task_id: str) -> None:
        self.by_session[task_id] += 1

    def take_tasks(self, tasks: Iterable[Task]) -> None:
        self.tasks.update({task.task_id: task for task in tasks if task.task_id in self.submitted})

    @property
    def completed(self) -> set[str]:
        return {task_id for task_id, task in self.tasks.items() if task.status == "completed"}

    def verdict(self) -> Verdict:
        doubled = {t for source in (self.by_feed, self.by_session) for t, count in source.items() if count > 1}
        completed = self.completed
        unconfirmed = {t for t in completed if self.by_feed[t] == 0 or self.by_session[t] == 0}
        return Verdict(
            submitted=len(self.submitted),
            completed=len(completed),
            lost=tuple(sorted(self.submitted - completed)),
            doubled=tuple(sorted(doubled)),
            unconfirmed=tuple(sorted(unconfirmed)),
            attempts_over_one=sum(max(0, task.attempt - 1) for task in self.tasks.values()),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """`lost` did not complete; `doubled` has two results in one of the sources; `unconfirmed` lacks one of them."""

    submitted: int
    completed: int
    lost: Sequence[str]
    doubled: Sequence[str]
    unconfirmed: Sequence[str]
    attempts_over_one: int

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.unconfirmed)
