"""Writes that put no command into the log (heartbeat, renew, progress): their headers are checked here."""

from __future__ import annotations

from typing import Any

from node.api.problem import from_refusal
from node.api.request import Request
from node.api.writes import fence_of, idempotency_of
from statemachine import fences, projects
from statemachine.outcome import Refusal, Refused

BARRIER_S_MIN = 1.0
"""A long-poll may come with a short `timeout_ms`; its fence is looked at all the same."""


async def check_headers(request: Request[Any, Any]) -> None:
    """Pass, or raise what the state machine would: a fence that is no longer current, a header that is none.

    A fence is compared with a linearizable read: this node's state may be behind, and would let a stale caller pass.
    """
    key, header = request.header("Idempotency-Key"), request.header("Hive-Fence")
    if key is not None:
        idempotency_of(request, key, request.header("Idempotency-Ttl-Ms"))
    if header is None:
        return
    fence = fence_of(header)
    await request.api.replica.read_barrier(max(request.seconds_left(), BARRIER_S_MIN))
    with request.view() as view:
        try:
            fences.check(view, projects.find(view, request.project), fence)
        except Refused as refused:
            refusal = Refusal(refused.code, refused.detail, refused.current)
            raise from_refusal(refusal, view.revision) from None
