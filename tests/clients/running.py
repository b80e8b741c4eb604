"""Runs async tests, and waits for conditions instead of for time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")

# Only a test that hangs meets it.
HANGS_AFTER_S = 60.0


def async_test(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """An async test function as pytest can call it."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), HANGS_AFTER_S))

    return run


async def until(condition: Callable[[], object]) -> None:
    """Lets everything else run until the condition holds."""
    while not condition():
        await settled(1)


async def settled(rounds: int = 200) -> None:
    """Lets everything run that can run without the clock being moved (in-process fakes only)."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def raised(call: Awaitable[object], kind: type[BaseException]) -> Any:
    """The exception of that kind, which the call must raise."""
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")
