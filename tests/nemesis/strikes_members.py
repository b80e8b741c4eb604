"""Blows on the membership: nodes come and go while work goes on, and what comes is troubled on its way.

After each the cluster has as many members as before. Whoever was removed ends by itself and stays away, with its old
data and without.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable

import aiohttp

from tests.nemesis.pauses import pause
from tests.nemesis.strike import Strike
from tests.nemesis.strikes_hand import take_snapshot

KNOWN_WITHIN_S = 40.0
PROMOTED_WITHIN_S = 60.0
REMOVED_WITHIN_S = 40.0
ENDS_WITHIN_S = 20.0
NOT_NOW = frozenset({409, 503, 504})
"""Another change is under way, too few answer just now, nobody leads: asked again."""
GONE = "was removed from the cluster"
USED = "never used"
TRICKLE_BYTES_PER_S = (150_000, 600_000)
"""How fast a troubled node gets what it lacks, so that the trouble falls into the middle of it."""
WITHIN_JOIN_S = 1.5
TORN_BYTES = (5_000, 60_000)


async def replace_follower(strike: Strike) -> str:
    """A new one comes, then a follower goes."""
    joiner = await _join(strike)
    gone = await strike.follower(joiner)
    return f"{joiner} for {gone}, {await _remove(strike, gone)}"


async def replace_leader(strike: Strike) -> str:
    """A new one comes, then the leader goes: it hands over first."""
    joiner = await _join(strike)
    gone = await strike.leader()
    return f"{joiner} for {gone}, {await _remove(strike, gone)}"


async def replace_dead(strike: Strike) -> str:
    """One is dead and is removed, without hearing of it; then a new one comes."""
    gone = await strike.follower()
    await strike.fleet.kill(gone)
    how = await _remove(strike, gone)
    return f"{await _join(strike)} for the dead {gone}, {how}"


async def join_in_trouble(strike: Strike) -> str:
    """A new one comes, and in the middle of its snapshot or catching up something falls on it or on the leader."""
    kind = strike.rng.choice(sorted(TROUBLES))
    fleet = strike.fleet
    await take_snapshot(strike, await strike.leader())
    joiner = await fleet.add()
    for other in strike.others(joiner):
        fleet.ways.way(other, joiner).bytes_per_s = strike.rng.uniform(*TRICKLE_BYTES_PER_S)
    await fleet.run(joiner)
    if await _is_known(strike, joiner):
        await TROUBLES[kind](strike, joiner)
    fleet.thaw(*fleet.node_ids)
    fleet.ways.mend(cut=strike.blow.cut)
    await fleet.run(*fleet.node_ids)
    await _is_promoted(strike, joiner)
    gone = strike.rng.choice(strike.others(joiner))
    return f"{joiner}, {kind}; for {gone}, {await _remove(strike, gone)}"


# --- coming ----------------------------------------------------------------------------------------------------------


async def _join(strike: Strike) -> str:
    joiner = await strike.fleet.add()
    await strike.fleet.run(joiner)
    await _is_promoted(strike, joiner)
    return joiner


async def _is_known(strike: Strike, joiner: str) -> bool:
    """Whether the cluster has it as a member, of whatever kind."""

    async def look() -> bool:
        return joiner in await _members(strike)

    known = await strike.fleet.until(look, KNOWN_WITHIN_S)
    if not known:
        strike.defect(f"{joiner} was not added within {KNOWN_WITHIN_S:.0f} s")
    return known


async def _is_promoted(strike: Strike, joiner: str) -> None:
    async def look() -> bool:
        return (await _members(strike)).get(joiner, False)

    if not await strike.fleet.until(look, PROMOTED_WITHIN_S):
        strike.defect(f"{joiner} has no vote after {PROMOTED_WITHIN_S:.0f} s: {await _members(strike)}")


async def _members(strike: Strike) -> dict[str, bool]:
    """Who is a member as the leader knows it, and whether it votes."""
    leader = await strike.fleet.leader()
    status = None if leader is None else await strike.fleet.status(leader)
    return {} if status is None else {member["node_id"]: member["voter"] for member in status["members"]}


# --- trouble on the way ----------------------------------------------------------------------------------------------


async def _in_the_middle(strike: Strike) -> None:
    await pause(strike.rng.uniform(0.0, WITHIN_JOIN_S), strike.ending)


async def _killed(strike: Strike, joiner: str) -> None:
    for _ in range(strike.rng.randint(1, 3)):
        await _in_the_middle(strike)
        await strike.fleet.kill(joiner)
        await strike.fleet.run(joiner)


async def _cut_off(strike: Strike, joiner: str) -> None:
    await _in_the_middle(strike)
    strike.fleet.ways.part([joiner], strike.others(joiner))
    await strike.hold()


async def _torn(strike: Strike, joiner: str) -> None:
    for other in strike.others(joiner):
        for way in strike.fleet.ways.both(joiner, other):
            way.tear(*TORN_BYTES, strike.rng)
    await strike.hold()


async def _paused(strike: Strike, joiner: str) -> None:
    await _in_the_middle(strike)
    strike.fleet.freeze(joiner)
    await strike.hold()


async def _leader_killed(strike: Strike, joiner: str) -> None:
    await _in_the_middle(strike)
    leader = await strike.leader()
    await strike.fleet.kill(leader if leader != joiner else strike.rng.choice(strike.others(joiner)))
    await strike.hold()


async def _leader_cut_off(strike: Strike, joiner: str) -> None:
    await _in_the_middle(strike)
    leader = await strike.leader()
    strike.fleet.ways.part([leader], strike.others(leader))
    await strike.hold()


TROUBLES: dict[str, Callable[[Strike, str], Awaitable[None]]] = {
    "killed": _killed,
    "cut off": _cut_off,
    "its lines torn": _torn,
    "paused": _paused,
    "the leader killed": _leader_killed,
    "the leader cut off": _leader_cut_off,
}


# --- going -----------------------------------------------------------------------------------------------------------


async def _remove(strike: Strike, gone: str) -> str:
    """Remove a node, see that it ends and stays away, and take it out of the fleet. What was done, in words."""
    fleet = strike.fleet
    member = fleet.members[gone]
    member.may_end = True
    ran = member.process.running
    asked = strike.rng.choice(strike.others(gone) if not ran else fleet.node_ids)
    if not await _removed(strike, gone, asked):
        return f"not removed by {asked}"
    if ran:
        await _must_end(strike, gone, GONE, "removed")
    await fleet.run(gone)
    member.may_end = True
    await _must_end(strike, gone, GONE, "started again")
    how = f"removed by {asked}"
    if strike.rng.random() < 0.5:
        await asyncio.to_thread(shutil.rmtree, member.data_dir, ignore_errors=True)
        fleet.let_join(gone)
        await fleet.run(gone)
        fleet.members[gone].may_end = True
        await _must_end(strike, gone, USED, "joining again, emptied")
        how += ", refused twice"
    await fleet.forget(gone)
    await _has_taken_place(strike, gone)
    return how


async def _removed(strike: Strike, gone: str, asked: str) -> bool:
    """Ask until it is done: what is refused for now is asked again, also of another node."""
    fleet = strike.fleet
    told = ["nothing was said"]

    async def ask() -> bool:
        node_id = (
            asked if fleet.members[asked].process.running and len(told) < 3 else strike.rng.choice(strike.others(gone))
        )
        url = f"{fleet.members[node_id].own_endpoint}/api/cluster/members/{gone}"
        try:
            async with fleet.http.delete(url) as reply:
                told.append(f"{node_id}: {reply.status} {await reply.text()}")
                return reply.status == 200 or reply.status not in NOT_NOW
        except (aiohttp.ClientError, TimeoutError) as error:
            told.append(f"{node_id}: {error!r}")
            return False

    done = await fleet.until(ask, REMOVED_WITHIN_S)
    if not done or ": 200 " not in told[-1]:
        strike.defect(f"{gone} was not removed: {told[-3:]}")
        return False
    return True


async def _must_end(strike: Strike, gone: str, expected: str, when: str) -> None:
    """It ends by itself, as one that must not go on, and says why in its last line."""
    process = strike.fleet.members[gone].process

    async def look() -> bool:
        return not process.running

    if not await strike.fleet.until(look, ENDS_WITHIN_S):
        strike.defect(f"{gone}, {when}, goes on after {ENDS_WITHIN_S:.0f} s: {process.last_line()}")
        await strike.fleet.kill(gone)
    elif process.status <= 0 or expected not in process.last_line():
        strike.defect(f"{gone}, {when}, ended with {process.status}: {process.last_line()}")


async def _has_taken_place(strike: Strike, gone: str) -> None:
    """The members are the nodes of the fleet, but for one that is still to come."""

    async def look() -> bool:
        members = await _members(strike)
        return bool(members) and members.keys() == set(strike.fleet.node_ids)

    if not await strike.fleet.until(look, REMOVED_WITHIN_S):
        strike.defect(f"{gone} is removed, and the members are {await _members(strike)}")


STRIKES: dict[str, Callable[[Strike], Awaitable[str]]] = {
    "replace follower": replace_follower,
    "replace leader": replace_leader,
    "replace dead member": replace_dead,
    "join in trouble": join_in_trouble,
}
