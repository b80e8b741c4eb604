"""Budgets through the client, against the fake: limits hold for offers and claims, and what is used is settled."""

from __future__ import annotations

from hive_client import Client, Conflict, InvalidRequest, NotFound
from hive_client.testing import FakeHive, ManualClock

from tests.clients.running import async_test, raised


async def claimed(client: Client, epoch: int) -> list[str]:
    """Claim what there is -> the ids."""
    return [grant.task_id for grant in (await client.tasks.claim(agent_id="a1", epoch=epoch, limit=9)).items]


@async_test
async def test_put_get_list_reset_delete() -> None:
    client = FakeHive(ManualClock()).client()
    await raised(client.budgets.get("session", "s1"), NotFound)
    made = await client.budgets.put("session", "s1", max_tokens=10, max_cost_usd=1.5, reserve_tokens=2, if_revision=0)
    assert (made.max_tokens, made.max_cost_usd, made.left.tokens, made.left.cost_usd) == (10, 1.5, 10, 1.5)
    again = await client.budgets.put("session", "s1", max_tokens=10, max_cost_usd=1.5, reserve_tokens=2)
    assert again.revision == made.revision
    await raised(client.budgets.put("session", "s1", if_revision=made.revision + 1), Conflict)
    open_ended = await client.budgets.put("session", "s1", if_revision=made.revision)
    assert (open_ended.max_tokens, open_ended.exceeded) == (None, False)
    await client.budgets.put("project", "default", max_tokens=0)
    await client.budgets.put("agent", "a1")
    names = [(one.scope, one.id) async for one in client.budgets.iterate(page_size=1)]
    assert names == [("project", "default"), ("session", "s1"), ("agent", "a1")]
    assert [one.id for one in (await client.budgets.list(order="desc", scope="agent,session")).items] == ["a1", "s1"]
    assert [one.id for one in (await client.budgets.list(exceeded=True)).items] == ["default"]
    problem = await raised(client.budgets.put("session", "s1", max_tokens=1, reserve_tokens=2), InvalidRequest)
    assert problem.errors[0]["path"] == "reserve_tokens"
    await raised(client.budgets.put("project", "other"), InvalidRequest)
    await client.budgets.delete("session", "s1")
    await raised(client.budgets.reset("session", "s1"), NotFound)


@async_test
async def test_paused_explained_raised_goes_on() -> None:
    client = FakeHive(ManualClock()).client()
    epoch = (await client.agents.register("a1", max_concurrent=9)).epoch
    await client.budgets.put("session", "s1", max_tokens=10, reserve_tokens=5)
    for number in range(4):
        await client.tasks.create(task_id=f"t{number}", session_id="s1")
    assert await claimed(client, epoch) == ["t0", "t1"]
    held = await client.budgets.get("session", "s1")
    assert (held.reserved.tokens, held.reserved.tasks, held.left.tokens, held.exceeded) == (10, 2, 0, False)
    await client.tasks.fail("t0", agent_id="a1", attempt=1, reason="error", usage={"input_tokens": 4})
    await client.tasks.complete("t1", agent_id="a1", attempt=1, usage={"input_tokens": 1, "output_tokens": 1})
    assert await claimed(client, epoch) == []
    assert (await client.budgets.get("session", "s1")).exceeded
    refused = await raised(client.tasks.claim_one("t2", agent_id="a1", epoch=epoch), Conflict)
    assert refused.current["why"] == "budget"
    explained = await client.tasks.explain("t2")
    assert [reason.code for reason in explained.reasons] == ["budget"]
    reset = await client.budgets.reset("session", "s1")
    assert (reset.spent.tokens, reset.exceeded) == (0, False)
    assert await claimed(client, epoch) == ["t2", "t3"]
    changes = [change.type for message in (await client.changes.list(from_revision=1)).items
               for change in message.changes if change.resource == "budget"]  # fmt: skip
    assert changes == ["budget.created", "budget.exceeded", "budget.reset", "budget.restored"]


@async_test
async def test_an_agents_own_budget_and_released_tasks() -> None:
    client = FakeHive(ManualClock()).client()
    epoch = (await client.agents.register("a1", max_concurrent=9)).epoch
    await client.budgets.put("agent", "a1", max_cost_usd=1, reserve_cost_usd=1)
    await client.tasks.create(task_id="t1")
    await client.tasks.create(task_id="t2")
    assert await claimed(client, epoch) == ["t1"]
    refused = await raised(client.tasks.claim_one("t2", agent_id="a1", epoch=epoch), Conflict)
    assert refused.code == "agent_unavailable"
    assert (await client.tasks.explain("t2")).reasons[0].code == "budget"
    await client.tasks.release("t1", agent_id="a1", attempt=1)
    assert (await client.budgets.get("agent", "a1")).reserved.tasks == 0
    assert len(await claimed(client, epoch)) == 1
