"""Routes that say whether this node is up, ready, and what it is; and Prometheus' metrics."""

from __future__ import annotations

from typing import Any

import msgspec

from node.api.openapi import document_of
from node.api.problem import Problem
from node.api.query import Query
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.times import text
from node.metrics import CONTENT_TYPE, NodeMetrics

FEATURES = (
    "sessions",
    "tasks",
    "agents",
    "changes",
    "watch.sse",
    "idempotency",
    "fencing",
    "linearizable_reads",
    "membership",
)
"""What clients may look for before they use it; names are only ever added."""


class ReadyQuery(Query, kw_only=True):
    """`stale=true` asks only whether stale reads can be served."""

    stale: bool = False


class Alive(msgspec.Struct):
    """The process answers."""

    status: str = "ok"


class Check(msgspec.Struct):
    """One check: whether it passed, and a sentence."""

    ok: bool
    detail: str


class Readiness(msgspec.Struct):
    """Every check by name."""

    ready: bool
    checks: dict[str, Check]


class Info(msgspec.Struct):
    """What answers here."""

    name: str
    version: str
    api: int
    cluster_id: str
    features: list[str]
    time: str


async def livez(_: Request[Any, Any]) -> Reply:
    """The process is up and its loop runs."""
    return json_reply(Alive())


async def readyz(request: Request[ReadyQuery, Any]) -> Reply:
    """200 when every check passes, 503 with the same checks otherwise."""
    checks = _checks(request, stale=request.query.stale)
    failed = {name: check for name, check in checks.items() if not check.ok}
    if not failed:
        return json_reply(Readiness(True, checks))
    name, check = next(iter(failed.items()))
    code = {"running": "shutting_down", "leader_known": "no_leader"}.get(name, "too_stale")
    raise Problem(code, f"{name}: {check.detail}", ready=False, checks=checks)


def _checks(request: Request[ReadyQuery, Any], *, stale: bool) -> dict[str, Check]:
    api, replica = request.api, request.api.replica
    with request.view() as view:
        checks = {"state": Check(True, f"revision {view.revision}")}
    why = replica.out_of_service
    checks["in_service"] = Check(not why, why or "its state is the others'")
    checks["running"] = Check(not api.closing, "stopping" if api.closing else "taking requests")
    if stale:
        return checks
    status = replica.status()
    leader = replica.leader_id
    checks["leader_known"] = Check(leader is not None, "no leader is known" if leader is None else f"{leader} leads")
    checks["applied"] = Check(status.ready, f"applied {status.applied_index} of {status.commit_index} committed")
    return checks


async def info(request: Request[Any, Any]) -> Reply:
    """Name, versions and features."""
    replica = request.api.replica
    return json_reply(Info("hive", request.api.version, 1, replica.cluster_id, list(FEATURES), text(replica.now_ms())))


async def openapi(request: Request[Any, Any]) -> Reply:
    """The description of this API, made from the table that serves it."""
    return Reply(document_of(request.api.routes, request.api.version))


async def metrics(request: Request[Any, Any]) -> Reply:
    """Everything that is counted and measured, for Prometheus."""
    with request.view() as view:
        body = request.api.part(NodeMetrics).render(view)
    return Reply(body, content_type=CONTENT_TYPE)


ROUTES = (
    Route("GET", "/livez", livez, "Whether the process is up", "", reply=Alive, plain=True),
    Route("GET", "/readyz", readyz, "Whether the node serves", "", query=ReadyQuery, reply=Readiness, plain=True),
    Route("GET", "/health", readyz, "As /readyz", "", query=ReadyQuery, reply=Readiness, plain=True),
    Route("GET", "/metrics", metrics, "Metrics for Prometheus", "metrics:read", content_type=CONTENT_TYPE, plain=True),
    Route("GET", "/api", info, "Name, versions and features", "", reply=Info, plain=True),
    Route("GET", "/api/openapi.json", openapi, "This description", "", reply=dict[str, Any], plain=True),
)
