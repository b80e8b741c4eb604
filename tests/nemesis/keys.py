"""Keys that several clients use at once. Each is given up after some operations, so that its history stays short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.nemesis.client import MADE, Ask, Client, Document
from tests.nemesis.history import OK

OPS_MAX = 160
CREATE_AGAIN_S = 0.3


def _created(document: Document) -> Document:
    return {MADE: document.get("created_revision", 0)}


class Keys:
    """One key at a time. Its first operation is its creation, which everybody waits for but nobody holds up."""

    def __init__(self, model: str, client: Client, create: Callable[[str], Ask]) -> None:
        self._model = model
        self._client = client
        self._create = create
        self._number = 0
        self._ops = 0
        self._making: asyncio.Task[None] | None = None
        self.current = ""

    async def begin(self) -> None:
        """Make the first key."""
        await self._make()

    def use(self) -> str:
        """The key for one operation."""
        self._ops += 1
        if self._ops > OPS_MAX:
            self.finish(self.current)
        return self.current

    def finish(self, key: str) -> None:
        """This key has served; the next one is made meanwhile."""
        if key == self.current and (self._making is None or self._making.done()):
            self._making = asyncio.create_task(self._make())

    async def close(self) -> None:
        """Wait for what is being made."""
        if self._making is not None:
            await self._making

    async def _make(self) -> None:
        while True:
            self._number += 1
            key = f"{self._model}-{self._number}"
            op = await self._client.perform("create", key, {}, self._create(key), _created)
            if op.outcome == OK:
                self.current, self._ops = key, 0
                return
            if self._client.stopping:
                return
            await self._client.rest(CREATE_AGAIN_S)
