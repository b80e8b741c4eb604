"""What requests cost: counts and durations by route, kept so cheaply that every request can be counted."""

from __future__ import annotations

from bisect import bisect_left

from node.minute import Minute

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds of the duration histogram, seconds; what is longer falls into a last one."""


class RouteTraffic:
    """Requests of one route: durations (by bucket, sum) and counts by status."""

    __slots__ = ("_minute", "by_bucket", "by_status", "method", "path", "sum_s", "waits")

    def __init__(self, minute: Minute, method: str, path: str, *, waits: bool = False) -> None:
        self._minute = minute
        self.method = method
        self.path = path
        self.waits = waits
        self.by_bucket = [0] * (len(BUCKETS_S) + 1)
        self.by_status: dict[int, int] = {}
        self.sum_s = 0.0

    def observe(self, status: int, duration_s: float) -> None:
        """Count one answered request."""
        self.by_bucket[bisect_left(BUCKETS_S, duration_s)] += 1
        self.by_status[status] = self.by_status.get(status, 0) + 1
        self.sum_s += duration_s
        self._minute.request(duration_s, failed=status >= 500, waits=self.waits)


class Traffic:
    """All routes' figures, and errors by code."""

    __slots__ = ("errors", "minute", "routes", "streams_open")

    def __init__(self) -> None:
        self.minute = Minute()
        self.routes: list[RouteTraffic] = []
        self.errors: dict[str, int] = {}
        self.streams_open = 0

    def route(self, method: str, path: str, *, waits: bool = False) -> RouteTraffic:
        """A new route's figures. `waits`: its durations are of long-polls and say nothing about speed."""
        traffic = RouteTraffic(self.minute, method, path, waits=waits)
        self.routes.append(traffic)
        return traffic

    def error(self, code: str) -> None:
        """Count an answer with this error code."""
        self.errors[code] = self.errors.get(code, 0) + 1
