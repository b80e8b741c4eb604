"""What the view shows while the demonstration runs; written by the parts that know, read by the view."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field

from hive_client import ChangeMessage

RECENT_MAX = 14
RATE_WINDOW_S = 3.0


@dataclass(slots=True)
class Progress:
    """`by_agent` counts completed tasks; times are monotonic seconds."""

    total: int
    started_at: float = field(default_factory=time.monotonic)
    submitted: int = 0
    completed: int = 0
    agents_up: int = 0
    nodes_up: int = 0
    leader_id: str | None = None
    term: int = 0
    revision: int = 0
    phase: str = "starting"
    by_agent: Counter[str] = field(default_factory=Counter)
    recent: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=RECENT_MAX))
    _samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=256))

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_at

    def note(self, text: str) -> None:
        """Something worth a line."""
        self.recent.append((self.elapsed_s, text))

    def take_message(self, message: ChangeMessage) -> None:
        self.revision = message.revision
        for change in message.changes:
            if change.type == "task.completed":
                self.completed += 1
                agent_id = change.data.get("agent_id") if isinstance(change.data, dict) else None
                if isinstance(agent_id, str):
                    self.by_agent[agent_id] += 1
            elif change.type in ("task.failed", "agent.registered", "agent.status_changed"):
                self.note(f"{change.type} {change.resource_id}")

    def sample(self) -> None:
        """Called at each refresh; `rate` is taken over the last seconds of samples."""
        now = time.monotonic()
        self._samples.append((now, self.completed))
        while self._samples[0][0] < now - RATE_WINDOW_S:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Completed tasks a second."""
        if len(self._samples) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0
