"""Cluster, projects and changes as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hive_client.models.record import Record


@dataclass(frozen=True, kw_only=True)
class Member(Record):
    """A member as one node sees it."""

    node_id: str = ""
    peer_address: str = ""
    http_address: str = ""
    role: str = ""
    voter: bool = True
    connected: bool = False
    match_index: int | None = None
    lag_entries: int | None = None
    last_contact_ms: int | None = None
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class ClusterStatus(Record):
    """One node's view of the cluster."""

    cluster_id: str = ""
    node_id: str = ""
    role: str = ""
    leader_id: str | None = None
    term: int = 0
    group: int = 0
    revision: int = 0
    commit_index: int = 0
    applied_index: int = 0
    has_quorum: bool = False
    version: str = ""
    cluster_version: str = ""
    members: list[Member] = field(default_factory=list)
    counts: Mapping[str, Any] = field(default_factory=dict)
    idempotency: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    alarms: list[Any] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Health(Record):
    """``ok`` is the HTTP status (200); the checks by name are in ``raw``."""

    @property
    def ok(self) -> bool:
        return self.reply is not None and self.reply.status == 200


@dataclass(frozen=True, kw_only=True)
class ServerInfo(Record):
    """What `GET /api` says."""

    name: str = ""
    version: str = ""
    api: int = 0
    cluster_id: str = ""
    features: list[Any] = field(default_factory=list)
    time: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Document(Record):
    """A reply without a fixed shape: all of it is in ``raw``."""


@dataclass(frozen=True, kw_only=True)
class Project(Record):
    """A project."""

    project: str = ""
    created_at: datetime | None = None
    revision: int = 0
    created_revision: int = 0


@dataclass(frozen=True, kw_only=True)
class Change(Record):
    """One change of the feed."""

    id: str = ""
    type: str = ""
    project: str = ""
    resource: str = ""
    resource_id: str = ""
    source: str | None = None
    correlation_id: str | None = None
    data: Any = None


@dataclass(frozen=True, kw_only=True)
class ChangeMessage(Record):
    """All changes of one revision; never split, never repeated. ``revision`` 0: an unnumbered, ephemeral update."""

    revision: int = 0
    timestamp: datetime | None = None
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ChangePage(Record):
    """Ask next from ``next_revision``; it also advances over what the topics left out."""

    items: list[ChangeMessage] = field(default_factory=list)
    next_revision: int = 0
    oldest_revision: int = 0
