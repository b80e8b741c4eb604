"""How each blow of the plan falls, and how it is taken back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.nemesis.damage import damage_log, damage_snapshot, damage_state
from tests.nemesis.fleet import Fleet
from tests.nemesis.history import Fault, History
from tests.nemesis.plan import Blow
from tests.nemesis.strike import Strike
from tests.nemesis.strikes_disk import damaged, damaged_state, disk_full
from tests.nemesis.strikes_hand import hand_over, take_snapshots
from tests.nemesis.strikes_members import STRIKES
from tests.nemesis.ways import CLIENTS

READY_AGAIN_S = 40.0
"""After a blow was taken back, every node serves within it."""
LATE_S = (0.02, 0.25)
SLOW_BYTES_PER_S = (20_000, 200_000)
TORN_BYTES = (2_000, 60_000)


@dataclass(frozen=True, slots=True)
class Blows:
    """`ending`: set when the run must end at once."""

    fleet: Fleet
    history: History
    seed: int
    ending: asyncio.Event

    async def strike(self, blow: Blow) -> None:
        """Let one blow fall, hold it, take it back, and wait until every node serves again."""
        fleet, history = self.fleet, self.history
        strike = Strike(fleet, history, blow, random.Random(f"{self.seed}/{blow.number}"), self.ending)
        begin_s = history.now_s()
        if blow.beside:
            await ACTIONS[blow.beside](strike)
        detail = await ACTIONS[blow.kind](strike)
        fleet.thaw(*fleet.node_ids)
        fleet.ways.mend(cut=blow.cut)
        await fleet.run(*fleet.node_ids)
        history.faults.append(Fault(blow.kind, detail, begin_s, history.now_s()))
        if blow.beside:
            history.faults.append(Fault(blow.beside, f"beside {blow.kind}", begin_s, history.now_s()))
        try:
            await fleet.ready(*fleet.node_ids, within_s=READY_AGAIN_S)
        except (TimeoutError, RuntimeError) as error:
            history.defects.append(f"after {blow.kind} ({detail}): not every node serves again: {error!r}")
            await fleet.run(*fleet.node_ids)


# --- processes -------------------------------------------------------------------------------------------------------


async def _kill(strike: Strike, *node_ids: str) -> str:
    await strike.fleet.kill(*node_ids)
    await strike.hold()
    return ", ".join(node_ids)


async def _stop_one(strike: Strike) -> str:
    (node_id,) = strike.some(1)
    await strike.fleet.stop(node_id)
    status = strike.fleet.members[node_id].process.status
    if status != 0:
        strike.defect(f"{node_id} ended with {status} when asked to stop")
    await strike.hold()
    return node_id


async def _freeze(strike: Strike, *node_ids: str) -> str:
    strike.fleet.freeze(*node_ids)
    await strike.hold()
    strike.fleet.thaw(*node_ids)
    return ", ".join(node_ids)


# --- lines -----------------------------------------------------------------------------------------------------------


async def _part(strike: Strike, some: list[str], with_clients: bool) -> str:
    """Some nodes away from the others. Their clients stay with them, or cannot reach them either."""
    strike.fleet.ways.part(some, strike.others(*some))
    if with_clients:
        strike.fleet.ways.part(some, [CLIENTS])
    await strike.hold()
    return ", ".join(some) + (" and from clients" if with_clients else "")


async def _one_way(strike: Strike, *, says: bool) -> str:
    """The leader hears and is not heard, or the other way round."""
    leader = await strike.leader()
    for other in strike.others(leader):
        pair = (other, leader) if says else (leader, other)
        strike.fleet.ways.way(*pair).darken()
    await strike.hold()
    return leader


async def _pair_apart(strike: Strike) -> str:
    one, other = strike.some(2)
    strike.fleet.ways.part([one], [other])
    await strike.hold()
    return f"{one}, {other}"


async def _trouble(strike: Strike, kind: str) -> str:
    """Lines of one node are slow, late or torn."""
    node_id = await strike.leader() if strike.rng.random() < 0.6 else strike.some(1)[0]
    ways, rng = strike.fleet.ways, strike.rng
    for other in [*strike.others(node_id), CLIENTS]:
        for way in ways.both(node_id, other):
            if kind == "slow":
                way.bytes_per_s = rng.uniform(*SLOW_BYTES_PER_S)
            elif kind == "late":
                way.delay_s = rng.uniform(*LATE_S)
            else:
                way.tear(*TORN_BYTES, rng)
    if not strike.blow.beside.startswith(kind):
        await strike.hold()
    return node_id


async def _clients(strike: Strike, *, replies_only: bool) -> str:
    """Clients do not reach some nodes, or do not hear what those answer."""
    some = strike.some(strike.majority)
    for node_id in some:
        ask, reply = strike.fleet.ways.both(CLIENTS, node_id)
        reply.darken()
        if not replies_only:
            ask.darken()
    await strike.hold()
    return ", ".join(some)


async def _unplugged(strike: Strike) -> str:
    """The kernel itself is silent: nothing is refused, nothing reset."""
    spaces = strike.fleet.namespaces
    if spaces is None:
        return "skipped: needs --netns"
    node_id = await strike.leader() if strike.rng.random() < 0.5 else strike.some(1)[0]
    await asyncio.to_thread(spaces.unplug, node_id)
    await strike.hold()
    await asyncio.to_thread(spaces.plug, node_id)
    return node_id


# --- whom it hits ---------------------------------------------------------------------------------------------------


async def _kill_leader(strike: Strike) -> str:
    return await _kill(strike, await strike.leader())


async def _kill_follower(strike: Strike) -> str:
    return await _kill(strike, await strike.follower())


async def _pause_leader(strike: Strike) -> str:
    return await _freeze(strike, await strike.leader())


async def _pause_follower(strike: Strike) -> str:
    return await _freeze(strike, await strike.follower())


async def _leader_off(strike: Strike) -> str:
    return await _part(strike, [await strike.leader()], strike.rng.random() < 0.5)


async def _minority_off(strike: Strike) -> str:
    return await _part(strike, strike.some(len(strike.fleet.node_ids) - strike.majority), strike.rng.random() < 0.3)


Action = Callable[[Strike], Awaitable[str]]

ACTIONS: dict[str, Action] = {
    "kill leader": _kill_leader,
    "kill follower": _kill_follower,
    "kill majority": lambda strike: _kill(strike, *strike.some(strike.majority)),
    "kill all": lambda strike: _kill(strike, *strike.fleet.node_ids),
    "stop and start one": _stop_one,
    "pause leader": _pause_leader,
    "pause follower": _pause_follower,
    "pause all": lambda strike: _freeze(strike, *strike.fleet.node_ids),
    "cut off leader": _leader_off,
    "cut off minority": _minority_off,
    "leader hears nothing": lambda strike: _one_way(strike, says=True),
    "leader says nothing": lambda strike: _one_way(strike, says=False),
    "one pair apart": _pair_apart,
    "slow lines": lambda strike: _trouble(strike, "slow"),
    "late lines": lambda strike: _trouble(strike, "late"),
    "torn lines": lambda strike: _trouble(strike, "torn"),
    "clients cut off": lambda strike: _clients(strike, replies_only=False),
    "replies lost": lambda strike: _clients(strike, replies_only=True),
    "disk full": disk_full,
    "damaged log": lambda strike: damaged(strike, damage_log),
    "damaged snapshot": lambda strike: damaged(strike, damage_snapshot),
    "damaged state": lambda strike: damaged_state(strike, damage_state),
    "unplugged": _unplugged,
    "hand leadership over": hand_over,
    "take snapshots": take_snapshots,
} | STRIKES
"""By the kinds of `plan.KINDS`."""
