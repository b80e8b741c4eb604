"""Locks on paths through the client, against the fake; and that the fake's patterns mean what the server's do."""

from __future__ import annotations

from typing import Any

import pytest
from hive_client import Client, InvalidRequest, Lock
from hive_client.errors import LockHeld
from hive_client.testing import FakeHive, ManualClock, path_locks
from hypothesis import given, settings

from statemachine import globs
from tests.clients.running import async_test, raised
from tests.statemachine.test_globs import DISJOINT, OVERLAPPING, patterns


async def claimed(client: Client, epoch: int) -> list[str]:
    """Claim what there is -> the ids."""
    return [grant.task_id for grant in (await client.tasks.claim(agent_id="a1", epoch=epoch, limit=9)).items]


@async_test
async def test_granted_together_and_let_go_together() -> None:
    client = FakeHive(ManualClock()).client()
    epoch = (await client.agents.register("a1", max_concurrent=9)).epoch
    made = await client.tasks.create(task_id="t1", locks=[{"path": "src/**"}, {"path": "docs", "exclusive": False}])
    assert all(isinstance(lock, Lock) for lock in made.locks)
    assert [(lock.path, lock.exclusive) for lock in made.locks] == [("src/**", True), ("docs", False)]
    await client.tasks.create(task_id="t2", locks=[{"path": "src/a.py", "exclusive": False}])
    await client.tasks.create(task_id="t3", locks=[{"path": "docs", "exclusive": False}])
    assert await claimed(client, epoch) == ["t1", "t3"]
    refused = await raised(client.tasks.claim_one("t2", agent_id="a1", epoch=epoch), LockHeld)
    assert [holder["task_id"] for holder in refused.current["holders"]] == ["t1"]
    (reason,) = (await client.tasks.explain("t2")).reasons
    assert (reason.code, reason.data["held_by"][0]["path"]) == ("lock_held", "src/**")
    await client.tasks.park("t1", agent_id="a1", attempt=1, wait_for={"kind": "approval", "name": "plan"})
    assert await claimed(client, epoch) == []
    await client.tasks.resume("t1", "plan")
    assert await claimed(client, epoch) == ["t1"]
    await client.tasks.complete("t1", agent_id="a1", attempt=2)
    assert await claimed(client, epoch) == ["t2"]


@async_test
async def test_bad_ones_are_refused() -> None:
    client = FakeHive(ManualClock()).client()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"path": "/a"}, "locks[0].path"),
        ({"path": "a**"}, "locks[0].path"),
        ({"path": "[a"}, "locks[0].path"),
        ({"path": "a", "exclusive": 1}, "locks[0].exclusive"),
        ({}, "locks[0]"),
    ]
    for lock, path in wrong:
        problem = await raised(client.tasks.create(locks=[lock]), InvalidRequest)
        assert problem.errors[0]["path"] == path


@pytest.mark.parametrize(("a", "b"), [*DISJOINT, *OVERLAPPING])
def test_the_fake_knows_the_language(a: str, b: str) -> None:
    assert path_locks.overlap(a, b) == ((a, b) in OVERLAPPING)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(patterns, patterns)
def test_the_fake_finds_what_the_server_finds(a: str, b: str) -> None:
    assert path_locks.overlap(a, b) == globs.overlap(globs.parse(a), globs.parse(b))
