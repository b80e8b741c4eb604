"""Time zones by their IANA names, from the `tzdata` package alone: every node of a version knows the same ones,
whatever its operating system has."""

from __future__ import annotations

from datetime import UTC, tzinfo
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

_DATA = files("tzdata")


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """All names that there are."""
    return frozenset(_DATA.joinpath("zones").read_text(encoding="ascii").split())


@lru_cache(maxsize=1_024)
def zone(name: str) -> tzinfo:
    """The time zone of that name. Raises ValueError for one that is not in the list."""
    if name == "UTC":
        return UTC
    if name not in names():
        raise ValueError(f"{name!r} is no IANA time zone such as Europe/Berlin")
    with _DATA.joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
