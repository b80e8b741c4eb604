"""Waiting for something that is not a change of the state: it ends with the client's connection and with the node."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

from node.api.request import Request

T = TypeVar("T")

SLACK_S = 60.0
"""What the work may take beyond the time it was meant to wait."""

_numbers = itertools.count(1)


async def guarded(request: Request[Any, Any], work: Coroutine[Any, Any, T], wait_s: float) -> T:
    """The result of `work`, which is cancelled when the client hangs up or the node begins to stop.

    Raises DisconnectedError, and Problem `shutting_down`.
    """
    loop = asyncio.get_running_loop()
    working = loop.create_task(work)
    # Nobody ever reports a change under this topic: the wait ends only with the connection, the node, or the time.
    topic = f"guard {next(_numbers)}"
    wakeups = request.api.wakeups
    guard = loop.create_task(wakeups.wait(request.project, (topic,), wait_s + SLACK_S, request.connection))
    try:
        await asyncio.wait((working, guard), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        guard.result()
        raise TimeoutError("the work went on beyond its time")
    finally:
        for task in (working, guard):
            task.cancel()
        await asyncio.gather(working, guard, return_exceptions=True)
