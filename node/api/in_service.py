"""A node that is out of service says what it is and why, and nothing of the state, which may not be the others'."""

from __future__ import annotations

from cluster.replica import Replica
from node.api.problem import Problem

_STILL_SERVED = ("/api/cluster/", "/api/status/cluster")
"""What is asked of the cluster's members and not of its state; and the way to see what is wrong."""


def check_in_service(replica: Replica, path: str) -> None:
    """Raise Problem `too_stale` where this node must not answer; `path` is the route's. Other nodes may."""
    if (why := replica.out_of_service) and not path.startswith(_STILL_SERVED):
        raise out_of_service(why)


def out_of_service(why: str) -> Problem:
    """The refusal, also for whoever waits or listens already."""
    return Problem("too_stale", why, retry_after_ms=1_000)
