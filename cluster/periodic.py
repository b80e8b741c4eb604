"""What a core does from time to time: probes, time-outs, compaction, and leaving the lead when it is not fit for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.ports import Clock

if TYPE_CHECKING:
    from cluster.core import Core

_EXPIRE_EVERY_S = 0.02
_COMPACT_EVERY_S = 1.0
_LONG_AGO_S = -1e9


class Periodic:
    """Called every tick; each duty at its own pace."""

    def __init__(self, core: Core, clock: Clock) -> None:
        self._core = core
        self._clock = clock
        self._last_tick_s: float | None = None
        self._unfit_term, self._unfit_since_s = 0, 0.0
        self._last_probe_s = self._last_expire_s = self._last_compact_s = _LONG_AGO_S

    def tick(self) -> None:
        """Do what is due."""
        core, now = self._core, self._clock.monotonic_s()
        timings = core.options.timings
        if self._last_tick_s is not None and (now - self._last_tick_s) * 1000 > timings.late_tick_ms:
            core.metrics.late_ticks += 1
        self._last_tick_s = now
        if now - self._last_probe_s >= timings.heartbeat_ms / 1000:
            self._last_probe_s = now
            self._lead()
        if now - self._last_expire_s >= _EXPIRE_EVERY_S:
            self._last_expire_s = now
            core.proposer.expire()
            core.reads.expire()
            core.snapshots.tick()
        if now - self._last_compact_s >= _COMPACT_EVERY_S:
            self._last_compact_s = now
            self._compact_if_due()

    def _lead(self) -> None:
        core = self._core
        if not core.engine.leading:
            return
        core.contact.probe(core.engine.term, core.engine.commit_index)
        core.transport.heartbeat_installing(core.engine.term)
        core.membership.lead()
        if core.contact.alone or self.fit():
            self._unfit_term = 0
        else:
            self._leave()

    def _leave(self) -> None:
        """Hand over; and when nobody can take over, step down. With a stalled disk that is the rule: what waits for it
        is acknowledged by nobody, so nobody seems to have everything."""
        core, now = self._core, self._clock.monotonic_s()
        if self._unfit_term != core.engine.term:
            self._unfit_term, self._unfit_since_s = core.engine.term, now
        if now - self._unfit_since_s > core.options.timings.fallback_ms / 1000:
            core.engine.step_down()
        else:
            core.engine.transferLeadership()

    def fit(self) -> bool:
        """Whether this node should lead: its state is the others', its disk answers, its clock is near theirs."""
        if self._core.integrity.out_of_service:
            return False
        since_s = self._core.journal.oldest_unsynced_since_s
        stall_s = self._core.options.timings.disk_stall_ms / 1000
        stalled = since_s is not None and self._clock.monotonic_s() - since_s > stall_s
        return not stalled and not self._core.entry_time.clock_is_wrong

    def _compact_if_due(self) -> None:
        """A snapshot when the log behind the last one has grown larger than the state (and than a floor)."""
        core = self._core
        newest, behind = core.snapshots.newest, core.journal.bytes_behind
        since = newest.position.index if newest is not None else core.journal.first_index
        log_bytes = behind(core.engine.applied_index + 1) - behind(max(since, core.journal.first_index))
        if log_bytes > max(core.options.limits.snapshot_log_bytes, core.state.size_bytes()):
            core.engine.forceLogCompaction()
