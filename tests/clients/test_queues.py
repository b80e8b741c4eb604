"""Queues through the client, against the fake: limits hold for offers and claims."""

from __future__ import annotations

from hive_client import Client, Conflict, InvalidRequest, NotFound
from hive_client.testing import FakeHive, ManualClock

from tests.clients.running import async_test, raised


async def claimed(client: Client, epoch: int) -> list[str]:
    """Claim what there is -> the ids."""
    return [grant.task_id for grant in (await client.tasks.claim(agent_id="a1", epoch=epoch, limit=9)).items]


@async_test
async def test_settings_and_counts() -> None:
    fake = FakeHive(ManualClock())
    client = fake.client()
    await raised(client.queues.get("q"), NotFound)
    await client.tasks.create(task_id="t1", queue="q")
    await client.tasks.create(task_id="t2", queue="a")
    shown = await client.queues.get("q")
    assert (shown.pending, shown.held, shown.paused, shown.max_running) == (1, 0, False, None)
    limited = await client.queues.update("q", max_running=2, rate_per_second=1.5, max_running_per_key=4)
    assert (limited.max_running, limited.rate_per_second, limited.max_running_per_key) == (2, 1.5, 4)
    lifted = await client.queues.update("q", max_running=None, if_revision=limited.revision)
    assert (lifted.max_running, lifted.rate_per_second) == (None, 1.5)
    await raised(client.queues.update("q", paused=True, if_revision=limited.revision), Conflict)
    assert [queue.name async for queue in client.queues.iterate(page_size=1)] == ["a", "q"]
    assert [queue.name for queue in (await client.queues.list(order="desc")).items] == ["q", "a"]
    problem = await raised(client.queues.update("q", max_running_per_key=0), InvalidRequest)
    assert problem.errors[0]["path"] == "max_running_per_key"


@async_test
async def test_pause_limit_rate_and_key() -> None:
    clock = ManualClock()
    fake = FakeHive(clock)
    client = fake.client()
    epoch = (await client.agents.register("a1", max_concurrent=9)).epoch
    for number in range(4):
        await client.tasks.create(task_id=f"t{number}")
    await client.queues.pause("default")
    assert await claimed(client, epoch) == []
    refused = await raised(client.tasks.claim_one("t0", agent_id="a1", epoch=epoch), Conflict)
    assert refused.current["why"] == "queue_paused"
    explained = await client.tasks.explain("t0")
    assert [reason.code for reason in explained.reasons] == ["queue_paused"]
    await client.queues.resume("default")
    await client.queues.update("default", max_running=1)
    assert await claimed(client, epoch) == ["t0"]
    await client.queues.update("default", max_running=None, rate_per_second=1)
    assert await claimed(client, epoch) == ["t1"]
    assert (await client.tasks.explain("t2")).reasons[0].code == "rate_limit"
    clock.advance(1)
    assert await claimed(client, epoch) == ["t2"]
    await client.queues.update("default", rate_per_second=None)
    await client.tasks.cancel("t3")
    for number in range(2):
        await client.tasks.create(task_id=f"k{number}", concurrency_key="repo")
    assert await claimed(client, epoch) == ["k0"]
    assert (await client.tasks.explain("k1")).reasons[0].data["tasks"] == ["k0"]
    await client.tasks.complete("k0", agent_id="a1", attempt=1)
    assert await claimed(client, epoch) == ["k1"]
