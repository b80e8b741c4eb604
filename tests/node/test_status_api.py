"""Health, status, membership, metrics: API.md section 2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from cluster.replica import ReplicaStatus
from node.api.context import Api
from node.api.live import AgentLive, AgentPerformance, LiveAgents, LivePerformance, NoLive
from tests.node.harness import Node, run, running, with_node
from tests.node.test_conventions import refused


def test_livez_and_readyz() -> None:
    async def test(node: Node) -> None:
        assert (await node.get("/livez")).json == {"status": "ok"}
        for path in ("/readyz", "/health"):
            ready = await node.get(path)
            assert (ready.status, ready.json["ready"]) == (200, True)
            assert set(ready.json["checks"]) == {"state", "in_service", "running", "leader_known", "applied"}
            assert all(check["ok"] for check in ready.json["checks"].values())
        node.replica.follow()
        lost = await node.get("/readyz")
        refused(lost, "no_leader")
        assert lost.json["ready"] is False
        assert lost.json["checks"]["leader_known"]["ok"] is False
        assert lost.json["checks"]["state"]["ok"] is True
        assert (await node.get("/readyz?stale=true")).status == 200
        assert (await node.get("/livez")).status == 200

    with_node(test)


def test_a_node_that_stops_or_lags_is_not_ready() -> None:
    async def test(node: Node) -> None:
        real = node.replica.status
        node.replica.status = lambda: replace(real(), ready=False)  # type: ignore[method-assign]  # still catching up
        lagging = await node.get("/readyz")
        refused(lagging, "too_stale")
        assert lagging.json["checks"]["applied"]["ok"] is False
        node.replica.status = real  # type: ignore[method-assign]  # and now has caught up
        node.api.close()
        refused(await node.get("/readyz"), "shutting_down")
        refused(await node.get("/readyz?stale=true"), "shutting_down")
        refused(await node.get("/api/sessions"), "shutting_down")
        assert (await node.get("/livez")).status == 200

    with_node(test)


def test_info() -> None:
    async def test(node: Node) -> None:
        info = (await node.get("/api")).json
        assert info["name"] == "hive"
        assert (info["version"], info["api"]) == ("0.1.0", 1)
        assert info["cluster_id"] == node.replica.cluster_id
        assert "watch.sse" in info["features"]
        assert info["time"] == "2026-01-01T00:00:00.000Z"

    with_node(test)


def test_cluster_status() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {}, headers={"Idempotency-Key": "k1"})
        node.time.advance(5_000)
        await node.post("/api/sessions?project=p1", {}, headers={"Idempotency-Key": "k1"})
        status = (await node.get("/api/status/cluster")).json
        assert status["cluster_id"] == node.replica.cluster_id
        assert (status["node_id"], status["role"], status["leader_id"], status["term"]) == ("n1", "leader", "n1", 1)
        assert (status["group"], status["revision"]) == (0, 2)
        assert status["commit_index"] == status["applied_index"] == 3
        assert status["has_quorum"] is True
        assert status["version"] == status["cluster_version"] == "0.1.0"
        assert status["counts"]["sessions"]["active"] == 2
        assert status["counts"]["tasks"]["pending"] == 0
        assert status["counts"]["agents"]["online"] == 0
        assert status["idempotency"] == {"records": 2, "oldest_at": "2026-01-01T00:00:00.000Z"}
        assert status["changes"] == {"oldest_revision": 1}
        assert status["alarms"] == []
        member = status["members"][0]
        assert {name: member[name] for name in ("node_id", "role", "voter", "connected", "lag_entries", "version")} == {
            "node_id": "n1",
            "role": "leader",
            "voter": True,
            "connected": True,
            "lag_entries": 0,
            "version": "0.1.0",
        }
        assert set(member) >= {"peer_address", "http_address", "match_index", "last_contact_ms"}
        assert (await node.get("/api/cluster/members")).json == {"items": status["members"], "next_cursor": None}

    with_node(test)


def test_operating_the_cluster() -> None:
    async def test(node: Node) -> None:
        taken = await node.post("/api/cluster/snapshot")
        assert (taken.status, taken.json) == (200, {"index": 1})
        refused(await node.post("/api/cluster/transfer-leadership", {"to": "n9"}), "invalid_request", "to")
        refused(await node.post("/api/cluster/transfer-leadership", {"to": None}), "no_leader")

        async def transfer(to: str | None, timeout_s: float) -> str:
            return to or "n2"

        node.replica.transfer_leadership = transfer  # type: ignore[method-assign]  # a cluster with somebody to hand to
        moved = await node.post("/api/cluster/transfer-leadership", {})
        assert (moved.status, moved.json) == (200, {"leader_id": "n2", "term": 1})

    with_node(test)


def test_one_member() -> None:
    async def test(node: Node) -> None:
        members = (await node.get("/api/cluster/members")).json["items"]
        for query in ("", "?until=voter&wait_ms=60000"):
            assert (await node.get("/api/cluster/members/n1" + query)).json == members[0]
        refused(await node.get("/api/cluster/members/n9"), "not_found")
        refused(await node.get("/api/cluster/members/n1?until=leader"), "invalid_request", "until")

    with_node(test)


def test_a_member_is_awaited_until_it_votes() -> None:
    async def test(node: Node) -> None:
        real, looks = node.replica.status, 0

        def status() -> ReplicaStatus:
            nonlocal looks
            looks += 1
            now = real()
            return replace(now, members=tuple(replace(member, voter=looks > 2) for member in now.members))

        node.replica.status = status  # type: ignore[method-assign]  # a learner that is promoted in the end
        assert (await node.get("/api/cluster/members/n1?until=voter")).json["voter"] is False
        looks = 0
        assert (await node.get("/api/cluster/members/n1?until=voter&wait_ms=60000")).json["voter"] is True
        assert looks == 3

    with_node(test)


class Fleet(NoLive):
    """A leader that knows one agent."""

    async def live_agents(self, agent_ids: Sequence[str] | None, timeout_s: float) -> LiveAgents:
        return LiveAgents(1_000, (AgentLive("a1", 500, 2, True, b'{"cpu_usage": 0.5}'),))

    async def performance(self, timeout_s: float) -> LivePerformance:
        return LivePerformance(1_000, (AgentPerformance("a1", 1, 12.5, 0.2, 0.9, 0.1, 3),))


def with_fleet(api: Api) -> None:
    api.live = Fleet()


def test_the_fleet_at_a_glance() -> None:
    async def test() -> None:
        async with running(with_fleet) as node:
            registered = await node.post("/api/agents", {"agent_id": "a1", "max_concurrent": 2})
            assert registered.status == 201
            status = (await node.get("/api/status/agents")).json
            assert (status["as_of"], status["total"], status["truncated"]) == ("1970-01-01T00:00:01.000Z", 1, False)
            assert status["counts"]["online"] == 1
            agent = status["items"][0]
            assert (agent["agent_id"], agent["status"], agent["held"], agent["free_slots"]) == ("a1", "online", 0, 2)
            assert (agent["last_seen"], agent["metrics"]) == ("1970-01-01T00:00:00.500Z", {"cpu_usage": 0.5})
            node.api.live = NoLive()
            unknown = (await node.get("/api/status/agents")).json
            assert unknown["as_of"] is None
            assert (unknown["items"][0]["last_seen"], unknown["items"][0]["free_slots"]) == (None, None)

    run(test())


def test_live_adds_what_only_the_leader_knows() -> None:
    async def test() -> None:
        async with running(with_fleet) as node:
            await node.post("/api/agents", {"agent_id": "a1", "max_concurrent": 2})
            assert "live" not in (await node.get("/api/status/cluster")).json
            cluster = (await node.get("/api/status/cluster?live=true")).json["live"]
            assert cluster == {"as_of": "1970-01-01T00:00:01.000Z", "agents": 1, "open_polls": 1, "free_slots": 2}
            assert "live" not in (await node.get("/api/status/agents")).json["items"][0]
            agent = (await node.get("/api/status/agents?live=true")).json["items"][0]["live"]
            assert (agent["as_of"], agent["free_slots"]) == ("1970-01-01T00:00:01.000Z", 2)
            node.api.live = NoLive()
            assert (await node.get("/api/status/cluster?live=true")).json["live"] is None
            assert (await node.get("/api/status/agents?live=true")).json["items"][0]["live"] is None

    run(test())


def test_performance() -> None:
    async def test() -> None:
        async with running(with_fleet) as node:
            for _ in range(6):
                await node.post("/api/sessions", {})
            figures = (await node.get("/api/metrics/performance")).json
            assert figures["window_s"] == 60
            assert figures["rates"]["requests"] == figures["rates"]["revisions"] == 0.1
            assert figures["rates"]["sessions_created"] == 0.1
            latency = figures["latency_ms"]
            assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
            assert figures["queues"]["pending"] == 0
            assert figures["agents"] == [
                {
                    "agent_id": "a1",
                    "active_tasks": 1,
                    "tokens_per_second": 12.5,
                    "response_time": 0.2,
                    "success_rate": 0.9,
                    "error_rate": 0.1,
                    "retry_count": 3,
                }
            ]
            node.api.live = NoLive()
            assert (await node.get("/api/metrics/performance")).json["agents"] is None

    run(test())


METRICS = {
    "hive_build_info",
    "hive_raft_has_leader",
    "hive_raft_leader_changes_total",
    "hive_raft_proposals_pending",
    "hive_raft_proposals_committed_total",
    "hive_raft_proposals_applied_total",
    "hive_raft_proposals_failed_total",
    "hive_raft_apply_lag_entries",
    "hive_disk_wal_fsync_duration_seconds_bucket",
    "hive_disk_backend_commit_duration_seconds_bucket",
    "hive_snapshot_duration_seconds_bucket",
    "hive_network_peer_round_trip_seconds",
    "hive_active_agents_total",
    "hive_task_queue_length",
    "hive_api_request_duration_seconds_bucket",
    "hive_api_errors_total",
    "hive_sessions",
    "hive_revision",
}


def test_metrics() -> None:
    async def test(node: Node) -> None:
        node.replica.metrics.peer_round_trip_s["n2"] = 0.001
        assert node.replica.metrics.on_fsync is not None
        node.replica.metrics.on_fsync(0.003)
        await node.post("/api/sessions", {})
        await node.get("/api/sessions/unknown")
        await node.get("/api/nothing")
        await node.post("/api/agents", {"agent_id": "a1"})
        await node.post("/api/tasks", {})
        answer = await node.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.raw.decode()
        samples = {
            name: float(value) for name, value in re.findall(r"^(hive_[^ ]+) ([0-9.e+-]+)$", text, flags=re.MULTILINE)
        }
        families = {name.partition("{")[0] for name in samples}
        assert families >= METRICS, METRICS - families
        assert samples["hive_raft_has_leader"] == 1
        assert samples['hive_sessions{status="active"}'] == 1
        assert samples["hive_active_agents_total"] == 1
        assert samples["hive_task_queue_length"] == 1
        assert samples['hive_api_errors_total{code="not_found"}'] == 2
        assert samples['hive_api_requests_total{method="POST",path="/api/sessions",status="201"}'] == 1
        assert samples['hive_api_requests_total{method="GET",path="/api/sessions/{session_id}",status="404"}'] == 1
        assert samples['hive_api_request_duration_seconds_count{method="POST",path="/api/sessions"}'] == 1
        assert samples['hive_disk_wal_fsync_duration_seconds_bucket{le="0.002"}'] == 0
        assert samples['hive_disk_wal_fsync_duration_seconds_bucket{le="0.004"}'] == 1
        assert samples["hive_disk_wal_fsync_duration_seconds_sum"] == 0.003

    with_node(test)
