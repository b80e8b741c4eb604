"""Records, keys, endpoints, the lease clock: the small parts."""

from __future__ import annotations

import ast
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import hive_client
import pytest
from hive_client.endpoints import ENDPOINTS_MAX, EndpointPool, parse_endpoints
from hive_client.errors import HiveError, NoLeader, NotFound, OutcomeUnknown, Refused, Unavailable
from hive_client.idempotency import uuid7
from hive_client.models import Task
from hive_client.problem import error_from_reply
from hive_client.testing import ManualClock
from hive_client.worker.lease import Lease


def test_a_record_reads_what_it_knows_and_keeps_the_rest() -> None:
    task = Task.from_json(
        {
            "task_id": "t1", "status": "levitating", "priority": "nine", "attempt": True, "labels": None,
            "created_at": "2026-03-01T10:00:00.123Z", "completed_at": "soon", "novelty": {"x": 1},
            "failure": {"reason": "error", "attempt": 2, "novelty": 1}, "progress": None, "depends_on": "t0",
        }
    )  # fmt: skip
    assert (task.task_id, task.status, task.ended) == ("t1", "levitating", False)
    assert (task.priority, task.attempt, task.labels, task.depends_on) == (5, 0, {}, [])
    assert task.created_at == datetime(2026, 3, 1, 10, 0, 0, 123000, tzinfo=UTC)
    assert task.completed_at is None
    assert task.failure is not None
    assert (task.failure.reason, task.failure.attempt) == ("error", 2)
    assert task.raw["novelty"] == {"x": 1}
    assert Task.from_json(["not", "an", "object"]) == Task()


def test_keys_are_version_7_and_carry_their_time() -> None:
    key = uuid.UUID(uuid7(now_ms=0x0123456789AB))
    assert (key.version, key.variant) == (7, uuid.RFC_4122)
    assert key.int >> 80 == 0x0123456789AB
    assert len({uuid7(now_ms=1) for _ in range(100)}) == 100
    assert uuid7(now_ms=1) < uuid7(now_ms=2)


def test_endpoints_come_as_text_list_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_endpoints("http://a:1, https://b:2/,a:1") == ["http://a:1", "https://b:2"]
    assert parse_endpoints(["127.0.0.1:7410"]) == ["http://127.0.0.1:7410"]
    monkeypatch.setenv("HIVE_ENDPOINTS", "http://c:3,http://d:4")
    assert parse_endpoints(None) == ["http://c:3", "http://d:4"]
    monkeypatch.delenv("HIVE_ENDPOINTS")
    assert parse_endpoints(None) == ["http://127.0.0.1:7400"]


@pytest.mark.parametrize(
    "bad", ["", "ftp://a:1", "http://", "http://a?x=1", [f"h{n}" for n in range(ENDPOINTS_MAX + 1)]]
)
def test_what_is_no_endpoint_is_refused(bad: str | list[str]) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        parse_endpoints(bad)


def test_a_pool_moves_on_once_however_many_calls_failed_there() -> None:
    pool = EndpointPool(["a", "b", "c"])
    pool.failed("a")
    pool.failed("a")
    assert pool.current == "b"
    assert pool.pick({"b"}) == "c"
    assert pool.pick({"a", "b", "c"}) is None


def test_a_lease_counts_from_when_it_was_sent_and_never_shrinks() -> None:
    clock = ManualClock(100)
    lease = Lease(clock, sent_at=100, lease_ms=60_000)
    assert lease.stop_at == 158
    clock.advance(20)
    lease.extend(sent_at=110, remaining_ms=60_000)
    lease.extend(sent_at=105, remaining_ms=60_000)
    assert lease.stop_at == 168
    lease.extend(sent_at=120, remaining_ms=None)
    assert lease.stop_at == 178
    assert Lease(clock, sent_at=100, lease_ms=1000).stop_at == pytest.approx(100.8)


def test_what_is_left_at_the_end_of_a_long_poll_is_not_counted_from_its_beginning() -> None:
    clock = ManualClock(100)
    lease = Lease(clock, sent_at=100, lease_ms=60_000)
    clock.advance(30)  # sent at 110, renewed then, answered now
    lease.extend(sent_at=110, remaining_ms=40_000)
    assert lease.stop_at == 168
    # Less than a renewal on arrival would have left: it was not renewed, and only what is said counts.
    lease.extend(sent_at=128, remaining_ms=45_000)
    assert lease.stop_at == 171


def test_an_error_says_everything_in_one_line() -> None:
    document = {
        "code": "invalid_request", "retry": "no", "detail": "the body is not valid", "title": "x",
        "errors": [{"path": "priority", "message": "0 to 9"}],
    }  # fmt: skip
    error = error_from_reply(400, {"Hive-Request-Id": "r9"}, document)
    assert str(error) == "invalid_request: the body is not valid; priority: 0 to 9; HTTP 400; request r9"


@pytest.mark.parametrize(("retry", "cls"), [("no", Refused), ("safe", Unavailable), ("same_key", OutcomeUnknown)])
def test_a_code_of_a_newer_server_gets_the_class_of_its_family(retry: str, cls: type[HiveError]) -> None:
    error = error_from_reply(418, {}, {"code": "novelty", "retry": retry})
    assert type(error) is cls
    assert (error.code, error.retry) == ("novelty", retry)


def test_the_families_are_what_they_say() -> None:
    assert issubclass(NotFound, Refused)
    assert issubclass(NoLeader, Unavailable)
    assert not issubclass(Unavailable, OutcomeUnknown)


def test_the_library_needs_nothing_but_aiohttp() -> None:
    # yarl is aiohttp's own URL type and comes with it.
    allowed = {*sys.stdlib_module_names, "aiohttp", "yarl", "hive_client"}
    root = Path(hive_client.__file__).parent
    imported = set()
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import"
                imported.add((node.module or "").partition(".")[0])
    assert imported <= allowed
    assert "aiohttp" in imported
    assert (root / "py.typed").exists()
