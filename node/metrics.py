"""Prometheus' view of a node. Everything is counted where it happens, in plain integers, and read when it is asked for.

The names modelled on etcd's are those that its users have alerts for.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from cluster.replica import Metrics, Replica, View
from node.api.traffic import BUCKETS_S, Traffic
from statemachine import counters, machine, projects, queues
from statemachine.budget_record import SCOPES

CONTENT_TYPE = CONTENT_TYPE_LATEST
DISK_BUCKETS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 4.096)
QUEUES_SHOWN_MAX = 100
SNAPSHOT_BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0)


class Durations:
    """A histogram of durations, seconds."""

    __slots__ = ("bounds_s", "by_bucket", "sum_s")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self.bounds_s = bounds_s
        self.by_bucket = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one."""
        self.by_bucket[bisect_left(self.bounds_s, duration_s)] += 1
        self.sum_s += duration_s


class NodeMetrics(Collector):
    """All metrics of one node."""

    def __init__(self, replica: Replica, traffic: Traffic, version: str) -> None:
        self._replica = replica
        self._traffic = traffic
        self._version = version
        self._view: View | None = None
        self.fsync = Durations(DISK_BUCKETS_S)
        self.commit = Durations(DISK_BUCKETS_S)
        self.snapshot = Durations(SNAPSHOT_BUCKETS_S)
        replica.metrics.on_fsync = self.fsync.observe
        replica.metrics.on_commit = self.commit.observe
        replica.metrics.on_snapshot = self.snapshot.observe
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def render(self, view: View) -> bytes:
        """The text that Prometheus reads; counts of the state are those of `view`, if that is the others' too."""
        self._view = view
        try:
            return generate_latest(self._registry)
        finally:
            self._view = None

    def collect(self) -> Iterator[Metric]:
        """Everything, as families."""
        yield _gauge("hive_build_info", "Version of this node.", [((self._version,), 1)], ["version"])
        yield from self._raft()
        yield from self._disk()
        yield from self._api()
        if self._view is not None and not self._replica.out_of_service:
            yield from self._state(self._view)

    def _raft(self) -> Iterator[Metric]:
        replica = self._replica
        metrics, status, lag_ms = replica.metrics, replica.status(), replica.lag_ms()
        yield _gauge(
            "hive_raft_has_leader", "1 if this node knows a leader.", [((), int(replica.leader_id is not None))]
        )
        yield _gauge("hive_raft_is_leader", "1 if this node leads.", [((), int(replica.is_leader))])
        yield _gauge(
            "hive_raft_has_quorum", "1 if this node is in contact with a majority.", [((), int(status.has_quorum))]
        )
        yield _counter("hive_raft_leader_changes", "Changes of leader seen.", [((), metrics.leader_changes)])
        yield _gauge("hive_raft_term", "Current term.", [((), status.term)])
        yield _gauge("hive_raft_commit_index", "Last committed log index.", [((), status.commit_index)])
        yield _gauge("hive_raft_applied_index", "Last applied log index.", [((), status.applied_index)])
        behind = max(status.commit_index - status.applied_index, 0)
        yield _gauge("hive_raft_apply_lag_entries", "Entries committed and not yet applied here.", [((), behind)])
        if lag_ms is not None:
            yield _gauge("hive_raft_lag_seconds", "How old this node's state may be.", [((), lag_ms / 1_000)])
        yield _gauge("hive_raft_log_bytes", "Bytes of the log on disk.", [((), status.log_bytes)])
        yield _gauge("hive_state_bytes", "Bytes of the state on disk.", [((), status.state_bytes)])
        yield _gauge(
            "hive_raft_proposals_pending", "Proposals waiting to be applied.", [((), metrics.proposals_pending)]
        )
        for name, number in (
            ("committed", metrics.proposals_committed),
            ("applied", metrics.proposals_applied),
            ("failed", metrics.proposals_failed),
        ):
            yield _counter(f"hive_raft_proposals_{name}", f"Proposals {name}.", [((), number)])
        yield _counter(
            "hive_raft_late_ticks", "Ticks that came late: pauses of process or machine.", [((), metrics.late_ticks)]
        )
        trips = [((peer,), seconds) for peer, seconds in sorted(metrics.peer_round_trip_s.items())]
        yield _gauge("hive_network_peer_round_trip_seconds", "Last round trip to a peer.", trips, ["peer"])
        yield _gauge("hive_alarms", "Alarms of this node.", [((), len(status.alarms))])
        yield from self._integrity(metrics, status.alarms)

    @staticmethod
    def _integrity(metrics: Metrics, alarms: Sequence[str]) -> Iterator[Metric]:
        for name, what in (
            ("state_differs", "1 if this node's state is not the others': it is out of service."),
            ("states_disagree", "1 if states differ and no majority says which is right."),
            ("read_only", "1 if the cluster takes nothing that grows: a node is short of disk space."),
            ("rebuilding", "1 while this node is rebuilt from the others."),
        ):
            yield _gauge(f"hive_{name}", what, [((), int(name in alarms))])
        yield _counter("hive_state_checks", "Pieces of the state that were compared.", [((), metrics.state_checks)])
        compared = int(metrics.state_compared)
        yield _gauge("hive_state_compared", "1 once all of it was compared since the start.", [((), compared)])
        if metrics.disk_free_bytes is not None:
            yield _gauge("hive_disk_free_bytes", "Free space where the data is.", [((), metrics.disk_free_bytes)])

    def _disk(self) -> Iterator[Metric]:
        for name, what, durations in (
            ("hive_disk_wal_fsync_duration_seconds", "fsync of the log.", self.fsync),
            ("hive_disk_backend_commit_duration_seconds", "Commit of an apply transaction.", self.commit),
            ("hive_snapshot_duration_seconds", "Taking a snapshot.", self.snapshot),
        ):
            family = HistogramMetricFamily(name, what)
            family.add_metric([], _cumulated(durations.bounds_s, durations.by_bucket), durations.sum_s)
            yield family

    def _api(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("hive_api_requests", "Requests answered.", labels=["method", "path", "status"])
        durations = HistogramMetricFamily(
            "hive_api_request_duration_seconds", "Time to answer a request.", labels=["method", "path"]
        )
        for route in self._traffic.routes:
            if not route.by_status:
                continue
            for status, number in sorted(route.by_status.items()):
                requests.add_metric([route.method, route.path, str(status)], number)
            buckets = _cumulated(BUCKETS_S, route.by_bucket)
            durations.add_metric([route.method, route.path], buckets, route.sum_s)
        yield requests
        yield durations
        errors = [((code,), number) for code, number in sorted(self._traffic.errors.items())]
        yield _counter("hive_api_errors", "Error answers by code.", errors, ["code"])
        yield _gauge("hive_watch_streams_active", "Open streams of changes.", [((), self._traffic.streams_open)])

    def _state(self, view: View) -> Iterator[Metric]:
        meta, sums = machine.read_meta(view), counters.total(view)
        yield _gauge("hive_revision", "Last revision applied here.", [((), meta.revision)])
        yield _gauge(
            "hive_changes_oldest_revision", "Oldest revision kept for watchers.", [((), meta.compacted_revision + 1)]
        )
        yield _counter(
            "hive_internal_errors", "Commands refused because they met a defect.", [((), meta.internal_errors)]
        )
        known = list(projects.scan(view))
        keys = sum(project.idempotency_records for project in known)
        yield _gauge("hive_idempotency_records", "Idempotency-Keys remembered.", [((), keys)])
        count = sum(project.schedules for project in known)
        yield _gauge("hive_schedules", "Schedules, paused ones too.", [((), count)])
        for noun in ("sessions", "tasks", "agents"):
            by_status = [
                ((name.removeprefix(f"{noun}."),), number)
                for name, number in sorted(sums.items())
                if name.startswith(f"{noun}.")
            ]
            yield _gauge(f"hive_{noun}", f"{noun.capitalize()} by status.", by_status, ["status"])
        for name, what in (("budgets", "Budgets by scope."), ("budgets_exceeded", "Budgets that are used up.")):
            by_scope = [((scope,), sums.get(f"{name}.{scope}", 0)) for scope in SCOPES]
            yield _gauge(f"hive_{name}", what, by_scope, ["scope"])
        active = sum(sums.get(f"agents.{name}", 0) for name in ("online", "busy", "draining"))
        yield _gauge("hive_active_agents_total", "Agents that are there: online, busy or draining.", [((), active)])
        yield _gauge("hive_task_queue_length", "Tasks that wait for an agent.", [((), sums.get("tasks.pending", 0))])
        yield from self._queues(view)

    def _queues(self, view: View) -> Iterator[Metric]:
        """The longest queues by name: a cluster may have any number of them, a time series costs whoever keeps it."""
        lengths: list[tuple[int, str, str, int]] = []
        for project in projects.scan(view):
            for queue, count in queues.pending_counts(counters.read(view, project.number)).items():
                lengths.append((-count, project.name, queue, project.number))
        longest = heapq.nsmallest(QUEUES_SHOWN_MAX, lengths)
        pending = [((project, queue), -count) for count, project, queue, _ in longest]
        labels = ["project", "queue"]
        yield _gauge(
            "hive_queue_pending_tasks", "Tasks that wait for an agent, in the longest queues.", pending, labels
        )
        ages: list[Sample] = []
        for _, project_name, queue, number in longest:
            created_ms = queues.oldest_pending_ms(view, number, queue)
            if created_ms is not None:
                ages.append(((project_name, queue), max(0, self._replica.now_ms() - created_ms) / 1_000))
        yield _gauge(
            "hive_queue_oldest_pending_age_seconds", "Age of the oldest waiting task, longest queues.", ages, labels
        )


Sample = tuple[tuple[str, ...], float]


def _gauge(name: str, what: str, samples: Iterable[Sample], labels: Sequence[str] = ()) -> Metric:
    family = GaugeMetricFamily(name, what, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, what: str, samples: Iterable[Sample], labels: Sequence[str] = ()) -> Metric:
    """A counter; its exposed name ends in `_total`."""
    family = CounterMetricFamily(name, what, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _cumulated(bounds_s: Sequence[float], by_bucket: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, number in zip([*map(str, bounds_s), "+Inf"], by_bucket, strict=True):
        total += number
        buckets.append((bound, total))
    return buckets
