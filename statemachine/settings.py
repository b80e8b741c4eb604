"""Replicated settings: what operators change while the cluster runs, the same for whoever leads.

One record for all. A setting that is not in it has its default: what the leading node was started with where there is
such an option, otherwise what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from statemachine import limits
from statemachine.commands import Command, UpdateSettings
from statemachine.context import Context
from statemachine.outcome import Made, Outcome, Refused, accepted
from statemachine.store import Overlay, Reader

KEY = b"S"
ID = "settings"
"""The id of the one resource, in outcomes and in the change feed."""

RATIO, MILLISECONDS, COUNT, MONEY = "ratio", "ms", "count", "usd"


class Setting(NamedTuple):
    """One setting. Values are whole numbers: ten-thousandths of a ratio, milliseconds, or micro-dollars."""

    kind: str
    default: int
    least: int
    most: int
    meaning: str


_KEPT_MS_MAX = 100 * limits.DURATION_MS_MAX

SETTINGS: dict[str, Setting] = {
    "placement.weight.proficiency": Setting(
        RATIO, 3_500, 0, 10_000, "how much it weighs how well the agent does what the task requires"
    ),
    "placement.weight.load": Setting(RATIO, 2_500, 0, 10_000, "how much it weighs which share of its slots is free"),
    "placement.weight.affinity": Setting(
        RATIO, 2_000, 0, 10_000, "how much it weighs that the agent worked on the session, branch or repository lately"
    ),
    "placement.weight.success": Setting(RATIO, 1_000, 0, 10_000, "how much it weighs how often it succeeded lately"),
    "placement.weight.cost": Setting(RATIO, 1_000, 0, 10_000, "how much it weighs how little its attempts cost"),
    "placement.reference_cost_usd": Setting(
        MONEY, 100_000, 1, 10**12, "an attempt of this cost is half as good as one that costs nothing"
    ),
    "provider_cooling_ms": Setting(
        MILLISECONDS, 30_000, 0, 600_000, "how long a provider that limits rates is left alone at first; 0: never"
    ),
    "avoid_ms": Setting(
        MILLISECONDS, 30_000, 0, 24 * 3_600_000, "how long others are preferred to the agent that let a task go"
    ),
    "offer_timeout_ms": Setting(
        MILLISECONDS, 5_000, 100, 3_600_000, "an offer that is not accepted within it goes to another agent"
    ),
    "ended_tasks_kept_ms": Setting(
        MILLISECONDS, 7 * 24 * 3_600_000, 0, _KEPT_MS_MAX, "how long a task is kept after its end; 0: for ever"
    ),
    "ended_tasks_kept_max": Setting(
        COUNT, 1_000_000, 0, 1 << 40, "how many ended tasks are kept, those that ended last; 0: any number"
    ),
    "ended_sessions_kept_ms": Setting(
        MILLISECONDS, 0, 0, _KEPT_MS_MAX, "how long an ended session is kept after its last change; 0: for ever"
    ),
}
"""Every setting by name. Names are never reused for something else; one that a later version knows is left alone."""


class Settings(msgspec.Struct, array_like=True):
    """What was set, by name; `revision` 0: nothing ever was."""

    values: dict[str, int] = {}
    revision: int = 0
    updated_at: int = 0


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(Settings)


def read(reader: Reader) -> Settings:
    """What was set."""
    data = reader.get(KEY)
    return Settings() if data is None else _decoder.decode(data)


def _put(state: Overlay, settings: Settings) -> None:
    state.put(KEY, _encoder.encode(settings))


def update_settings(ctx: Context, command: UpdateSettings) -> Outcome:
    """UpdateSettings."""
    now = read(ctx.state)
    if command.if_revision is not None and command.if_revision != now.revision:
        raise Refused("conflict", f"the settings are at revision {now.revision}", {"revision": now.revision})
    values = dict(now.values)
    for name, value in command.values:
        known = SETTINGS.get(name)
        if known is None:
            raise Refused("invalid_request", f"there is no setting {name!r}")
        if value is None:
            values.pop(name, None)
        elif known.least <= value <= known.most:
            values[name] = value
        else:
            raise Refused("invalid_request", f"{name} must be between {known.least} and {known.most}")
    if values == now.values:
        return accepted(Made(200, ID, now.revision, record=now))
    revision = ctx.take_revision()
    after = Settings(values, revision, ctx.time_ms)
    _put(ctx.state, after)
    changed = sorted(name for name in values.keys() | now.values.keys() if values.get(name) != now.values.get(name))
    # They belong to no project: watchers of every project are told.
    ctx.change(revision, "settings.updated", "settings", ID, data={"fields": changed}, project="")
    return accepted(Made(200, ID, revision, record=after))


HANDLERS: dict[type[Command], Callable[[Context, Any], Outcome]] = {UpdateSettings: update_settings}
