"""Views of replicated settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from hive_client.models.record import Record


@dataclass(frozen=True, kw_only=True)
class Setting(Record):
    """One setting. ``unit``: ``ratio``, ``ms``, ``count`` or ``usd``; ``is_set``: it has not its default."""

    name: str = ""
    value: float = 0
    default: float = 0
    is_set: bool = False
    unit: str = ""
    least: float = 0
    most: float = 0
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class SettingList(Record):
    """All settings. ``revision`` is that of the last change, 0 before the first."""

    items: list[Setting] = field(default_factory=list)
    revision: int = 0

    def __getitem__(self, name: str) -> Setting:
        """The setting of that name. Raises ``KeyError``."""
        for setting in self.items:
            if setting.name == name:
                return setting
        raise KeyError(name)
