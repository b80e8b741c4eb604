"""Failover, stickiness, back-off, deadlines."""

from __future__ import annotations

import pytest
from hive_client import Client, NotHappened, Unavailable
from hive_client.errors import RateLimited, UnexpectedReply
from hive_client.testing import EagerClock
from hive_client.wire import Reply

from tests.clients.running import async_test, raised, settled, until
from tests.clients.scripted import URLS, ScriptedWire, cut, not_sent, ok, problem


@async_test
async def test_it_stays_with_the_node_that_answers_and_leaves_the_one_that_does_not() -> None:
    wire = ScriptedWire(ok(), ok(), not_sent(), ok(), ok())
    client = Client(URLS, wire=wire, clock=EagerClock())
    for _ in range(4):
        await client.tasks.get("t1")
    assert [endpoint for endpoint, _ in wire.sent] == [URLS[0], URLS[0], URLS[0], URLS[1], URLS[1]]


@async_test
async def test_other_nodes_are_tried_at_once_and_a_pause_comes_only_after_all() -> None:
    clock = EagerClock()
    wire = ScriptedWire(not_sent(), cut(), problem(503, "shutting_down", "safe"), ok())
    await Client(URLS, wire=wire, clock=clock).tasks.create(title="x")
    assert [endpoint for endpoint, _ in wire.sent][:3] == list(URLS)
    assert len(clock.slept) == 1
    assert 0 < clock.slept[0] <= 0.025


@async_test
async def test_the_second_round_goes_over_all_nodes_again_without_a_pause_between() -> None:
    clock = EagerClock()
    wire = ScriptedWire(*[not_sent()] * 5, ok())
    await Client(URLS, wire=wire, clock=clock).tasks.create(title="x")
    assert [endpoint for endpoint, _ in wire.sent] == [*URLS, *URLS]
    assert len(clock.slept) == 1


@async_test
async def test_a_node_that_refuses_has_answered() -> None:
    wire = ScriptedWire(not_sent(), problem(404, "not_found", "no"), ok())
    client = Client(URLS, wire=wire, clock=EagerClock())
    await raised(client.tasks.get("t1"), NotHappened)
    await client.tasks.get("t2")
    assert [endpoint for endpoint, _ in wire.sent] == [URLS[0], URLS[1], URLS[1]]


@async_test
async def test_the_pauses_grow_and_have_a_limit() -> None:
    clock = EagerClock()
    wire = ScriptedWire(problem(503, "no_leader", "safe"))
    await raised(Client(URLS, wire=wire, clock=clock, timeout_s=20).tasks.create(title="x"), Unavailable)
    assert clock.slept[0] <= 0.025
    assert max(clock.slept) <= 1.0
    assert clock.slept[-1] >= 0.5
    assert sum(clock.slept) < 20


@pytest.mark.parametrize("reply", [
    problem(429, "rate_limited", "safe", {"Retry-After": "3"}),
    problem(429, "rate_limited", "safe", retry_after_ms=3000),
])  # fmt: skip
@async_test
async def test_retry_after_is_kept_and_another_node_is_not_bothered(reply: Reply) -> None:
    clock = EagerClock()
    wire = ScriptedWire(reply, ok())
    await Client(URLS, wire=wire, clock=clock).tasks.create(title="x")
    assert [endpoint for endpoint, _ in wire.sent] == [URLS[0], URLS[0]]
    assert 3.0 <= clock.slept[0] <= 3.75


@async_test
async def test_a_longer_wait_than_there_is_time_is_raised_at_once() -> None:
    clock = EagerClock()
    wire = ScriptedWire(problem(429, "rate_limited", "safe", retry_after_ms=60_000))
    error = await raised(Client(URLS, wire=wire, clock=clock, timeout_s=5).tasks.create(title="x"), RateLimited)
    assert error.retry_after_ms == 60_000
    assert (clock.slept, len(wire.sent)) == ([], 1)


@async_test
async def test_timeout_ms_goes_to_the_server_only_when_it_is_not_the_servers_own() -> None:
    wire = ScriptedWire(ok())
    client = Client(URLS, wire=wire, clock=EagerClock())
    await client.tasks.create(title="x", timeout_s=1.5)
    await client.tasks.create(title="x")
    await client.tasks.get("t1", timeout_s=0.25)
    assert [request.target.partition("?")[2] for _, request in wire.sent] == [
        "timeout_ms=1500",
        "",
        "min_revision=7&timeout_ms=250",
    ]


