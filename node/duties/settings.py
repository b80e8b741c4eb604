"""What the duties are started with: durations in milliseconds, and the bounds of what a leader remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from zlib import crc32

from statemachine import settings

STAGGER_PART = 10
"""What a large fleet is asked to call by is longer by up to this part, for each agent differently."""


@dataclass(frozen=True, slots=True)
class DutySettings:
    """Defaults are what a fleet of some thousand agents needs; tests and operators may change each.

    `fallback_ms` must be the cluster's own (`cluster.settings.Timings`): memory is believed no longer than that. An
    agent that let a task go is passed over for `avoid_ms` in favour of others, and for `avoid_alone_ms` in any case.
    What has ended is kept for `ended_…_kept_ms` (0: for ever), tasks also no more than `ended_tasks_kept_max`.
    What is also a replicated setting (`statemachine.settings`) counts only where that was not set: `tuned`.
    """

    fallback_ms: int = 600
    late_tick_ms: int = 200
    tick_ms: int = 500

    offer_timeout_ms: int = 5_000
    offer_misses_max: int = 3
    avoid_ms: int = 30_000
    avoid_alone_ms: int = 2_000
    unresponsive_retry_ms: int = 60_000
    offers_per_batch: int = 256
    offers_under_way_max: int = 4
    expired_per_batch: int = 256
    reservation_ms: int = 3_000

    heartbeat_interval_ms: int = 5_000
    heartbeats_per_second_max: int = 200
    heartbeats_missed_max: int = 3

    claim_slice_ms: int = 10_000
    poll_grace_ms: int = 2_000
    retell_ms: int = 1_000
    renewed_lately_ms: int = 1_000
    claims_waiting_max: int = 20_000
    leader_call_ms: int = 2_000
    retry_ms: int = 100

    provider_cooling_ms: int = 30_000

    # Waiting that long is worth one priority.
    ageing_ms: int = 300_000
    lane_tasks_max: int = 4_096
    scan_tasks_max: int = 1_024
    metrics_bytes_max: int = 16 << 10

    ended_tasks_kept_ms: int = 7 * 24 * 3_600_000
    ended_tasks_kept_max: int = 1_000_000
    ended_sessions_kept_ms: int = 0
    retention_interval_ms: int = 30_000
    retention_pause_ms: int = 10
    removed_per_batch: int = 128

    def interval_ms(self, agent_count: int) -> int:
        """How often an agent should call, so that the whole fleet stays below `heartbeats_per_second_max`."""
        return max(self.heartbeat_interval_ms, agent_count * 1000 // self.heartbeats_per_second_max)

    def interval_of(self, agent_id: str, agent_count: int) -> int:
        """As `interval_ms`; in a fleet that is large enough to be slowed down each agent has a slightly longer one of
        its own, so that those that began together drift apart."""
        interval_ms = self.interval_ms(agent_count)
        if interval_ms == self.heartbeat_interval_ms:
            return interval_ms
        return interval_ms + crc32(agent_id.encode()) % max(1, interval_ms // STAGGER_PART)

    def probation_ms(self, probations: int) -> int:
        """How long an unresponsive agent waits until it is tried again, after so many times in vain."""
        return int(min(self.unresponsive_retry_ms, self.offer_timeout_ms << min(probations, 16)))


def tuned(started: DutySettings, values: Mapping[str, int]) -> DutySettings:
    """What a node was started with, under the replicated settings that were set."""
    return replace(started, **{name: values[name] for name in _TUNABLE & values.keys()})


def defaults(started: DutySettings) -> dict[str, int]:
    """What a node was started with, as defaults of the replicated settings."""
    return {name: getattr(started, name) for name in sorted(_TUNABLE)}


_TUNABLE = settings.SETTINGS.keys() & {field.name for field in fields(DutySettings)}
