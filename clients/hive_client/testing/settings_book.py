"""The fake's replicated settings: it keeps them, and does nothing else by them."""

from __future__ import annotations

from typing import Any, NamedTuple

from hive_client.testing.exchange import Answer, Asked
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.task_routes import Handler
from hive_client.testing.world import World


class _Known(NamedTuple):
    unit: str
    default: float
    least: float
    most: float


_WEEK_MS = 7 * 24 * 3_600_000
_KEPT_MS_MAX = 100 * 366 * 24 * 3_600_000

KNOWN = {
    "placement.weight.proficiency": _Known("ratio", 0.35, 0, 1),
    "placement.weight.load": _Known("ratio", 0.25, 0, 1),
    "placement.weight.affinity": _Known("ratio", 0.2, 0, 1),
    "placement.weight.success": _Known("ratio", 0.1, 0, 1),
    "placement.weight.cost": _Known("ratio", 0.1, 0, 1),
    "placement.reference_cost_usd": _Known("usd", 0.1, 1e-6, 1e6),
    "provider_cooling_ms": _Known("ms", 30_000, 0, 600_000),
    "avoid_ms": _Known("ms", 30_000, 0, 24 * 3_600_000),
    "offer_timeout_ms": _Known("ms", 5_000, 100, 3_600_000),
    "ended_tasks_kept_ms": _Known("ms", _WEEK_MS, 0, _KEPT_MS_MAX),
    "ended_tasks_kept_max": _Known("count", 1_000_000, 0, 1 << 40),
    "ended_sessions_kept_ms": _Known("ms", 0, 0, _KEPT_MS_MAX),
}


class SettingsBook:
    """All settings."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._values: dict[str, float] = {}
        self._revision = 0

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/api/settings", lambda _: Answer(200, self._document())),
            ("PATCH", "/api/settings", self._patch),
        ]

    def _document(self) -> dict[str, Any]:
        items = [
            {
                "name": name, "value": self._values.get(name, known.default), "default": known.default,
                "is_set": name in self._values, "unit": known.unit, "least": known.least, "most": known.most,
                "meaning": "",
            }
            for name, known in KNOWN.items()
        ]  # fmt: skip
        return {"items": items, "revision": self._revision}

    def _patch(self, asked: Asked) -> Answer:
        body = dict(asked.document())
        if (wanted := body.pop("if_revision", None)) is not None and wanted != self._revision:
            raise Problem("conflict", "the settings have changed", current={"revision": self._revision})
        for name, value in body.items():
            if value is not None or name not in KNOWN:
                _check(name, value)
        after = {name: value for name, value in (self._values | body).items() if value is not None}
        if after != self._values:
            changed = sorted(name for name in KNOWN if after.get(name) != self._values.get(name))
            with self._world.write():
                self._values, self._revision = after, self._world.next_revision
                self._world.change("settings.updated", "", "settings", {"fields": changed})
        return Answer(200, self._document())


def _check(name: str, value: Any) -> None:
    known = KNOWN.get(name)
    if known is None:
        raise invalid(name, "unknown field")
    kinds = (int, float) if known.unit in {"ratio", "usd"} else (int,)
    if not isinstance(value, kinds) or isinstance(value, bool) or not known.least <= value <= known.most:
        raise invalid(name, f"must be a number between {known.least} and {known.most}")
