"""Which answer is asked again, with what key, and what is raised when the time is over."""

from __future__ import annotations

import pytest
from hive_client import Client, OutcomeUnknown
from hive_client.errors import CLASS_BY_CODE, HiveError
from hive_client.testing import EagerClock
from hive_client.wire import Request

from tests.clients.running import async_test, raised
from tests.clients.scripted import URLS, ScriptedWire, Step, cut, not_sent, ok, problem

STATUS_RETRY = {
    "invalid_request": (400, "no"), "invalid_cursor": (400, "no"), "unauthenticated": (401, "no"),
    "forbidden": (403, "no"), "not_found": (404, "no"), "unknown_project": (404, "no"),
    "method_not_allowed": (405, "no"), "unsupported_media_type": (415, "no"), "conflict": (409, "no"),
    "exists": (409, "no"), "stale_attempt": (409, "no"), "stale_epoch": (409, "no"), "stale_token": (409, "no"),
    "sequence_mismatch": (409, "no"), "condition_failed": (409, "no"), "lock_held": (409, "no"),
    "agent_unavailable": (409, "no"), "membership_busy": (409, "no"), "quorum_at_risk": (409, "no"),
    "node_id_used": (409, "no"), "idempotency_key_expired": (409, "no"), "compacted": (410, "no"),
    "cluster_restored": (410, "no"), "too_large": (413, "no"), "idempotency_key_reused": (422, "no"),
    "rate_limited": (429, "safe"), "queue_full": (429, "safe"), "internal": (500, "same_key"),
    "not_enabled": (501, "no"), "no_leader": (503, "safe"), "overloaded": (503, "safe"), "too_stale": (503, "safe"),
    "read_only": (503, "safe"), "shutting_down": (503, "safe"), "outcome_unknown": (504, "same_key"),
}  # fmt: skip


def client_on(wire: ScriptedWire) -> Client:
    return Client(URLS, wire=wire, clock=EagerClock(), timeout_s=10)


async def call(client: Client, kind: str) -> object:
    if kind == "read":
        return await client.tasks.get("t1")
    if kind == "write":
        return await client.tasks.create(title="x")
    return await client.tasks.renew("t1", agent_id="a1", attempt=1)


def test_every_code_of_the_api_has_a_class() -> None:
    assert set(CLASS_BY_CODE) == set(STATUS_RETRY)


@pytest.mark.parametrize("kind", ["read", "write", "signal"])
@pytest.mark.parametrize("code", sorted(STATUS_RETRY))
@async_test
async def test_a_problem_is_retried_exactly_if_the_table_says_so(code: str, kind: str) -> None:
    status, retry = STATUS_RETRY[code]
    wire = ScriptedWire(problem(status, code, retry), ok())
    client = client_on(wire)
    if retry == "no":
        error = await raised(call(client, kind), CLASS_BY_CODE[code])
        assert (error.code, error.status, error.retry, error.request_id) == (code, status, "no", "r1")
        assert len(wire.sent) == 1
    else:
        await call(client, kind)
        assert len(wire.sent) == 2


FAILURES: dict[str, Step] = {
    "cut": cut(),
    "not_sent": not_sent(),
    "504": problem(504, "outcome_unknown", "same_key"),
    "503": problem(503, "no_leader", "safe"),
    "foreign 502": ok("<html>", status=502),
}


@pytest.mark.parametrize("failure", sorted(FAILURES))
@async_test
async def test_a_repeated_write_is_the_same_bytes_under_the_same_key(failure: str) -> None:
    wire = ScriptedWire(FAILURES[failure], FAILURES[failure], FAILURES[failure], FAILURES[failure], ok())
    await client_on(wire).tasks.create(title="ä", payload={"b": 1, "a": 2})
    requests = [request for _, request in wire.sent]
    assert len(requests) == 5
    assert len({same(request) for request in requests}) == 1
    assert requests[0].key


def same(request: Request) -> tuple[object, ...]:
    return request.method, request.target, request.body, request.key, tuple(sorted(request.headers.items()))


@async_test
async def test_two_calls_have_two_keys_and_the_users_key_is_kept() -> None:
    wire = ScriptedWire(ok())
    client = client_on(wire)
    await client.tasks.create(title="x")
    await client.tasks.create(title="x")
    await client.tasks.create(title="x", idempotency_key="mine")
    keys = [request.headers["Idempotency-Key"] for _, request in wire.sent]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


@async_test
async def test_signals_and_reads_carry_no_key() -> None:
    wire = ScriptedWire(ok())
    client = client_on(wire)
    await client.agents.heartbeat("a1", epoch=1)
    await client.tasks.renew("t1", agent_id="a1", attempt=1)
    await client.tasks.progress("t1", agent_id="a1", attempt=1, fraction=0.5)
    await client.tasks.get("t1")
    assert [request.headers.get("Idempotency-Key") for _, request in wire.sent] == [None] * 4


@async_test
async def test_a_bug_in_the_server_is_asked_only_once_more() -> None:
    wire = ScriptedWire(problem(500, "internal", "same_key"))
    error = await raised(client_on(wire).tasks.create(title="x"), OutcomeUnknown)
    assert error.code == "internal"
    assert error.idempotency_key == wire.sent[0][1].key
    assert len(wire.sent) == 2


VERDICTS: list[tuple[str, list[Step], str, str]] = [
    ("never reached anybody", [not_sent()], "unreachable", "safe"),
    ("never had a leader", [problem(503, "no_leader", "safe")], "no_leader", "safe"),
    ("always cut", [cut()], "no_answer", "same_key"),
    ("cut once, then no leader", [cut(), problem(503, "no_leader", "safe")], "outcome_unknown", "same_key"),
    ("unknown once, then unreachable", [problem(504, "outcome_unknown", "same_key"), not_sent()],
     "outcome_unknown", "same_key"),
    ("cut once, then refused", [cut(), problem(409, "conflict", "no")], "conflict", "no"),
    ("cut once, then the key is too old", [cut(), problem(409, "idempotency_key_expired", "no")],
     "idempotency_key_expired", "no"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "code", "retry"), [v[1:] for v in VERDICTS], ids=[v[0] for v in VERDICTS])
@async_test
async def test_the_verdict_over_all_tries_is_true(script: list[Step], code: str, retry: str) -> None:
    wire = ScriptedWire(*script)
    error = await raised(client_on(wire).tasks.create(title="x"), HiveError)
    assert (error.code, error.retry) == (code, retry)
    assert error.idempotency_key == wire.sent[0][1].key


@async_test
async def test_a_read_that_nobody_answers_changed_nothing() -> None:
    error = await raised(client_on(ScriptedWire(cut())).tasks.get("t1"), HiveError)
    assert (error.code, error.retry) == ("unreachable", "safe")
