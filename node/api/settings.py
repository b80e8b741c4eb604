"""Routes of replicated settings: what operators change while the cluster runs."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from cluster.replica import View
from node.api.body import Body
from node.api.query import ReadQuery, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.writes import write
from node.duties.duties import Duties
from node.duties.settings import defaults
from statemachine import settings
from statemachine.commands import UpdateSettings
from statemachine.settings import MONEY, RATIO, SETTINGS

_SCALE = {RATIO: 10_000, MONEY: 1_000_000}
"""How many of a setting's whole numbers make one of what is shown; of the others 1."""


class SettingView(msgspec.Struct):
    """One setting. `unit`: `ratio`, `ms`, `count` or `usd`. `default` is what holds where it was not set: for what is
    also a start option that of the node that answers; the leader's counts."""

    name: str
    value: float
    default: float
    is_set: bool
    unit: str
    least: float
    most: float
    meaning: str


class SettingsView(msgspec.Struct):
    """All settings by name. `revision` is that of the last change, 0 before the first."""

    items: list[SettingView]
    revision: int


def shown(name: str, value: int) -> float:
    """A value as the API shows it."""
    scale = _SCALE.get(SETTINGS[name].kind)
    return value if scale is None else value / scale


def _stored(name: str, value: float) -> int:
    return round(value * _SCALE.get(SETTINGS[name].kind, 1))


def settings_view(view: View, started: dict[str, int]) -> SettingsView:
    """All settings as they are now; `started` are the defaults of the node's own."""
    now = settings.read(view)
    items: list[SettingView] = []
    for name, known in SETTINGS.items():
        default = started.get(name, known.default)
        value = now.values.get(name, default)
        items.append(
            SettingView(
                name=name,
                value=shown(name, value),
                default=shown(name, default),
                is_set=name in now.values,
                unit=known.kind,
                least=shown(name, known.least),
                most=shown(name, known.most),
                meaning=known.meaning,
            )
        )
    return SettingsView(items, now.revision)


def _type_of(name: str) -> Any:
    known = SETTINGS[name]
    kind: Any = float if known.kind in _SCALE else int
    ranged = Annotated[kind, msgspec.Meta(ge=shown(name, known.least), le=shown(name, known.most))]
    return ranged | msgspec.UnsetType | None


_FIELDS: dict[str, str] = {name: name.replace(".", "_") for name in SETTINGS}

SettingsPatch: Any = msgspec.defstruct(
    "SettingsPatch",
    [
        *((field, _type_of(name), msgspec.field(default=msgspec.UNSET, name=name)) for name, field in _FIELDS.items()),
        ("if_revision", Annotated[int, msgspec.Meta(ge=0)] | None, None),
    ],
    bases=(Body,),
    module=__name__,
    namespace={"__doc__": "`PATCH /api/settings`: null is back to the default, what is absent stays."},
)


async def get_settings(request: Request[ReadQuery, Any]) -> Reply:
    """Every setting: its value, its default, its range."""
    started = defaults(request.api.part(Duties).settings)
    with request.view() as view:
        return json_reply(settings_view(view, started))


async def patch_settings(request: Request[WriteQuery, Any]) -> Reply:
    """Change settings; they hold for the next decision of whoever leads."""
    patch, values = request.body, list[tuple[str, int | None]]()
    for name, field in _FIELDS.items():
        value = getattr(patch, field)
        if value is not msgspec.UNSET:
            values.append((name, None if value is None else _stored(name, value)))
    command = UpdateSettings(tuple(values), patch.if_revision)
    started = defaults(request.api.part(Duties).settings)
    return await write(request, command, lambda view, _: settings_view(view, started))


ROUTES = (
    Route("GET", "/api/settings", get_settings, "Replicated settings", "settings:read", query=ReadQuery,
          reply=SettingsView),
    Route("PATCH", "/api/settings", patch_settings, "Change replicated settings", "settings:write",
          query=WriteQuery, body=SettingsPatch, reply=SettingsView),
)  # fmt: skip
