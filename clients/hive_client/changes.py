"""``client.changes``: everything that happens, in order, from any kept revision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Unpack

from hive_client.calls import Calls
from hive_client.models.cluster import ChangePage
from hive_client.options import QueryValue, ReadOptions
from hive_client.tasks import WAIT_MS
from hive_client.watch import SILENCE_S, Watch

Topics = str | Iterable[str] | None
Data = Literal["none", "summary", "full"]


class Changes:
    """The change feed: `client.changes`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(
        self,
        *,
        from_revision: int | None = None,
        topics: Topics = None,
        limit: int | None = None,
        data: Data | None = None,
        **options: Unpack[ReadOptions],
    ) -> ChangePage:
        """What happened from ``from_revision`` on, as far as this node knows; raises ``Compacted`` if that is gone."""
        query = _query(from_revision, topics, data) | {"limit": limit}
        return ChangePage.from_reply(await self._calls.read("/api/changes", query, options))

    async def poll(
        self,
        *,
        from_revision: int,
        topics: Topics = None,
        limit: int | None = None,
        data: Data | None = None,
        wait_ms: int = WAIT_MS,
    ) -> ChangePage:
        """Like ``list``, but waits for the first message. Continue from ``next_revision``."""
        query = _query(from_revision, topics, data) | {"limit": limit, "wait_ms": wait_ms}
        return ChangePage.from_reply(await self._calls.read("/api/changes", query))

    def watch(
        self,
        *,
        from_revision: int | None = None,
        topics: Topics = None,
        data: Data | None = None,
        ephemeral: bool = False,
        silence_s: float = SILENCE_S,
    ) -> Watch:
        """An endless, ordered, gapless stream of messages, resumed by itself on any node.

        ``async for message in client.changes.watch(topics="tasks")``. ``from_revision`` is the first one wanted; None =
        from now. Raises ``Compacted`` or ``ClusterRestored`` when it cannot go on without a gap: list again,
        then watch. A connection without a sign of life for ``silence_s`` is given up.
        """
        query = _query(None, topics, data) | {"ephemeral": True if ephemeral else None}
        return Watch(self._calls, query, from_revision, silence_s)


def _query(from_revision: int | None, topics: Topics, data: Data | None) -> dict[str, QueryValue]:
    return {"from_revision": from_revision, "topics": topics, "data": data}
