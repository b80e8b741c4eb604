"""Runs async tests with a hard limit, and waits for what other processes do."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Only a test that hangs meets it.
HANGS_AFTER_S = 120.0
ASK_AGAIN_S = 0.03


def async_test(
    limit_s: float = HANGS_AFTER_S,
) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]:
    """An async test function as pytest can call it."""

    def decorate(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
        @functools.wraps(test)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            asyncio.run(asyncio.wait_for(test(*args, **kwargs), limit_s))

        return run

    return decorate


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """Looks again and again until there is something to see. What another process does can only be asked for."""
    while True:
        if (seen := await look()) is not None:
            return seen
        await moment(asyncio.Event())


async def moment(interrupted: asyncio.Event) -> None:
    """Until the event, or a moment later: between two tries that cannot wait for anything better."""
    try:
        await asyncio.wait_for(interrupted.wait(), ASK_AGAIN_S)
    except TimeoutError:
        return


def show(figures: str) -> None:
    """A line for whoever runs pytest with -s: what was measured, without judging it."""
    sys.stdout.write(f"\n{figures}\n")
