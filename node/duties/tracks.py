"""What became of each agent's attempts in the last minute, for its performance figures."""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0
BUCKET_S = 5.0


class Track:
    """One agent's attempts: completed, failed, and how many of its tasks will be tried again."""

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        self.buckets: deque[list[float]] = deque()

    def add(self, now_s: float, *, completed: int = 0, failed: int = 0, retried: int = 0) -> None:
        """Count what happened now."""
        self._forget(now_s)
        if not self.buckets or now_s - self.buckets[-1][0] >= BUCKET_S:
            self.buckets.append([now_s, 0, 0, 0])
        bucket = self.buckets[-1]
        bucket[1] += completed
        bucket[2] += failed
        bucket[3] += retried

    def sums(self, now_s: float) -> tuple[int, int, int]:
        """(completed, failed, retried) within the window."""
        self._forget(now_s)
        return (
            sum(int(bucket[1]) for bucket in self.buckets),
            sum(int(bucket[2]) for bucket in self.buckets),
            sum(int(bucket[3]) for bucket in self.buckets),
        )

    def _forget(self, now_s: float) -> None:
        while self.buckets and now_s - self.buckets[0][0] > WINDOW_S:
            self.buckets.popleft()


class Tracks:
    """The tracks of all agents that ended something lately."""

    def __init__(self) -> None:
        self._by_agent: dict[str, Track] = {}

    def add(self, agent_id: str, now_s: float, *, completed: int = 0, failed: int = 0, retried: int = 0) -> None:
        """Count for an agent."""
        track = self._by_agent.setdefault(agent_id, Track())
        track.add(now_s, completed=completed, failed=failed, retried=retried)

    def sums(self, agent_id: str, now_s: float) -> tuple[int, int, int]:
        """(completed, failed, retried) of an agent in the last minute."""
        track = self._by_agent.get(agent_id)
        return (0, 0, 0) if track is None else track.sums(now_s)

    def drop(self, agent_id: str) -> None:
        """Forget a deleted agent."""
        self._by_agent.pop(agent_id, None)
