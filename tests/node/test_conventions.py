"""API.md section 1: what holds for every request, tried on sessions."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from node.api.problem import KINDS
from tests.node.harness import Answer, Node, with_node

HIVE_HEADERS = (
    "Hive-Revision",
    "Hive-Cluster",
    "Hive-Group",
    "Hive-Node",
    "Hive-Run",
    "Hive-Leader",
    "Hive-Lag-Ms",
    "Hive-Consistency",
    "Hive-Request-Id",
)
DEEP = b"[" * 100_000


def refused(answer: Answer, code: str, path: str | None = None) -> None:
    """A whole problem document, with this code and naming this field."""
    kind = KINDS[code]
    assert answer.status == kind.status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.json
    assert document["status"] == kind.status
    assert document["code"] == code
    assert document["retry"] == kind.retry
    assert document["title"] == kind.title
    assert document["type"].endswith(code)
    assert document["detail"]
    assert document["instance"].startswith("/")
    assert "Traceback" not in answer.raw.decode()
    if path is not None:
        assert path in [error["path"] for error in document["errors"]], document


BAD_BODIES: list[tuple[str, str, bytes, str | None]] = [
    # (method, path, body, path of the field)
    ("POST", "/api/sessions", b"{", None),
    ("POST", "/api/sessions", b"[]", None),
    ("POST", "/api/sessions", b'"x"', None),
    ("POST", "/api/sessions", b"{} {}", None),
    ("POST", "/api/sessions", b"\xef\xbb\xbf{}", None),
    ("POST", "/api/sessions", b'{"title": "\xff"}', None),
    ("POST", "/api/sessions", b'{"metadata": {"a": "\xff"}}', None),
    ("POST", "/api/sessions", b'{"metadata": {"a": NaN}}', None),
    ("POST", "/api/sessions", b'{"metadata": {"a": Infinity}}', None),
    ("POST", "/api/sessions", b'{"priority": NaN}', None),
    ("POST", "/api/sessions", b'{"title": "\\ud800"}', None),
    ("POST", "/api/sessions", b'{"metadata": ' + DEEP, None),
    ("POST", "/api/sessions", b'{"metadata": {"a": ' + DEEP + b"]" * 100_000 + b"}}", None),
    ("POST", "/api/sessions", DEEP, None),
    ("POST", "/api/sessions", b'{"zebra": 1}', "zebra"),
    ("POST", "/api/sessions", b'{"title": 5}', "title"),
    ("POST", "/api/sessions", b'{"title": "' + b"x" * 1_025 + b'"}', "title"),
    ("POST", "/api/sessions", b'{"priority": 10}', "priority"),
    ("POST", "/api/sessions", b'{"priority": -1}', "priority"),
    ("POST", "/api/sessions", b'{"priority": 5.5}', "priority"),
    ("POST", "/api/sessions", b'{"priority": true}', "priority"),
    ("POST", "/api/sessions", b'{"priority": 123456789012345678901234567890}', "priority"),
    ("POST", "/api/sessions", b'{"metadata": []}', "metadata"),
    ("POST", "/api/sessions", b'{"metadata": "x"}', "metadata"),
    ("POST", "/api/sessions", b'{"session_id": ""}', "session_id"),
    ("POST", "/api/sessions", b'{"session_id": "."}', "session_id"),
    ("POST", "/api/sessions", b'{"session_id": ".."}', "session_id"),
    ("POST", "/api/sessions", b'{"session_id": "a b"}', "session_id"),
    ("POST", "/api/sessions", b'{"session_id": "a/b"}', "session_id"),
    ("POST", "/api/sessions", b'{"session_id": "a\\n"}', "session_id"),
    ("POST", "/api/sessions", b'{"session_id": "\xc3\xa4"}', "session_id"),
    ("POST", "/api/sessions", b'{"session_id": "batch"}', "session_id"),
    ("POST", "/api/sessions", b'{"session_id": "claim"}', "session_id"),
    ("POST", "/api/sessions", b'{"session_id": "' + b"x" * 129 + b'"}', "session_id"),
    ("POST", "/api/sessions", b'{"expires_at": 5}', "expires_at"),
    ("POST", "/api/sessions", b'{"expires_at": "tomorrow"}', "expires_at"),
    ("POST", "/api/sessions", b'{"expires_at": "2026-01-01T00:00:00"}', "expires_at"),
    ("POST", "/api/sessions", b'{"expires_at": "1969-12-31T23:59:59Z"}', "expires_at"),
    ("POST", "/api/sessions", b'{"user": ""}', "user"),
    ("PATCH", "/api/sessions/s1", b'{"status": "expired"}', "status"),
    ("PATCH", "/api/sessions/s1", b'{"priority": null}', "priority"),
    ("PATCH", "/api/sessions/s1", b'{"session_id": "s2"}', "session_id"),
    ("PATCH", "/api/sessions/s1", b'{"metadata": 5}', "metadata"),
    ("POST", "/api/sessions/s1/events", b"{}", "type"),
    ("POST", "/api/sessions/s1/events", b'{"type": ""}', "type"),
    ("POST", "/api/sessions/s1/events", b'{"type": "plain"}', "type"),
    ("POST", "/api/sessions/s1/events", b'{"type": "no.such.type"}', "type"),
    ("POST", "/api/sessions/s1/events", b'{"items": []}', "items"),
    ("POST", "/api/sessions/s1/events", b'{"items": [{"type": "custom.a"}, {}]}', "items[1].type"),
    ("POST", "/api/sessions/s1/events", b'{"items": [{"type": "custom.a", "x": 1}]}', "items[0].x"),
    ("POST", "/api/sessions/s1/events", b'{"items": [{"type": "a.b"}]}', "items[0].type"),
    ("POST", "/api/sessions/s1/events", b'{"items": [{"type": "custom.a"}], "type": "custom.b"}', "items"),
    ("POST", "/api/sessions/s1/events", b'{"items": [{"type": "custom.a"}], "actor": "me"}', "actor"),
    ("POST", "/api/sessions/s1/events", b'{"items": [{"type": "custom.a"}], "data": {}}', "data"),
    ("POST", "/api/sessions/s1/events", b'{"type": "custom.a", "expected_seq": -1}', "expected_seq"),
    ("POST", "/api/sessions/s1/events", b'{"type": "custom.a", "usage": {"cost_usd": -1}}', "usage.cost_usd"),
    ("POST", "/api/sessions/s1/events", b'{"type": "custom.a", "usage": {"tokens": 1}}', "usage.tokens"),
    ("POST", "/api/sessions/s1/events", b'{"type": "custom.a", "usage": {"input_tokens": 1.5}}', "usage.input_tokens"),
    ("POST", "/api/sessions/s1/events", b'{"type": "custom.a", "artifacts": [{"blob": "x"}]}', "artifacts[0].blob"),
    ("POST", "/api/projects", b"{}", "project"),
    ("POST", "/api/projects", b'{"project": "a b"}', "project"),
    ("POST", "/api/cluster/transfer-leadership", b'{"to": 5}', "to"),
    ("POST", "/api/cluster/transfer-leadership", b'{"to": "n9"}', "to"),
    ("DELETE", "/api/sessions/s1", b'{"force": true}', "force"),
]


def test_bad_bodies_are_refused_with_their_path_and_nothing_is_proposed() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        before = node.replica.index
        for method, path, body, field in BAD_BODIES:
            answer = await node.ask(method, path, data=body)
            refused(answer, "invalid_request", field)
            assert node.replica.index == before, body[:80]

    with_node(test)


BAD_TARGETS: list[tuple[str, str, str | None]] = [
    ("/api/sessions?foo=1", "invalid_request", "foo"),
    ("/api/sessions?limit=0", "invalid_request", "limit"),
    ("/api/sessions?limit=1001", "invalid_request", "limit"),
    ("/api/sessions?limit=x", "invalid_request", "limit"),
    ("/api/sessions?limit=1&limit=2", "invalid_request", "limit"),
    ("/api/sessions?order=up", "invalid_request", "order"),
    ("/api/sessions?status=active,sleeping", "invalid_request", "status"),
    ("/api/sessions?updated_since=yesterday", "invalid_request", "updated_since"),
    ("/api/sessions?updated_since=1700000000", "invalid_request", "updated_since"),
    ("/api/sessions?fields=title,zebra", "invalid_request", "fields"),
    ("/api/sessions?consistency=eventual", "invalid_request", "consistency"),
    ("/api/sessions?min_revision=-1", "invalid_request", "min_revision"),
    ("/api/sessions?timeout_ms=0", "invalid_request", "timeout_ms"),
    ("/api/sessions?timeout_ms=60001", "invalid_request", "timeout_ms"),
    ("/api/sessions?project=a%20b", "invalid_request", "project"),
    ("/api/sessions?title=%ff", "invalid_request", None),
    ("/api/sessions?cursor=zebra", "invalid_cursor", None),
    ("/api/sessions/a%20b", "invalid_request", "session_id"),
    ("/api/sessions/batch", "invalid_request", "session_id"),
    ("/api/sessions/%ff", "invalid_request", None),
    ("/api/sessions/" + "x" * 129, "invalid_request", "session_id"),
    ("/api/sessions/s1/events?after_seq=-1", "invalid_request", "after_seq"),
    ("/api/sessions/s1/events?wait_ms=60001", "invalid_request", "wait_ms"),
    ("/api/sessions/unknown", "not_found", None),
    ("/api/sessions/unknown/events", "not_found", None),
    ("/api/sessions?project=unknown", "unknown_project", None),
    ("/api/nothing", "not_found", None),
    ("/nothing", "not_found", None),
    ("/api/v2/sessions", "not_found", None),
    ("/api/v1/v1/sessions", "not_found", None),
    ("/api/changes?topics=zebra", "invalid_request", "topics"),
    ("/api/changes?data=all", "invalid_request", "data"),
    ("/api/changes?from_revision=-1", "invalid_request", "from_revision"),
    ("/api/watch?topics=zebra", "invalid_request", "topics"),
    ("/api/locks", "not_enabled", None),
    ("/api/locks/l1", "not_enabled", None),
    ("/api/memories/m1/x", "not_enabled", None),
    ("/api/sessions/s1/tree", "not_enabled", None),
    ("/ws", "not_enabled", None),
    ("/", "not_enabled", None),
]


def test_bad_targets_are_refused() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        before = node.replica.index
        for target, code, field in BAD_TARGETS:
            refused(await node.get(target), code, field)
        assert node.replica.index == before

    with_node(test)


def test_bad_headers_of_writes_are_refused_and_nothing_is_proposed() -> None:
    cases = [
        ({"Idempotency-Key": ""}, "Idempotency-Key"),
        ({"Idempotency-Key": '""'}, "Idempotency-Key"),
        ({"Idempotency-Key": "x" * 129}, "Idempotency-Key"),
        ({"Idempotency-Key": "k", "Idempotency-Ttl-Ms": "0"}, "Idempotency-Ttl-Ms"),
        ({"Idempotency-Key": "k", "Idempotency-Ttl-Ms": "-5"}, "Idempotency-Ttl-Ms"),
        ({"Idempotency-Key": "k", "Idempotency-Ttl-Ms": "soon"}, "Idempotency-Ttl-Ms"),
        ({"Hive-Fence": "task/t1"}, "Hive-Fence"),
        ({"Hive-Fence": "house/t1/1"}, "Hive-Fence"),
        ({"Hive-Fence": "task/t 1/1"}, "Hive-Fence"),
        ({"Hive-Fence": "task/t1/-1"}, "Hive-Fence"),
        ({"Hive-Fence": "task/t1/99999999999999999999"}, "Hive-Fence"),
        ({"Hive-Project": "a b"}, "Hive-Project"),
        ({"Hive-Project": ""}, "Hive-Project"),
    ]

    async def test(node: Node) -> None:
        before = node.replica.index
        for headers, field in cases:
            refused(await node.post("/api/sessions", {}, headers=headers), "invalid_request", field)
        assert node.replica.index == before

    with_node(test)


def test_every_reply_carries_the_hive_headers() -> None:
    async def test(node: Node) -> None:
        created = await node.post("/api/sessions", {"session_id": "s1"})
        answers = [
            created,
            await node.get("/api/sessions/s1"),
            await node.get("/api/nothing"),
            await node.post("/api/sessions", {"x": 1}),
            await node.ask("HEAD", "/api/sessions/s1"),
            await node.ask("OPTIONS", "/api/sessions/s1"),
            await node.get("/livez"),
            await node.get("/metrics"),
        ]
        for answer in answers:
            for name in HIVE_HEADERS:
                assert name in answer.headers, (name, answer)
            assert answer.headers["Hive-Revision"] == "1"
            assert answer.headers["Hive-Node"] == "n1"
            assert answer.headers["Hive-Leader"] == "n1"
            assert answer.headers["Hive-Group"] == "0"
            assert answer.headers["Hive-Cluster"] == node.replica.cluster_id
            assert answer.headers["Hive-Run"] == node.replica.run_id
            assert answer.headers["Hive-Lag-Ms"] == "0"
        assert created.headers["Hive-Consistency"] == "linearizable"
        assert answers[1].headers["Hive-Consistency"] == "stale"
        node.replica.follow()
        assert (await node.get("/livez")).headers["Hive-Leader"] == ""

    with_node(test)


def test_the_request_id_is_taken_or_made() -> None:
    async def test(node: Node) -> None:
        taken = await node.get("/livez", headers={"Hive-Request-Id": "mine-1"})
        assert taken.headers["Hive-Request-Id"] == "mine-1"
        first, second = await node.get("/livez"), await node.get("/livez")
        assert first.headers["Hive-Request-Id"] != second.headers["Hive-Request-Id"]
        odd = await node.get("/livez", headers={"Hive-Request-Id": "x" * 129})
        assert odd.headers["Hive-Request-Id"] != "x" * 129

    with_node(test)


def test_a_project_is_named_by_header_or_parameter_and_made_by_writes_only() -> None:
    async def test(node: Node) -> None:
        assert (await node.get("/api/sessions")).json == {"items": [], "next_cursor": None}
        refused(await node.get("/api/sessions", headers={"Hive-Project": "p1"}), "unknown_project")
        made = await node.post("/api/sessions?project=p1", {"session_id": "s1"})
        assert made.status == 201
        assert made.json["project"] == "p1"
        both = await node.get("/api/sessions/s1?project=p1", headers={"Hive-Project": "p1"})
        assert both.status == 200
        refused(await node.get("/api/sessions/s1"), "not_found")
        differing = await node.get("/api/sessions/s1?project=p1", headers={"Hive-Project": "p2"})
        refused(differing, "invalid_request", "project")
        refused(await node.ask("PATCH", "/api/sessions/s1?project=p3", {"title": "x"}), "unknown_project")

    with_node(test)


def test_projects_are_not_made_by_writes_when_that_is_turned_off() -> None:
    async def test(node: Node) -> None:
        refused(await node.post("/api/sessions?project=p1", {}), "unknown_project")
        assert (await node.post("/api/projects", {"project": "p1"})).status == 201
        assert (await node.post("/api/sessions?project=p1", {})).status == 201
        assert (await node.post("/api/sessions", {})).status == 201

    with_node(test, auto_create_projects=False)


def test_projects() -> None:
    async def test(node: Node) -> None:
        assert [p["project"] for p in (await node.get("/api/projects")).json["items"]] == ["default"]
        made = await node.post("/api/projects", {"project": "p1"})
        assert (made.status, made.headers["Location"]) == (201, "/api/projects/p1")
        assert made.json == {
            "project": "p1",
            "created_at": "2026-01-01T00:00:00.000Z",
            "revision": 1,
            "created_revision": 1,
        }
        again = await node.post("/api/projects", {"project": "p1"})
        assert (again.status, again.json["revision"]) == (200, 1)
        assert again.headers["Hive-Revision"] == "1"
        assert (await node.get("/api/projects/p1")).json == made.json
        refused(await node.get("/api/projects/p2"), "unknown_project")
        await node.post("/api/sessions", {})
        listed = await node.get("/api/projects?order=asc")
        assert sorted(p["project"] for p in listed.json["items"]) == ["default", "p1"]

    with_node(test)


def test_v1_is_an_alias() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/v1/sessions", {"session_id": "s1"})
        assert (await node.get("/api/sessions/s1")).json == (await node.get("/api/v1/sessions/s1")).json
        assert (await node.get("/api/v1")).json["api"] == 1

    with_node(test)


def test_methods() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        wrong = await node.ask("PUT", "/api/sessions/s1", {})
        refused(wrong, "method_not_allowed")
        assert wrong.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
        options = await node.ask("OPTIONS", "/api/sessions/s1")
        assert (options.status, options.headers["Allow"]) == (200, wrong.headers["Allow"])
        refused(await node.ask("OPTIONS", "/api/nothing"), "not_found")
        refused(await node.ask("PROPFIND", "/api/sessions"), "method_not_allowed")
        got, head = await node.get("/api/sessions/s1"), await node.ask("HEAD", "/api/sessions/s1")
        assert (head.status, head.raw) == (200, b"")
        assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.raw))

    with_node(test)


def test_bodies_are_read_whatever_their_type_unless_a_browser_sends_them() -> None:
    async def test(node: Node) -> None:
        plain = await node.ask("POST", "/api/sessions", data=b"{}", headers={"Content-Type": "text/plain"})
        assert plain.status == 201
        origin = {"Origin": "http://example.com"}
        refused(
            await node.ask("POST", "/api/sessions", data=b"{}", headers={**origin, "Content-Type": "text/plain"}),
            "unsupported_media_type",
        )
        refused(await node.ask("POST", "/api/cluster/snapshot", headers=origin), "unsupported_media_type")
        told = {**origin, "Content-Type": "application/json; charset=utf-8"}
        assert (await node.ask("POST", "/api/sessions", data=b"{}", headers=told)).status == 201
        assert (await node.get("/api/sessions", headers=origin)).status == 200
        packed = await node.ask("POST", "/api/sessions", data=b"{}", headers={"Content-Encoding": "gzip"})
        refused(packed, "unsupported_media_type")

    with_node(test)


def test_chunked_bodies_and_expect() -> None:
    async def test(node: Node) -> None:
        head = b"POST /api/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        chunked = await node.raw(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
        assert chunked.startswith(b"HTTP/1.1 201 ")
        expected = await node.raw(head + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}")
        assert expected.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ")
        odd = await node.raw(head + b"Content-Length: 2\r\nExpect: tea\r\n\r\n{}")
        assert odd.startswith(b"HTTP/1.1 400 ")

    with_node(test)


def test_what_is_not_http_gets_a_problem_document() -> None:
    async def test(node: Node) -> None:
        for garbage in (b"GARBAGE\r\n\r\n", b"GET /api/\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
            head, _, body = (await node.raw(garbage)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n")
            assert json.loads(body)["code"] == "invalid_request"
        assert (await node.get("/livez")).status == 200

    with_node(test)


def test_connections_are_kept_and_closed_as_asked() -> None:
    async def test(node: Node) -> None:
        twice = await node.raw(
            b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert twice.count(b"HTTP/1.1 200 OK") == 2
        assert twice.count(b"Connection: close") == 1
        old = await node.raw(b"GET /livez HTTP/1.0\r\n\r\n")
        assert b"Connection: close" in old
        absolute = await node.raw(b"GET http://x/livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert absolute.startswith(b"HTTP/1.1 200 OK")

    with_node(test)


def too_large(answer: Answer, limit_name: str, limit_bytes: int) -> None:
    refused(answer, "too_large")
    assert answer.json["limit_name"] == limit_name
    assert answer.json["limit_bytes"] == limit_bytes


def test_limits_of_size() -> None:
    kib, mib = 1 << 10, 1 << 20

    def event(size: int) -> dict[str, Any]:
        return {"type": "custom.a", "data": {"x": "y" * (size - len('{"x": ""}'))}}

    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        before = node.replica.index
        too_large(await node.ask("POST", "/api/sessions", data=io.BytesIO(b" " * (mib + 1))), "request_bytes_max", mib)
        chunks = (b" " * 65_536 for _ in range(17))

        async def stream() -> Any:
            for chunk in chunks:
                yield chunk

        too_large(await node.ask("POST", "/api/sessions", data=stream()), "request_bytes_max", mib)
        too_large(
            await node.ask("POST", "/api/sessions/s1/events", data=io.BytesIO(b" " * (4 * mib + 1))),
            "batch_bytes_max",
            4 * mib,
        )
        big = {"metadata": {"x": "y" * (16 * kib)}}
        answer = await node.post("/api/sessions", big)
        too_large(answer, "metadata_bytes_max", 16 * kib)
        assert answer.json["errors"][0]["path"] == "metadata"
        over = await node.post("/api/sessions/s1/events", event(256 * kib + 1))
        too_large(over, "event_data_bytes_max", 256 * kib)
        many = await node.post("/api/sessions/s1/events", {"items": [{"type": "custom.a"}] * 1_001})
        refused(many, "too_large", "items")
        assert many.json["limit_name"] == "batch_items_max"
        assert node.replica.index == before
        assert (await node.post("/api/sessions/s1/events", event(256 * kib))).status == 201
        assert (await node.post("/api/sessions/s1/events", {"items": [{"type": "custom.a"}] * 1_000})).status == 201
        assert (await node.post("/api/sessions/s1/events", {"items": [event(200 * kib)] * 15})).status == 201

    with_node(test)


def test_no_leader() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        node.replica.follow()
        answer = await node.post("/api/sessions", {}, headers={"Idempotency-Key": "k"})
        refused(answer, "no_leader")
        assert answer.json["retry_after_ms"] > 0
        assert int(answer.headers["Retry-After"]) >= 1
        refused(await node.get("/api/sessions?consistency=linearizable"), "no_leader")
        assert (await node.get("/api/sessions/s1")).status == 200

    with_node(test)


def test_a_defect_is_answered_without_a_trace_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test(node: Node) -> None:
        def broken() -> Any:
            raise ZeroDivisionError("secret detail")

        node.replica.status = broken  # type: ignore[method-assign]  # a replica with a defect
        answer = await node.get("/api/status/cluster")
        refused(answer, "internal")
        assert b"secret detail" not in answer.raw
        assert b"ZeroDivision" not in answer.raw
        assert (await node.get("/livez")).status == 200

    with_node(test)
    assert "secret detail" in caplog.text


def test_codes_are_those_of_the_contract() -> None:
    assert {code: (kind.status, kind.retry) for code, kind in KINDS.items()} == {
        "invalid_request": (400, "no"),
        "invalid_cursor": (400, "no"),
        "unauthenticated": (401, "no"),
        "forbidden": (403, "no"),
        "not_found": (404, "no"),
        "unknown_project": (404, "no"),
        "method_not_allowed": (405, "no"),
        "unsupported_media_type": (415, "no"),
        "conflict": (409, "no"),
        "exists": (409, "no"),
        "stale_attempt": (409, "no"),
        "stale_epoch": (409, "no"),
        "stale_token": (409, "no"),
        "sequence_mismatch": (409, "no"),
        "condition_failed": (409, "no"),
        "lock_held": (409, "no"),
        "agent_unavailable": (409, "no"),
        "membership_busy": (409, "no"),
        "quorum_at_risk": (409, "no"),
        "node_id_used": (409, "no"),
        "idempotency_key_expired": (409, "no"),
        "compacted": (410, "no"),
        "cluster_restored": (410, "no"),
        "too_large": (413, "no"),
        "idempotency_key_reused": (422, "no"),
        "rate_limited": (429, "safe"),
        "queue_full": (429, "safe"),
        "internal": (500, "same_key"),
        "not_enabled": (501, "no"),
        "no_leader": (503, "safe"),
        "overloaded": (503, "safe"),
        "too_stale": (503, "safe"),
        "read_only": (503, "safe"),
        "shutting_down": (503, "safe"),
        "outcome_unknown": (504, "same_key"),
    }
