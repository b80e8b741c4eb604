"""How each blow of the plan falls, and how it is taken back."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from cluster.resync import ResyncRefusedError, resync
from tests.nemesis.damage import damage_log, damage_snapshot, damage_state
from tests.nemesis.fleet import Fleet
from tests.nemesis.history import Fault, History
from tests.nemesis.pauses import pause
from tests.nemesis.plan import Blow
from tests.nemesis.ways import CLIENTS
from tests.process.disks import fill

READY_AGAIN_S = 40.0
"""After a blow was taken back, every node serves within it."""
DAMAGED_DECIDES_S = 20.0
NOTICED_WITHIN_S = 15.0
ALARM = "state_differs"
LEADER_WITHIN_S = 3.0
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
        strike = _Strike(fleet, history, blow, random.Random(f"{self.seed}/{blow.number}"), self.ending)
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


@dataclass(frozen=True, slots=True)
class _Strike:
    """One blow falling."""

    fleet: Fleet
    history: History
    blow: Blow
    rng: random.Random
    ending: asyncio.Event

    async def hold(self) -> None:
        await pause(self.blow.hold_s, self.ending)

    async def leader(self) -> str:
        """Who leads; anybody if nobody does."""
        deadline_s = self.history.now_s() + LEADER_WITHIN_S
        while self.history.now_s() < deadline_s:
            if (leader := await self.fleet.leader()) is not None:
                return leader
            await pause(0.05, self.ending)
        return self.rng.choice(self.fleet.node_ids)

    async def follower(self) -> str:
        leader = await self.leader()
        return self.rng.choice([node_id for node_id in self.fleet.node_ids if node_id != leader])

    def some(self, count: int) -> list[str]:
        return self.rng.sample(self.fleet.node_ids, count)

    def others(self, *node_ids: str) -> list[str]:
        return [node_id for node_id in self.fleet.node_ids if node_id not in node_ids]

    @property
    def majority(self) -> int:
        return len(self.fleet.node_ids) // 2 + 1


# --- processes -------------------------------------------------------------------------------------------------------


async def _kill(strike: _Strike, *node_ids: str) -> str:
    await strike.fleet.kill(*node_ids)
    await strike.hold()
    return ", ".join(node_ids)


async def _stop_one(strike: _Strike) -> str:
    (node_id,) = strike.some(1)
    await strike.fleet.stop(node_id)
    status = strike.fleet.members[node_id].process.status
    if status != 0:
        strike.history.defects.append(f"{node_id} ended with {status} when asked to stop")
    await strike.hold()
    return node_id


async def _freeze(strike: _Strike, *node_ids: str) -> str:
    strike.fleet.freeze(*node_ids)
    await strike.hold()
    strike.fleet.thaw(*node_ids)
    return ", ".join(node_ids)


# --- lines -----------------------------------------------------------------------------------------------------------


async def _part(strike: _Strike, some: list[str], with_clients: bool) -> str:
    """Some nodes away from the others. Their clients stay with them, or cannot reach them either."""
    strike.fleet.ways.part(some, strike.others(*some))
    if with_clients:
        strike.fleet.ways.part(some, [CLIENTS])
    await strike.hold()
    return ", ".join(some) + (" and from clients" if with_clients else "")


async def _one_way(strike: _Strike, *, says: bool) -> str:
    """The leader hears and is not heard, or the other way round."""
    leader = await strike.leader()
    for other in strike.others(leader):
        pair = (other, leader) if says else (leader, other)
        strike.fleet.ways.way(*pair).darken()
    await strike.hold()
    return leader


async def _pair_apart(strike: _Strike) -> str:
    one, other = strike.some(2)
    strike.fleet.ways.part([one], [other])
    await strike.hold()
    return f"{one}, {other}"


async def _trouble(strike: _Strike, kind: str) -> str:
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


async def _clients(strike: _Strike, *, replies_only: bool) -> str:
    """Clients do not reach some nodes, or do not hear what those answer."""
    some = strike.some(strike.majority)
    for node_id in some:
        ask, reply = strike.fleet.ways.both(CLIENTS, node_id)
        reply.darken()
        if not replies_only:
            ask.darken()
    await strike.hold()
    return ", ".join(some)


async def _unplugged(strike: _Strike) -> str:
    """The kernel itself is silent: nothing is refused, nothing reset."""
    spaces = strike.fleet.namespaces
    if spaces is None:
        return "skipped: needs --netns"
    node_id = await strike.leader() if strike.rng.random() < 0.5 else strike.some(1)[0]
    await asyncio.to_thread(spaces.unplug, node_id)
    await strike.hold()
    await asyncio.to_thread(spaces.plug, node_id)
    return node_id


# --- disks -----------------------------------------------------------------------------------------------------------


async def _disk_full(strike: _Strike) -> str:
    if not strike.fleet.disks:
        return "skipped: this user may not mount a small disk"
    node_id, disk = strike.rng.choice(sorted(strike.fleet.disks.items()))
    member = strike.fleet.members[node_id]
    if strike.rng.random() < 0.5:
        await _hand_over_to(strike, node_id)
    led = await strike.leader() == node_id
    member.may_end = True
    ballast = await asyncio.to_thread(fill, disk)
    await strike.hold()
    ballast.unlink()
    if member.process.running:
        member.may_end = False
        return f"{node_id}, leader {led}: it went on"
    line = member.process.last_line()
    if "No space left on device" not in line:
        strike.history.defects.append(f"{node_id} ended on a full disk, but said: {line}")
    return f"{node_id}, leader {led}: it ended"


async def _damaged(strike: _Strike, damage: Callable[[Path, random.Random], str]) -> str:
    """One stopped member's files go bad. It refuses to start, or notices later; then it gets its copy back, or is made
    anew from the others. What it shows at the end is compared like everybody's."""
    node_id = await strike.follower()
    fleet, member = strike.fleet, strike.fleet.members[node_id]
    if damage is damage_snapshot:
        await _take_snapshot(strike, node_id)
    await fleet.kill(node_id)
    copy = fleet.directory / "copy"
    await asyncio.to_thread(shutil.copytree, member.data_dir, copy)
    try:
        what = await asyncio.to_thread(damage, member.data_dir, strike.rng)
        if not what:
            return f"skipped: {node_id} had nothing to damage"
        await fleet.run(node_id)
        member.may_end = True
        noticed = ""
        if await _served(strike, node_id):
            noticed = await _out_of_service(strike, node_id)
            if not noticed and member.process.running:
                member.may_end = False
                return f"{node_id}, {what}: it serves"
        if not noticed:
            noticed = member.process.last_line()
            if member.process.status <= 0:
                strike.history.defects.append(f"{node_id}, {what}: ended with {member.process.status}: {noticed}")
        await fleet.kill(node_id)
        # A copy of a node that went on after its start is old: it must not come back.
        served = member.served_since_start
        cure = await _made_anew(strike, node_id) if served or strike.rng.random() < 0.5 else ""
        if not cure:
            cure = "got its copy back"
            await asyncio.to_thread(shutil.rmtree, member.data_dir)
            await asyncio.to_thread(shutil.move, copy, member.data_dir)
        return f"{node_id}, {what}: {noticed}; it {cure}"
    finally:
        await asyncio.to_thread(shutil.rmtree, copy, ignore_errors=True)


