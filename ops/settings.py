"""`hive settings`: what operators change while the cluster runs, the same for whoever leads."""

from __future__ import annotations

from typing import Annotated

import typer
from hive_client.models import SettingList

from ops.connection import Hive, connected
from ops.edge import UsageError
from ops.output import print_json, print_table

app = typer.Typer(help="Look at replicated settings; change them while the cluster runs.", no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(metavar="NAME...")]
SomeNames = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")]
Values = Annotated[list[str], typer.Argument(metavar="NAME=VALUE...")]

HEADINGS = ("SETTING", "VALUE", "UNIT", "SET", "DEFAULT", "LEAST", "MOST", "MEANING")


def _show(hive: Hive, found: SettingList, names: list[str]) -> None:
    known = {setting.name: setting for setting in found.items}
    for name in names:
        _require(found, name)
    chosen = [setting for name, setting in known.items() if not names or name in names]
    if hive.as_json:
        print_json({"items": [setting.raw for setting in chosen], "revision": found.revision})
        return
    print_table(
        HEADINGS,
        (
            (
                one.name, _plain(one.value), one.unit, one.is_set, _plain(one.default), _plain(one.least),
                _plain(one.most), one.meaning,
            )
            for one in chosen
        ),
    )  # fmt: skip


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def _require(found: SettingList, name: str) -> None:
    if all(setting.name != name for setting in found.items):
        raise UsageError(f"there is no setting {name!r}; `hive settings get` shows all")


@app.command("get")
@connected
async def get(hive: Hive, names: SomeNames = None) -> None:
    """Show all settings, or those named."""
    _show(hive, await hive.client.settings.get(), names or [])


@app.command("set")
@connected
async def set_(hive: Hive, values: Values) -> None:
    """Set some; they hold for the next decision, whoever leads."""
    found = await hive.client.settings.get()
    wanted: dict[str, float | None] = {}
    for text in values:
        name, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"{text!r} is not NAME=VALUE")
        _require(found, name)
        wanted[name] = _number(name, value)
    _show(hive, await hive.client.settings.update(wanted), list(wanted))


def _number(name: str, text: str) -> float | int:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{name}: {text!r} is no number") from error


@app.command("reset")
@connected
async def reset(hive: Hive, names: Names) -> None:
    """Give settings their defaults again."""
    found = await hive.client.settings.get()
    for name in names:
        _require(found, name)
    _show(hive, await hive.client.settings.reset(names), names)
