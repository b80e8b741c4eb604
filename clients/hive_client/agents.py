"""``client.agents``: the registry of agents and their heartbeats. ``Worker`` does all of this by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack, cast

from hive_client.calls import Calls, segment, without_none
from hive_client.models.agents import Agent, AgentFields, Heartbeat, Registration
from hive_client.models.cluster import Document
from hive_client.models.record import Page
from hive_client.options import ReadOptions, SignalOptions, WriteOptions
from hive_client.paging import every_item
from hive_client.tasks import split_filters

_OPTION_NAMES = frozenset(WriteOptions.__annotations__)


class AgentFilters(ReadOptions, total=False):
    """What `list` and `iterate` narrow agents by."""

    status: str | Iterable[str]
    capability: str | Iterable[str]
    label: Mapping[str, str]
    project: str
    order: Literal["asc", "desc"]
    fields: Iterable[str]


class AgentOptions(AgentFields, WriteOptions, total=False):
    """An agent's fields and the options of the write, together as keywords."""


class Agents:
    """The agents of the cluster: `client.agents`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def register(self, agent_id: str, **agent: Unpack[AgentOptions]) -> Registration:
        """Enter the fleet. Another ``instance_id`` than before (or none) makes a new epoch and requeues
        what was held.
        """
        fields = {name: value for name, value in agent.items() if name not in _OPTION_NAMES}
        options = cast(WriteOptions, {name: value for name, value in agent.items() if name in _OPTION_NAMES})
        body = {"agent_id": agent_id, **fields}
        return Registration.from_reply(await self._calls.write("POST", "/api/agents", body, options))

    async def heartbeat(
        self,
        agent_id: str,
        *,
        epoch: int,
        wait_ms: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        running: Sequence[Mapping[str, Any]] | None = None,
        **options: Unpack[SignalOptions],
    ) -> Heartbeat:
        """Sign of life, renewal of all that ``running`` lists, and, with ``wait_ms``, the way offers come."""
        body = {"epoch": epoch, **without_none(wait_ms=wait_ms, metrics=metrics, running=running)}
        path = f"{_path(agent_id)}/heartbeat"
        return Heartbeat.from_reply(await self._calls.signal(path, body, wait_s=(wait_ms or 0) / 1000, **options))

    async def get(self, agent_id: str, **options: Unpack[ReadOptions]) -> Agent:
        return Agent.from_reply(await self._calls.read(_path(agent_id), None, options))

    async def list(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[AgentFilters]
    ) -> Page[Agent]:
        query, options = split_filters(filters)
        query |= {"limit": limit, "cursor": cursor}
        return Page.from_reply(await self._calls.read("/api/agents", query, options), Agent)

    def iterate(self, *, page_size: int = 500, **filters: Unpack[AgentFilters]) -> AsyncIterator[Agent]:
        return every_item(lambda cursor: self.list(limit=page_size, cursor=cursor, **filters))

    async def drain(self, agent_id: str, **options: Unpack[WriteOptions]) -> Agent:
        """No new offers; what runs may finish."""
        return Agent.from_reply(await self._calls.write("POST", f"{_path(agent_id)}/drain", {}, options))

    async def undrain(self, agent_id: str, **options: Unpack[WriteOptions]) -> Agent:
        return Agent.from_reply(await self._calls.write("DELETE", f"{_path(agent_id)}/drain", None, options))

    async def reset_learned(
        self, agent_id: str, names: Iterable[str] | None = None, **options: Unpack[WriteOptions]
    ) -> Agent:
        """Forget what its attempts taught, about these names or all: it is trusted as on its first day."""
        body = without_none(names=None if names is None else list(names))
        return Agent.from_reply(await self._calls.write("POST", f"{_path(agent_id)}/learned/reset", body, options))

    async def delete(self, agent_id: str, **options: Unpack[WriteOptions]) -> Document:
        """Leave the fleet; what the agent held is requeued."""
        return Document.from_reply(await self._calls.write("DELETE", _path(agent_id), None, options))


def _path(agent_id: str) -> str:
    return f"/api/agents/{segment(agent_id)}"
