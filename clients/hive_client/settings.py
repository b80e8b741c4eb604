"""``client.settings``: what operators change while the cluster runs, the same for whoever leads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from hive_client.calls import Calls
from hive_client.models.settings import SettingList
from hive_client.options import ReadOptions, WriteOptions

_PATH = "/api/settings"


class Settings:
    """Replicated settings: `client.settings`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, **options: Unpack[ReadOptions]) -> SettingList:
        """Every setting: value, default, range."""
        return SettingList.from_reply(await self._calls.read(_PATH, None, options))

    async def update(
        self, values: Mapping[str, float | None], *, if_revision: int | None = None, **options: Unpack[WriteOptions]
    ) -> SettingList:
        """Set these, by name; None is back to the default. All or none. ``if_revision``: raises ``Conflict`` if any was
        changed since.
        """
        body: dict[str, Any] = dict(values)
        if if_revision is not None:
            body["if_revision"] = if_revision
        return SettingList.from_reply(await self._calls.write("PATCH", _PATH, body, options))

    async def reset(self, names: Iterable[str], **options: Unpack[WriteOptions]) -> SettingList:
        """Give these their defaults again."""
        return await self.update(dict.fromkeys(names), **options)
