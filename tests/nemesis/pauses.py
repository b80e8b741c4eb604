"""Letting time pass, which is what a nemesis does between two blows."""

from __future__ import annotations

import asyncio


async def pause(seconds: float, ended: asyncio.Event) -> bool:
    """So many seconds, or until `ended`: whether it is."""
    if seconds > 0 and not ended.is_set():
        try:
            await asyncio.wait_for(ended.wait(), seconds)
        except TimeoutError:
            return False
    return ended.is_set()
