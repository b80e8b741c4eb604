"""`Hive-Fence`: nothing happens under an attempt or epoch that is no longer current."""

from __future__ import annotations

import pytest

from statemachine import commands
from statemachine.entry import Fence
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1")
    h.submit("t1")
    return h


def write(h: Harness, fence: Fence) -> None:
    outcome = h.do(commands.CreateSession("s"), fence=fence)
    assert outcome.refusal is None, outcome.refusal


def refused(h: Harness, fence: Fence) -> tuple[str, dict[str, object] | None]:
    refusal = h.refusal(commands.CreateSession("s"), fence=fence)
    return refusal.code, refusal.current


def test_task_fence(h: Harness) -> None:
    attempt = h.claim()
    current: dict[str, object] = {"status": "running", "attempt": 1, "agent_id": "a1", "granted_at": h.time_ms}
    assert refused(h, Fence("task", "t1", attempt + 1)) == ("stale_attempt", current)
    write(h, Fence("task", "t1", attempt))
    h.complete("t1", "a1", attempt)
    assert refused(h, Fence("task", "t1", attempt))[0] == "stale_attempt"
    nothing = dict.fromkeys(current)
    assert refused(h, Fence("task", "nope", 1)) == ("stale_attempt", nothing)


def test_agent_fence(h: Harness) -> None:
    old = h.agent("a1").epoch
    write(h, Fence("agent", "a1", old))
    new = h.register("a1")
    assert refused(h, Fence("agent", "a1", old)) == ("stale_epoch", {"epoch": new})
    assert refused(h, Fence("agent", "nobody", 1)) == ("stale_epoch", {"epoch": None})


def test_other_fences(h: Harness) -> None:
    assert refused(h, Fence("lock", "l", 1)) == ("stale_token", {"token": None})
    assert refused(h, Fence("moon", "l", 1))[0] == "invalid_request"
