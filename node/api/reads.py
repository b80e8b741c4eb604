"""How fresh a read is: the four options of API.md, handled once for every GET."""

from __future__ import annotations

from time import monotonic
from typing import Any

from node.api.problem import Problem
from node.api.query import ReadQuery
from node.api.request import Request


async def prepare(request: Request[Any, Any], query: ReadQuery) -> None:
    """Wait until this node's state is as fresh as asked. Raises Problem and the replica's errors."""
    replica = request.api.replica
    request.deadline_s = monotonic() + query.timeout_ms / 1_000
    if query.consistency == "linearizable":
        await replica.read_barrier(request.seconds_left())
        request.consistency = "linearizable"
    if query.min_revision is not None and query.min_revision > replica.revision:
        await replica.wait_revision(query.min_revision, request.seconds_left())
    if query.max_lag_ms is not None:
        lag_ms = replica.lag_ms()
        if lag_ms is None or lag_ms > query.max_lag_ms:
            known = "never" if lag_ms is None else f"{lag_ms} ms ago"
            raise Problem(
                "too_stale", f"this node was last known to be up to date {known}, asked was {query.max_lag_ms} ms"
            )
