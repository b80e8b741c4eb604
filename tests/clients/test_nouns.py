"""Every noun against the fake, directly and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hive_client import (
    Client,
    Conflict,
    Exists,
    InvalidRequest,
    NotFound,
    SequenceMismatch,
    StaleAttempt,
    StaleEpoch,
    WaitTimedOut,
)
from hive_client.errors import (
    AgentUnavailable,
    IdempotencyKeyReused,
    InvalidCursor,
    NodeIdUsed,
    QuorumAtRisk,
    UnknownProject,
)
from hive_client.testing import EagerClock, FakeHive, ManualClock

from tests.clients.running import async_test, raised, settled, until


@asynccontextmanager
async def opened(way: str) -> AsyncIterator[tuple[FakeHive, Client]]:
    if way == "direct":
        fake = FakeHive(ManualClock())
        yield fake, fake.client()
    else:
        async with FakeHive() as fake, Client(fake.url) as client:
            yield fake, client


both_ways = pytest.mark.parametrize("way", ["direct", "http"])


@both_ways
@async_test
async def test_a_task_is_created_found_changed_and_cancelled(way: str) -> None:
    async with opened(way) as (_, client):
        task = await client.tasks.create(task_id="t1", title="x", priority="high", labels={"repo": "a"})
        assert (task.status, task.priority, task.revision) == ("pending", 8, 1)
        assert (await client.tasks.get("t1")).title == "x"
        again = await client.tasks.create(task_id="t1", title="x", priority="high", labels={"repo": "a"})
        assert again.reply is not None
        assert again.reply.status == 200
        assert (await raised(client.tasks.create(task_id="t1", title="y"), Exists)).current["title"] == "x"
        changed = await client.tasks.update("t1", {"priority": 1}, if_revision=1)
        assert changed.priority == 1
        await raised(client.tasks.update("t1", {"priority": 2}, if_revision=1), Conflict)
        assert (await client.tasks.cancel("t1")).status == "cancelled"
        assert (await client.tasks.cancel("t1")).status == "cancelled"
        assert (await client.tasks.explain("t1")).reasons[0].code == "ended"


@both_ways
@async_test
async def test_lists_go_to_their_end_and_filters_hold(way: str) -> None:
    async with opened(way) as (_, client):
        items = [{"task_id": f"t{n}", "labels": {"even": str(n % 2 == 0)}, "type": f"k{n % 3}"} for n in range(25)]
        batch = await client.tasks.create_batch(items)  # type: ignore[arg-type]  # built by a comprehension
        assert [item.status for item in batch.items] == [201] * 25
        assert [t.task_id async for t in client.tasks.iterate(page_size=4, order="asc")] == [f"t{n}" for n in range(25)]
        first = await client.tasks.list(limit=10)
        assert first.items[0].task_id == "t24"
        assert first.revision == 25
        evens = [t.task_id async for t in client.tasks.iterate(label={"even": "True"}, type=["k0", "k1"])]
        assert evens == ["t24", "t22", "t18", "t16", "t12", "t10", "t6", "t4", "t0"]
        await raised(client.tasks.list(cursor=first.next_cursor, status="failed"), InvalidCursor)


@both_ways
@async_test
async def test_a_batch_answers_item_by_item_or_as_one(way: str) -> None:
    async with opened(way) as (fake, client):
        batch = await client.tasks.create_batch(
            [{"task_id": "b", "depends_on": ["a"]}, {"task_id": "a"}, {"task_id": "c", "depends_on": ["nowhere"]}],
            full=True,
        )
        assert [(item.status, item.id) for item in batch.items] == [(201, "b"), (201, "a"), (400, "c")]
        assert batch.items[0].body["status"] == "blocked"
        assert batch.refused[0].body["code"] == "invalid_request"
        error = await raised(
            client.tasks.create_batch([{"task_id": "d"}, {"depends_on": ["nowhere"]}], atomic=True), InvalidRequest
        )
        assert error.errors[0]["path"] == "items[1].depends_on[0]"
        assert {task.task_id for task in fake.tasks()} == {"a", "b"}
        assert fake.world.revision == 2


@both_ways
@async_test
async def test_a_task_is_claimed_worked_on_and_completed_under_its_fence(way: str) -> None:
    async with opened(way) as (_, client):
        epoch = (await client.agents.register("a1")).epoch
        await client.tasks.create(task_id="t1", session_id="s1")
        await client.sessions.create(session_id="s1")
        (grant,) = (await client.tasks.claim(agent_id="a1", epoch=epoch)).items
        assert (grant.status, grant.attempt, grant.lease_ms) == ("running", 1, 60_000)
        assert 0 < (grant.lease_remaining_ms or 0) <= 60_000
        assert (await client.tasks.claim(agent_id="a1", epoch=epoch)).items == []
        lease = await client.tasks.renew("t1", agent_id="a1", attempt=1, epoch=epoch)
        assert not lease.durable
        assert (await client.tasks.progress("t1", agent_id="a1", attempt=1, checkpoint={"at": 3})).durable
        error = await raised(client.tasks.complete("t1", agent_id="a1", attempt=2, result=1), StaleAttempt)
        assert error.current["attempt"] == 1
        done = await client.tasks.complete(
            "t1", agent_id="a1", attempt=1, result={"x": 1}, tasks=[{"task_id": "t2"}], events=[{"type": "custom.end"}]
        )
        assert (done.status, done.result) == ("completed", {"x": 1})
        assert (await client.tasks.complete("t1", agent_id="a1", attempt=1, result=2)).result == {"x": 1}
        assert (await client.tasks.get("t2")).status == "pending"
        assert [e.type async for e in client.sessions.iterate_events("s1")] == ["custom.end"]
        assert (await client.tasks.claim_one("t2", agent_id="a1", epoch=epoch)).attempt == 1
        await raised(client.tasks.renew("t2", agent_id="a1", attempt=1, epoch=epoch + 1), StaleEpoch)


@both_ways
@async_test
async def test_batches_of_verbs_answer_item_by_item(way: str) -> None:
    async with opened(way) as (_, client):
        epoch = (await client.agents.register("a1", max_concurrent=9)).epoch
        await client.tasks.create_batch([{"task_id": f"t{n}"} for n in range(5)])
        assert len((await client.tasks.claim(agent_id="a1", epoch=epoch, limit=9)).items) == 5
        await client.tasks.create(task_id="t5")
        offers = (await client.agents.heartbeat("a1", epoch=epoch, wait_ms=10_000)).offers
        assert [(offer.task_id, offer.attempt) for offer in offers] == [("t5", 1)]
        taken = await client.tasks.accept_batch(
            "a1", [{"task_id": "t5", "attempt": 1}, {"task_id": "t5", "attempt": 2}, {"task_id": "t0", "attempt": 1}]
        )
        assert [item.status for item in taken.items] == [200, 409, 200], "for the holder of what runs it is a no-op"
        assert (await client.tasks.get("t5")).status == "running"
        assert (await client.tasks.complete("t5", agent_id="a1", attempt=1)).status == "completed"
        assert (await client.tasks.renew_batch("a1", [{"task_id": "t0", "attempt": 1}])).items[0].ok
        assert (await client.tasks.progress_batch("a1", [{"task_id": "t0", "attempt": 1, "fraction": 0.5}])).items[0].ok
        done = await client.tasks.complete_batch(
            "a1", [{"task_id": "t0", "attempt": 1, "result": 1}, {"task_id": "t1", "attempt": 7}]
        )
        assert [item.status for item in done.items] == [200, 409]
        assert (await client.tasks.fail_batch("a1", [{"task_id": "t2", "attempt": 1, "retryable": False}])).items[0].ok
        assert (await client.tasks.release_batch("a1", [{"task_id": "t3", "attempt": 1}])).items[0].ok
        statuses = {t.task_id: t.status async for t in client.tasks.iterate()}
        assert statuses.pop("t5") == "completed"
        assert statuses == {"t0": "completed", "t1": "running", "t2": "failed", "t3": "pending", "t4": "running"}
        assert (await client.tasks.retry("t2")).status == "pending"


@both_ways
@async_test
async def test_groups_are_counted_awaited_and_cancelled(way: str) -> None:
    async with opened(way) as (_, client):
        epoch = (await client.agents.register("a1", max_concurrent=9)).epoch
        await client.tasks.create_batch([{"task_id": f"t{n}", "group_id": "g"} for n in range(3)])
        assert (await client.groups.get("g")).counts == {"pending": 3}
        await client.tasks.claim_one("t0", agent_id="a1", epoch=epoch)
        await client.tasks.fail("t0", agent_id="a1", attempt=1, retryable=False, message="no")
        assert (await client.groups.wait("g", until="any_failed")).failed == ["t0"]
        assert (await client.groups.cancel("g")).cancelled == 2
        assert (await client.groups.wait("g")).unended == 0
        await raised(client.groups.get("other"), NotFound)


@async_test
async def test_waiting_ends_with_the_task_or_with_the_time() -> None:
    clock = ManualClock()
    fake = FakeHive(clock)
    client = fake.client()
    await client.tasks.create(task_id="t1")
    waiting = asyncio.create_task(client.tasks.wait("t1", timeout_s=50))
    for _ in range(3):
        await until(lambda: clock.sleepers)
        clock.advance(20)
    error = await raised(waiting, WaitTimedOut)
    assert error.current == "pending"
    waiting = asyncio.create_task(client.tasks.wait("t1"))
    await until(lambda: clock.sleepers)
    await client.tasks.cancel("t1")
    assert (await waiting).status == "cancelled"
    await raised(client.tasks.wait("unknown"), NotFound)


@both_ways
@async_test
async def test_assigning_by_hand_says_why_not(way: str) -> None:
    async with opened(way) as (_, client):
        await client.agents.register("a1")
        await client.tasks.create(task_id="t1", requires=[{"name": "lint"}])
        assert str(await raised(client.tasks.assign("t1", "a1"), AgentUnavailable)).startswith("agent_unavailable")
        explained = await client.tasks.explain("t1")
        assert explained.agents["filtered"] == {"capability": 1}


@both_ways
@async_test
async def test_sessions_and_their_log(way: str) -> None:
    async with opened(way) as (_, client):
        session = await client.sessions.create(session_id="s1", title="x", user="u1")
        assert (session.status, session.last_seq) == ("active", 0)
        await raised(client.sessions.create(session_id="s1", title="y"), Exists)
        one = await client.sessions.append("s1", type="custom.a", data={"n": 1}, expected_seq=0)
        assert (one.first_seq, one.last_seq) == (1, 1)
        error = await raised(client.sessions.append("s1", type="custom.b", expected_seq=0), SequenceMismatch)
        assert error.last_seq == 1
        more = await client.sessions.append_batch("s1", [{"type": "custom.b"}, {"type": "custom.c"}], expected_seq=1)
        assert (more.first_seq, more.last_seq) == (2, 3)
        assert [e.seq async for e in client.sessions.iterate_events("s1", page_size=2, order="desc")] == [3, 2, 1]
        page = await client.sessions.events("s1", after_seq=1, types=["custom.b"])
        assert [e.type for e in page.items] == ["custom.b"]
        shown = await client.sessions.update("s1", {"status": "paused"})
        assert shown.status == "paused"
        assert shown.stats is not None
        assert shown.stats.by_type == {"custom.a": 1, "custom.b": 1, "custom.c": 1}
        assert [s.session_id async for s in client.sessions.iterate(user="u1")] == ["s1"]
        await client.sessions.delete("s1")
        await raised(client.sessions.get("s1"), NotFound)
        again = await client.sessions.create(session_id="s1")
        assert again.last_seq == 3, "a session of the same id goes on counting"
        error = await raised(client.sessions.append("s1", type="custom.d", expected_seq=0), SequenceMismatch)
        assert error.last_seq == 3
        assert (await client.sessions.append("s1", type="custom.d", expected_seq=3)).first_seq == 4
        assert [e.seq async for e in client.sessions.iterate_events("s1")] == [4]


@async_test
async def test_a_tail_gets_old_and_new_events_once_also_over_lost_replies() -> None:
    fake = FakeHive(ManualClock())
    client = fake.client(clock=EagerClock())
    await client.sessions.create(session_id="s1")
    await client.sessions.append("s1", type="custom.a")
    tail = client.sessions.tail("s1")
    assert (await anext(tail)).seq == 1
    await client.sessions.append("s1", type="custom.b")
    fake.faults.lose_reply("/events", times=2)
    assert (await anext(tail)).seq == 2
    await client.sessions.append("s1", type="custom.c")
    assert (await anext(tail)).seq == 3


@both_ways
@async_test
async def test_agents_come_go_and_drain(way: str) -> None:
    async with opened(way) as (_, client):
        first = await client.agents.register(
            "a1", instance_id="i1", capabilities=[{"name": "lint", "proficiency": 0.9}]
        )
        assert (await client.agents.register("a1", instance_id="i1")).epoch == first.epoch
        second = await client.agents.register("a1", instance_id="i2", capabilities=[{"name": "lint"}])
        assert second.epoch == first.epoch + 1
        await raised(client.agents.heartbeat("a1", epoch=first.epoch), StaleEpoch)
        assert (await client.agents.heartbeat("a1", epoch=second.epoch)).heartbeat_interval_ms == 5000
        assert (await client.agents.drain("a1")).status == "draining"
        assert (await client.agents.heartbeat("a1", epoch=second.epoch)).drain
        assert (await client.agents.undrain("a1")).status == "online"
        assert [a.agent_id async for a in client.agents.iterate(capability="lint")] == ["a1"]
        await client.agents.delete("a1")
        await raised(client.agents.get("a1"), NotFound)


@both_ways
@async_test
async def test_projects_do_not_see_each_other(way: str) -> None:
    async with opened(way) as (_, client):
        other = client.in_project("p2")
        await raised(other.tasks.get("t1"), UnknownProject)
        await client.tasks.create(task_id="t1", title="here")
        await other.tasks.create(task_id="t1", title="there")
        assert (await client.tasks.get("t1")).title == "here"
        assert (await other.tasks.get("t1")).project == "p2"
        await client.projects.create("p3")
        assert {p.project async for p in client.projects.iterate()} == {"default", "p2", "p3"}


@both_ways
@async_test
async def test_the_cluster_tells_about_itself(way: str) -> None:
    async with opened(way) as (_, client):
        status = await client.cluster.status()
        assert (status.role, status.has_quorum) == ("leader", True)
        assert (await client.cluster.status(endpoint=client.cluster.endpoints[0])).node_id == "fake"
        assert [m.node_id for m in await client.cluster.members()] == ["fake"]
        assert (await client.cluster.livez()).ok
        assert (await client.cluster.readyz(stale=True)).ok
        assert (await client.cluster.info()).api == 1


@both_ways
@async_test
async def test_a_member_is_added_promoted_moved_and_removed(way: str) -> None:
    async with opened(way) as (_, client):
        cluster = client.cluster
        added = await cluster.add_member("n4", peer_address="127.0.0.1:7431", http_address="127.0.0.1:7430")
        assert (added.role, added.voter, added.peer_address) == ("learner", False, "127.0.0.1:7431")
        assert added.reply is not None
        assert added.reply.status == 202
        assert "http://127.0.0.1:7430" in cluster.endpoints
        await raised(cluster.add_member("n4", peer_address="a:1", http_address="b:2"), Exists)
        assert (await raised(cluster.wait_voter("n4", timeout_s=0), WaitTimedOut)).current["role"] == "learner"
        assert (await cluster.promote_member("n4")).voter
        assert (await cluster.wait_voter("n4")).role == "follower"
        assert (await cluster.update_member("n4", peer_address="127.0.0.1:9")).http_address == "127.0.0.1:7430"
        assert (await cluster.member("n4")).peer_address == "127.0.0.1:9"
        for _ in range(2):
            assert [member.node_id for member in await cluster.remove_member("n4")] == ["fake"]
        await raised(cluster.member("n4"), NotFound)
        await raised(cluster.wait_voter("n4"), NotFound)
        await raised(cluster.add_member("n4", peer_address="a:1", http_address="b:2"), NodeIdUsed)
        await raised(cluster.remove_member("fake"), QuorumAtRisk)


@both_ways
@async_test
async def test_whoever_waits_for_a_member_hears_of_its_promotion(way: str) -> None:
    async with opened(way) as (_, client):
        await client.cluster.add_member("n4", peer_address="a:1", http_address="127.0.0.1:1")
        waiting = asyncio.ensure_future(client.cluster.wait_voter("n4", timeout_s=60))
        await settled(5)
        await client.cluster.promote_member("n4")
        assert (await waiting).voter


@both_ways
@async_test
async def test_a_users_own_repeat_has_one_effect_and_another_request_under_the_key_is_refused(way: str) -> None:
    async with opened(way) as (fake, client):
        first = await client.tasks.create(title="x", idempotency_key="k1")
        again = await client.tasks.create(title="x", idempotency_key="k1")
        assert again.task_id == first.task_id
        assert again.reply is not None
        assert again.reply.replayed
        await raised(client.tasks.create(title="y", idempotency_key="k1"), IdempotencyKeyReused)
        assert len(fake.tasks()) == 1