async def _out_of_service(strike: _Strike, node_id: str) -> str:
    """What a node that served at first says when it goes out of service, or ends; "" if it goes on serving."""
    fleet, member = strike.fleet, strike.fleet.members[node_id]
    noticed: list[str] = []

    async def look() -> bool:
        status = await fleet.status(node_id)
        if status is not None and ALARM in str(status["alarms"]):
            noticed.append(f"out of service: {status['alarms']}")
        elif not member.process.running:
            noticed.append(member.process.last_line())
        return bool(noticed)

    await fleet.until(look, max(strike.blow.hold_s, NOTICED_WITHIN_S))
    return "".join(noticed)


async def _made_anew(strike: _Strike, node_id: str) -> str:
    """`hive resync`; "" if it refuses, which is a defect when the node has served meanwhile."""
    member = strike.fleet.members[node_id]
    try:
        done = await asyncio.to_thread(resync, member.data_dir)
    except ResyncRefusedError as error:
        strike.history.defects.append(f"{node_id}: resync refused: {error}")
        return ""
    return "was resynced, its log " + ("kept" if done.keeps_log else "given up")


async def _served(strike: _Strike, node_id: str) -> bool:
    """Whether the node serves; False when it has ended instead. A node that does neither is a defect."""
    try:
        await strike.fleet.ready(node_id, within_s=DAMAGED_DECIDES_S)
    except RuntimeError:
        return False
    except TimeoutError:
        strike.history.defects.append(f"{node_id}: damaged, it neither served nor ended in {DAMAGED_DECIDES_S:.0f} s")
        await strike.fleet.kill(node_id)
        return False
    strike.fleet.members[node_id].served_since_start = True
    return True


# --- by hand ---------------------------------------------------------------------------------------------------------


async def _hand_over_to(strike: _Strike, node_id: str | None) -> None:
    leader = await strike.leader()
    url = strike.fleet.members[leader].own_endpoint + "/api/cluster/transfer-leadership"
    try:
        async with strike.fleet.http.post(url, json={"to": node_id}) as reply:
            await reply.read()
    except (aiohttp.ClientError, TimeoutError):
        return  # whether it is possible now is not the question


async def _hand_over(strike: _Strike) -> str:
    target = await strike.follower()
    await _hand_over_to(strike, target)
    return target


async def _snapshots(strike: _Strike) -> str:
    some = strike.some(strike.majority)
    for node_id in some:
        await _take_snapshot(strike, node_id)
    return ", ".join(some)


async def _take_snapshot(strike: _Strike, node_id: str) -> None:
    url = strike.fleet.members[node_id].own_endpoint + "/api/cluster/snapshot"
    try:
        async with strike.fleet.http.post(url, json={}) as reply:
            await reply.read()
    except (aiohttp.ClientError, TimeoutError):
        return  # a node that is busy or away takes none


async def _kill_leader(strike: _Strike) -> str:
    return await _kill(strike, await strike.leader())


async def _kill_follower(strike: _Strike) -> str:
    return await _kill(strike, await strike.follower())


async def _pause_leader(strike: _Strike) -> str:
    return await _freeze(strike, await strike.leader())


async def _pause_follower(strike: _Strike) -> str:
    return await _freeze(strike, await strike.follower())


async def _leader_off(strike: _Strike) -> str:
    return await _part(strike, [await strike.leader()], strike.rng.random() < 0.5)


async def _minority_off(strike: _Strike) -> str:
    return await _part(strike, strike.some(len(strike.fleet.node_ids) - strike.majority), strike.rng.random() < 0.3)


Action = Callable[[_Strike], Awaitable[str]]

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
    "disk full": _disk_full,
    "damaged log": lambda strike: _damaged(strike, damage_log),
    "damaged snapshot": lambda strike: _damaged(strike, damage_snapshot),
    "damaged state": lambda strike: _damaged(strike, damage_state),
    "unplugged": _unplugged,
    "hand leadership over": _hand_over,
    "take snapshots": _snapshots,
}
"""By the kinds of `plan.KINDS`."""
