"""How often a fleet calls: bounded whatever its size, spread over time, and nobody is believed dead for it."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import Counter
from typing import Any

import pytest
from hive_client.worker.pulse import WAIT_MS_MAX, Pulse

from node.duties.settings import DutySettings
from statemachine import agent_record
from statemachine.commands import AgentBelieved, DeleteAgent, SetAgentLiveness
from tests.node.duties.fleet import FleetTest, fleet

SETTINGS = DutySettings()
LIMIT = SETTINGS.heartbeats_per_second_max


class Idle:
    """A worker that holds nothing; `lease_ms` when it does."""

    def __init__(self, lease_ms: int | None = None) -> None:
        self.lease_ms = lease_ms

    def shortest_lease_ms(self) -> int | None:
        return self.lease_ms


def pulse(agent_id: str, interval_ms: int, lease_ms: int | None = None) -> Pulse:
    made = Pulse(None, agent_id, Idle(lease_ms), None)  # type: ignore[arg-type]  # only asked how long it would wait
    made.interval_ms = interval_ms
    return made


def polls(agent_count: int, seconds: int, news_per_s: float = 0.0) -> Counter[int]:
    """Polls that a fleet opens in each second, all agents having begun at once; news end the poll of somebody."""
    agents = [
        pulse(name, SETTINGS.interval_of(name, agent_count)) for name in (f"agent-{i}" for i in range(agent_count))
    ]
    ends = [(0.0, number) for number in range(agent_count)]
    due = dict.fromkeys(range(agent_count), 0.0)
    opened: Counter[int] = Counter()
    news_s = 0.0
    while ends[0][0] < seconds:
        now_s, number = heapq.heappop(ends)
        if news_per_s and news_s < now_s:
            news_s += 1 / news_per_s
            heapq.heappush(ends, (now_s, number))
            now_s, number = max(news_s, 0.0), random.randrange(agent_count)
        elif due[number] != now_s:
            continue  # news ended it earlier
        opened[int(now_s)] += 1
        due[number] = now_s + agents[number]._wait_ms() / 1000
        heapq.heappush(ends, (due[number], number))
    return opened


def most_in(opened: Counter[int], width_s: int, first_s: int, last_s: int) -> float:
    """The highest mean rate in any stretch of so many seconds."""
    return max(sum(opened[s + i] for i in range(width_s)) / width_s for s in range(first_s, last_s - width_s))


@pytest.mark.parametrize("agent_count", [1_000, 3_000, 10_000])
def test_a_fleet_that_began_at_once_keeps_below_the_limit_and_spreads(agent_count: int) -> None:
    random.seed(agent_count)
    opened = polls(agent_count, 300)
    assert opened[0] >= agent_count, "the first calls are to register, and come as they come"
    assert most_in(opened, 10, 1, 300) <= LIMIT
    assert most_in(opened, 1, 1, 300) <= LIMIT * 1.25, "no second is much worse than others"


def test_polls_that_end_on_news_cost_no_more_than_the_news() -> None:
    random.seed(5)
    news_per_s = 500
    opened = polls(10_000, 120, news_per_s)
    assert most_in(opened, 10, 60, 120) - news_per_s <= LIMIT


def test_nobody_calls_more_often_than_asked_once_it_runs() -> None:
    random.seed(6)
    agent = pulse("a", 20_000)
    first, *later = [agent._wait_ms() for _ in range(500)]
    assert 0 < first <= 22_000
    assert min(later) >= 20_000
    assert max(later) <= 22_000
    assert len(set(later)) > 100
    assert max(pulse("a", 90_000)._wait_ms() for _ in range(50)) <= WAIT_MS_MAX


def test_leases_want_renewing_whatever_the_size_of_the_fleet() -> None:
    agent = pulse("a", 50_000, lease_ms=60_000)
    assert all(agent._wait_ms() <= 20_000 for _ in range(100))


def test_intervals_grow_with_the_fleet_and_differ() -> None:
    assert {SETTINGS.interval_of(f"a{number}", 1_000) for number in range(100)} == {5_000}
    large = [SETTINGS.interval_of(f"a{number}", 10_000) for number in range(1_000)]
    assert min(large) >= 50_000
    assert max(large) < 55_000
    assert len(set(large)) > 800
    assert max(large) <= WAIT_MS_MAX, "one open poll lasts from call to call"


SMALL = DutySettings(heartbeats_per_second_max=1)
"""A fleet of ten is large: it is asked to call every ten seconds."""


async def beat(t: FleetTest, agent_id: str) -> int:
    return (await t.beat(agent_id)).answer.interval_ms


def test_grace_goes_by_what_an_agent_was_told_last() -> None:
    async def step() -> None:
        async with fleet(SMALL) as t:
            names = [f"a{number}" for number in range(10)]
            for name in names:
                t.register(name)
            told = {name: await beat(t, name) for name in names}
            assert min(told.values()) >= 10_000
            for name in names[2:]:
                t.do(DeleteAgent(name))
            assert await beat(t, "a1") == 5_000, "of a small fleet again"
            await t.clock.advance(16)
            assert t.liveness("a1") == "offline", "three of its intervals are over"
            assert t.liveness("a0") == "online", "it was told to call every ten seconds, and nothing since"
            await t.clock.advance(3 * told["a0"] / 1000 - 16 + 1)
            assert t.liveness("a0") == "offline"

    asyncio.run(step())


def test_who_is_offline_slows_nobody_down() -> None:
    async def step() -> None:
        async with fleet(SMALL) as t:
            names = [f"a{number}" for number in range(20)]
            for name in names:
                t.register(name)
            assert await beat(t, "a0") >= 20_000
            gone = tuple(AgentBelieved(name, t.epoch(name), agent_record.ONLINE) for name in names[1:])
            t.do(SetAgentLiveness(gone, agent_record.OFFLINE))
            assert await beat(t, "a0") == 5_000
            memory: Any = t.duties.leadership and t.duties.leadership.memory
            assert (memory.fleet.present, len(memory.fleet)) == (1, 20)
            t.do(DeleteAgent("a7"))
            assert (memory.fleet.present, len(memory.fleet)) == (1, 19)
            await beat(t, "a8")
            await t.clock.advance(0.1)
            assert (t.liveness("a8"), memory.fleet.present) == ("online", 2)

    asyncio.run(step())


def test_the_shortest_intervals_have_no_room_for_a_stagger() -> None:
    quick = DutySettings(heartbeat_interval_ms=1)
    assert quick.interval_of("a", 1) == 5
