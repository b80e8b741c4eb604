"""Sessions and their events as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict

from hive_client.models.record import Record
from hive_client.models.tasks import Usage


class SessionStatus(StrEnum):
    """The life of a session."""

    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    ARCHIVED = "archived"
    EXPIRED = "expired"


class EventFields(TypedDict, total=False):
    """An event to append; only ``type`` is needed."""

    type: str
    data: Any
    actor: str
    correlation_id: str
    causation_id: str
    occurred_at: str
    usage: dict[str, Any]
    artifacts: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class SessionStats(Record):
    """Sums over the events of a session."""

    events: int = 0
    by_type: Mapping[str, int] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Session(Record):
    """A session as the API shows it."""

    session_id: str = ""
    project: str = "default"
    status: str = ""
    title: str | None = None
    agent_id: str | None = None
    user: str | None = None
    priority: int | None = None
    expires_at: datetime | None = None
    metadata: Any = None
    last_seq: int = 0
    parent: Any = None
    stats: SessionStats | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    revision: int = 0
    created_revision: int = 0


@dataclass(frozen=True, kw_only=True)
class Event(Record):
    """One entry of a session's log; ``seq`` counts from 1 without gaps."""

    event_id: str = ""
    session_id: str = ""
    seq: int = 0
    revision: int = 0
    type: str = ""
    actor: str | None = None
    data: Any = None
    correlation_id: str | None = None
    causation_id: str | None = None
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    usage: Usage | None = None
    artifacts: list[Any] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Appended(Record):
    """Where appended events stand."""

    first_seq: int = 0
    last_seq: int = 0
    revision: int = 0
