"""A new leader reads its memory piece by piece: nothing that happens in between is missed, nobody is answered early."""

from __future__ import annotations

import asyncio
import random

import pytest

from node.duties import leader_build, leadership
from node.duties.clock import settle
from node.duties.leader_memory import LeaderMemory
from node.duties.leadership import Leadership
from node.duties.lease_clock import LeaseClock
from tests.node.duties.fleet import FleetTest, fleet

AGENTS = ("a0", "a1", "a2", "a3")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_build, "ROWS_AT_ONCE", 1)
    monkeypatch.setattr(leadership, "BUILT_AT_ONCE", 1)


def known(memory: LeaderMemory) -> tuple[object, ...]:
    holdings = {item.key: (item.agent_id, item.attempt, item.status) for item in memory.holdings}
    agents = {agent.agent_id: (agent.epoch, agent.draining, agent.max_concurrent) for agent in memory.fleet}
    tasks = sorted((task.key, task.attempt) for task in memory.pending.in_order(lambda _: True))
    return holdings, agents, tasks


def something(t: FleetTest, dice: random.Random, number: int) -> None:
    """A change that a leader has to know of."""
    choice, agent_id = dice.randrange(4), dice.choice(AGENTS)
    if choice == 0 or not t.epoch(agent_id):
        t.register(agent_id, slots=dice.randrange(2, 6), instance=f"i{number % 3}")
    elif choice == 1:
        t.submit(f"t{number}", session_id=dice.choice([None, "s0", "s1", "s2"]), queue=dice.choice(["q0", "q1"]))
    else:
        memory = LeaderMemory(t.replica.view, LeaseClock(t.clock, t.replica, t.settings, lambda: None), t.settings)
        tasks = [task.key[1] for task in memory.pending.in_order(lambda _: True)]
        held = [item for item in memory.holdings if item.agent_id == agent_id]
        agent = memory.fleet.get(agent_id)
        if choice == 2 and tasks and agent is not None and memory.fleet.slots_free(agent):
            t.claim(agent_id, dice.choice(tasks))
        elif held:
            t.complete(agent_id, dice.choice(held).key[1])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seed", range(20))
def test_what_happens_between_the_pieces_is_known(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        async with fleet() as t:
            for number in range(40):
                something(t, dice, number)
            clock = LeaseClock(t.clock, t.replica, t.settings, lambda: None)
            memory = LeaderMemory(t.replica.view, clock, t.settings, at_once=False)
            stop = t.replica.subscribe(memory.follow)
            pieces = 0
            for number, _ in enumerate(memory.build(), 40):
                pieces += 1
                something(t, dice, number)
            stop()
            assert pieces > len(AGENTS)
            fresh = LeaderMemory(t.replica.view, clock, t.settings)
            assert known(memory) == known(fresh)

    asyncio.run(main())


@pytest.mark.usefixtures("small_pieces")
def test_who_asks_meanwhile_is_answered_when_all_is_known() -> None:
    async def main() -> None:
        async with fleet() as t:
            for agent_id in AGENTS:
                t.register(agent_id)
            t.submit("t")
            old = t.duties.leadership
            assert old is not None
            old.close()
            new = t.duties.leadership = Leadership(t.replica, t.clock, t.settings)
            assert (new.believable, len(new.memory.fleet)) == (False, 0)
            poll = await t.poll("a3")
            await settle()
            assert (new.believable, len(new.memory.fleet)) == (True, len(AGENTS))
            await t.clock.advance(0.1)
            assert t.status("t") == "assigned"
            assert t.task("t").agent_id == "a3"
            assert (await poll).answer.code == ""

    asyncio.run(main())


@pytest.mark.usefixtures("small_pieces")
def test_a_term_that_ends_meanwhile_answers_nobody() -> None:
    async def main() -> None:
        async with fleet() as t:
            for agent_id in AGENTS:
                t.register(agent_id)
            old = t.duties.leadership
            assert old is not None
            old.close()
            new = Leadership(t.replica, t.clock, t.settings)
            waiting = asyncio.create_task(new.built())
            new.close()
            await waiting
            await settle()
            assert len(new.memory.fleet) < len(AGENTS), "nothing is read any more"

    asyncio.run(main())
