"""Why a pending task may not be granted although agents are free."""

from __future__ import annotations

from typing import Any, NamedTuple

HOLDERS_NAMED_MAX = 10
"""Of those that hold what a task needs so many are named."""


class Hindrance(NamedTuple):
    """Why a task may not be granted now: a code of `explain`, a sentence with the numbers, and the numbers."""

    code: str
    message: str
    data: dict[str, Any]
