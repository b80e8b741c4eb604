"""What a replica is started with, and the relations between its timings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.real.wire import FRAME_BYTES_MAX
from statemachine import limits


class SettingsError(ValueError):
    """A setting, or a relation between settings, is wrong. The text names it and the way out."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations in milliseconds.

    A follower that hears nothing for `election_timeout_min_ms`..`max_ms` campaigns. A leader that no majority answered
    for `fallback_ms` steps down. Heartbeats go out every `heartbeat_ms`. A learner that was caught up for
    `promote_stable_ms` is promoted. The nodes compare a piece of their states every `state_check_ms`.
    """

    heartbeat_ms: int = 50
    election_timeout_min_ms: int = 300
    election_timeout_max_ms: int = 500
    fallback_ms: int = 600
    connect_retry_ms: int = 100
    connect_timeout_ms: int = 1_000
    disk_stall_ms: int = 2_000
    late_tick_ms: int = 200
    clock_skew_max_ms: int = 5_000
    state_sync_ms: int = 30_000
    state_check_ms: int = 1_000
    promote_stable_ms: int = 10_000

    def __post_init__(self) -> None:
        if self.election_timeout_min_ms < 3 * self.heartbeat_ms:
            raise SettingsError("election_timeout_min_ms must be at least three times heartbeat_ms")
        if self.election_timeout_max_ms <= self.election_timeout_min_ms:
            raise SettingsError("election_timeout_max_ms must be greater than election_timeout_min_ms")
        if self.fallback_ms < self.election_timeout_max_ms:
            raise SettingsError("fallback_ms must be at least election_timeout_max_ms")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the replica, bytes unless said otherwise. While an entry is under way, the next one waits until it is
    committed, or until there are `entry_enough_commands` or `entry_enough_bytes` for it.
    """

    engine_batch_bytes: int = 16 << 20
    entry_enough_commands: int = 128
    entry_enough_bytes: int = 64 << 10
    uncommitted_bytes_max: int = 64 << 20
    proposals_pending_max: int = 20_000
    peer_in_flight_bytes_max: int = 64 << 20
    segment_bytes: int = 64 << 20
    log_cache_bytes: int = 64 << 20
    log_keep_bytes: int = 64 << 20
    snapshot_log_bytes: int = 256 << 20
    state_map_bytes: int = 1 << 40
    min_free_bytes: int = 512 << 20
    promote_lag_entries_max: int = 250

    def __post_init__(self) -> None:
        if self.engine_batch_bytes <= limits.ENTRY_BYTES_MAX:
            raise SettingsError(f"engine_batch_bytes must be above the largest entry, {limits.ENTRY_BYTES_MAX}")
        # The engine stops to add entries once it is over the batch, so one more may be in it.
        most = FRAME_BYTES_MAX - 2 * limits.ENTRY_BYTES_MAX
        if self.engine_batch_bytes > most:
            raise SettingsError(f"engine_batch_bytes must be at most {most}: peers cut longer messages off")


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """Everything a replica needs to know. `members` maps node id to peer address, this node included; it counts until
    the replicated state knows the members.

    `cluster_secret` authenticates peers to each other; a cluster of one needs none, and nobody can join it then.
    `join_cluster_id`: a new node joins that cluster, which has added it as a member before; `members` is what that
    cluster said. A data directory that already belongs to a node knows better, and is not asked to join again.
    """

    node_id: str
    data_dir: Path
    peer_address: str
    http_address: str
    members: Mapping[str, str]
    cluster_secret: bytes
    version: str
    timings: Timings = field(default_factory=Timings)
    limits: Limits = field(default_factory=Limits)
    join_cluster_id: str | None = None

    def __post_init__(self) -> None:
        if self.node_id not in self.members:
            raise SettingsError(f"node id {self.node_id!r} is not among the members {sorted(self.members)}")
        if len(self.members) > 1 and not self.cluster_secret:
            raise SettingsError("a cluster of several nodes needs --cluster-secret-file, the same on all of them")
