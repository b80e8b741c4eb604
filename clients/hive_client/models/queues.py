"""Views of queues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hive_client.models.record import Record


@dataclass(frozen=True, kw_only=True)
class Queue(Record):
    """A queue: what limits it, how many tasks it has by status, and how old the oldest pending one is.

    ``held`` counts against ``max_running``: assigned, running, and stopped tasks whose agent has not confirmed. None
    is no limit. ``max_running_per_key``: how many tasks with one ``concurrency_key`` may be with agents.
    """

    name: str = ""
    project: str = ""
    paused: bool = False
    max_running: int | None = None
    rate_per_second: float | None = None
    max_running_per_key: int = 1
    held: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    oldest_pending_at: datetime | None = None
    oldest_pending_age_ms: int | None = None
    revision: int = 0
    created_revision: int = 0

    @property
    def pending(self) -> int:
        return self.counts.get("pending", 0)
