"""Ending what was started, without swallowing one's own cancellation on the way."""

from __future__ import annotations

import asyncio
from typing import Any


async def first_of(*futures: asyncio.Future[Any]) -> None:
    """Waits for one and ends the others."""
    try:
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(*futures)


async def end(*futures: asyncio.Future[Any]) -> None:
    """Cancel and wait until they are gone.

    ``gather`` and not ``suppress(CancelledError)``: the latter would also swallow a cancel of the caller.
    """
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)
