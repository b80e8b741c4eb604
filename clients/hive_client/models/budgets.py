"""Views of budgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from hive_client.models.record import Record

BudgetScope = Literal["project", "session", "agent"]


@dataclass(frozen=True, kw_only=True)
class Spent(Record):
    """What ended and parked attempts reported; ``tokens`` are input and output together."""

    input_tokens: int = 0
    output_tokens: int = 0
    tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Reserved(Record):
    """What is set aside for tasks that agents hold."""

    tokens: int = 0
    cost_usd: float = 0.0
    tasks: int = 0


@dataclass(frozen=True, kw_only=True)
class Left(Record):
    """What is neither spent nor reserved; None without a limit."""

    tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Budget(Record):
    """A budget; ``project`` is None for an agent's. A maximum of None is no limit. ``exceeded``: no task could be
    granted even if none was held.
    """

    scope: str = ""
    id: str = ""
    project: str | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None
    reserve_tokens: int = 0
    reserve_cost_usd: float = 0.0
    spent: Spent = field(default_factory=Spent)
    reserved: Reserved = field(default_factory=Reserved)
    left: Left = field(default_factory=Left)
    exceeded: bool = False
    period_started_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    revision: int = 0
    created_revision: int = 0