@pytest.mark.parametrize("reply", [
    Reply(200, {}, b"<html>log in first</html>", ""),
    Reply(302, {"Location": "http://elsewhere.invalid"}, b"", ""),
    Reply(404, {}, b"no such page", ""),
])  # fmt: skip
@async_test
async def test_something_else_than_a_hive_node_is_not_taken_for_one(reply: Reply) -> None:
    error = await raised(Client(URLS, wire=ScriptedWire(reply), clock=EagerClock()).tasks.create(title="x"), Exception)
    assert isinstance(error, UnexpectedReply)
    assert not isinstance(error, NotHappened), "a proxy may have passed the write on"


@async_test
async def test_reads_follow_the_clients_own_writes_per_project_until_the_cluster_is_another() -> None:
    wire = ScriptedWire(
        ok(headers={"Hive-Revision": "41"}),
        ok(),
        ok(),
        ok(),
        ok(headers={"Hive-Revision": "9", "Hive-Cluster": "c2"}),
        ok(),
    )
    client = Client(URLS, wire=wire, clock=EagerClock())
    await client.tasks.create(title="x")
    await client.tasks.get("t1")
    await client.in_project("other").tasks.get("t1")
    await client.tasks.get("t1", consistency="linearizable")
    await client.tasks.create(title="x")
    await client.tasks.get("t1")
    assert [request.target.partition("?")[2] for _, request in wire.sent] == [
        "", "min_revision=41", "", "consistency=linearizable", "", "min_revision=9",
    ]  # fmt: skip


@async_test
async def test_without_read_your_writes_any_state_will_do() -> None:
    wire = ScriptedWire(ok())
    client = Client(URLS, wire=wire, clock=EagerClock(), read_your_writes=False)
    await client.tasks.create(title="x")
    await client.tasks.get("t1")
    await client.tasks.get("t1", min_revision=3, max_lag_ms=100)
    assert [request.target for _, request in wire.sent][1:] == [
        "/api/tasks/t1",
        "/api/tasks/t1?min_revision=3&max_lag_ms=100",
    ]


@async_test
async def test_questions_about_the_server_carry_no_options_of_reads() -> None:
    wire = ScriptedWire(ok(headers={"Hive-Revision": "41"}))
    client = Client(URLS, wire=wire, clock=EagerClock(), timeout_s=2)
    await client.tasks.create(title="x")
    await client.cluster.info()
    await client.cluster.openapi()
    await client.cluster.status()
    assert [request.target for _, request in wire.sent][1:] == [
        "/api",
        "/api/openapi.json",
        "/api/status/cluster?timeout_ms=2000",
    ]


@async_test
async def test_the_token_is_sent_and_not_shown() -> None:
    wire = ScriptedWire(ok())
    client = Client(URLS, wire=wire, clock=EagerClock(), token="hive_secret")
    await client.tasks.get("t1")
    assert wire.sent[0][1].headers["Authorization"] == "Bearer hive_secret"
    assert "hive_secret" not in repr(client._calls)


@async_test
async def test_members_become_endpoints_when_asked() -> None:
    members = [{"node_id": "n9", "http_address": "127.0.0.1:7420"}, {"node_id": "n8", "http_address": "n1.invalid"}]
    client = Client(URLS[:1], wire=ScriptedWire(ok({"members": members})), clock=EagerClock())
    assert await client.cluster.discover() == (URLS[0], "http://127.0.0.1:7420")


@async_test
async def test_members_that_came_later_are_learned_when_an_endpoint_fails() -> None:
    moved = {"members": [{"node_id": "n9", "http_address": "127.0.0.1:7420"}]}
    wire = ScriptedWire(ok({"members": []}), not_sent(), ok(), ok(moved))
    async with Client(URLS[:2], wire=wire, clock=EagerClock(), discover=True) as client:
        await until(lambda: len(wire.sent) == 1)
        await client.tasks.get("t1")
        await until(lambda: "http://127.0.0.1:7420" in client.cluster.endpoints)
    async with Client(URLS[:2], wire=ScriptedWire(not_sent(), ok()), clock=EagerClock()) as client:
        await client.tasks.get("t1")
        await settled()
        assert client.cluster.endpoints == URLS[:2], "only who asked for it looks around"


@async_test
async def test_a_question_to_one_node_goes_to_no_other() -> None:
    wire = ScriptedWire(problem(503, "no_leader", "safe"))
    health = await Client(URLS, wire=wire, clock=EagerClock()).cluster.readyz(URLS[2])
    assert not health.ok
    assert [endpoint for endpoint, _ in wire.sent] == [URLS[2]]


@pytest.mark.parametrize("identifier", ["", ".", ".."])
@async_test
async def test_an_id_cannot_change_the_route(identifier: str) -> None:
    wire = ScriptedWire(ok())
    client = Client(URLS, wire=wire, clock=EagerClock())
    await raised(client.tasks.get(identifier), ValueError)
    await client.tasks.get("a/../b?c#d")
    assert [request.target for _, request in wire.sent] == ["/api/tasks/a%2F..%2Fb%3Fc%23d"]
