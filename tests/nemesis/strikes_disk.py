"""Blows on disks: one that is full, and files that go bad."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.resync import ResyncRefusedError, resync
from tests.nemesis.contents import SilentError, contents, differing, feed, missing
from tests.nemesis.damage import damage_snapshot
from tests.nemesis.history import Doubt
from tests.nemesis.strike import Strike
from tests.nemesis.strikes_hand import hand_over_to, take_snapshot
from tests.process.disks import fill

DAMAGED_DECIDES_S = 20.0
FOUND_OUT_WITHIN_S = 30.0
"""A started node is compared all round at once; a piece takes some hundredths of a second."""
VERDICT_S = 1.0
DIFFERS, COMPARED = "hive_state_differs", "hive_state_compared"
CAUGHT_UP_WITHIN_S = 20.0
NO_SPACE = ("No space left on device", "Input/output error")
"""LMDB says the latter of a write that was cut short."""
BAD_PAGE = (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT)
"""Ends of a process whose state's pages point nowhere. The file is mapped, so the kernel may be first to notice."""


async def disk_full(strike: Strike) -> str:
    """A node's disk is full; it goes on, or ends and says why."""
    if not strike.fleet.disks:
        return "skipped: this user may not mount a small disk"
    node_id, disk = strike.rng.choice(sorted(strike.fleet.disks.items()))
    member = strike.fleet.members[node_id]
    if strike.rng.random() < 0.5:
        await hand_over_to(strike, node_id)
    led = await strike.leader() == node_id
    member.may_end = True
    ballast = await asyncio.to_thread(fill, disk)
    await strike.hold()
    ballast.unlink()
    if member.process.running:
        member.may_end = False
        return f"{node_id}, leader {led}: it went on"
    line = member.process.last_line()
    if not any(words in line for words in NO_SPACE):
        strike.defect(f"{node_id} ended on a full disk, but said: {line}")
    return f"{node_id}, leader {led}: it ended"


Damage = Callable[[Path, random.Random], str]


@dataclass(frozen=True, slots=True)
class _Found:
    """How a node that served on damaged files was found out; `noticed` is empty if it was not."""

    noticed: str = ""
    out_of_service: bool = False


async def damaged(strike: Strike, damage: Damage) -> str:
    """One stopped member's log or snapshot goes bad. It refuses to start; then it gets its copy back, or is made anew
    from the others. Or the damage hit what it did not need."""
    node_id = await strike.follower()
    fleet, member = strike.fleet, strike.fleet.members[node_id]
    if damage is damage_snapshot:
        await take_snapshot(strike, node_id)
    await fleet.kill(node_id)
    copy = fleet.directory / "copy"
    await asyncio.to_thread(shutil.copytree, member.data_dir, copy)
    try:
        what = await asyncio.to_thread(damage, member.data_dir, strike.rng)
        if not what:
            return f"skipped: {node_id} had nothing to damage"
        await fleet.run(node_id)
        member.may_end = True
        if served := await _served(strike, node_id):
            found = await _found_out(strike, node_id)
            if not found.noticed:
                member.may_end = False
                return f"{node_id}, {what}: it serves, and is as the others are"
        noticed = member.process.last_line()
        if not member.process.running and member.process.status <= 0:
            strike.defect(f"{node_id}, {what}: ended with {member.process.status}: {noticed}")
        await fleet.kill(node_id)
        # A copy of a node that went on after its start is old: it must not come back.
        anew = served or strike.rng.random() < 0.5
        cure = await _made_anew(strike, node_id) if anew else await _brought_back(copy, member.data_dir)
        return f"{node_id}, {what}: {noticed}; it {cure}"
    finally:
        await asyncio.to_thread(shutil.rmtree, copy, ignore_errors=True)


async def damaged_state(strike: Strike, damage: Damage) -> str:
    """One stopped member's state goes bad, which nothing in the file shows. The others find it out, or it comes to
    grief; or nothing that lives was hit: then it shows what they show. It is made anew in any case, since what was hit
    may still be used one day."""
    node_id = await strike.follower()
    fleet, history, member = strike.fleet, strike.history, strike.fleet.members[node_id]
    await fleet.kill(node_id)
    what = await asyncio.to_thread(damage, member.data_dir, strike.rng)
    if not what:
        return f"skipped: {node_id} had nothing to damage"
    doubt = Doubt(node_id, history.now_s(), history.now_s())
    try:
        await fleet.run(node_id)
        member.may_end = True
        found = _Found()
        if await _served(strike, node_id):
            found = await _found_out(strike, node_id)
            if found.out_of_service:
                doubt.noticed_s = history.now_s()
                await strike.hold()
            elif not found.noticed:
                await _must_show_the_same(strike, node_id, what)
        noticed = _how_it_ended(strike, node_id, what) or found.noticed or "nothing that lives was hit"
        await fleet.kill(node_id)
    finally:
        doubt.end_s = history.now_s()
        history.doubts.append(doubt)
    return f"{node_id}, {what}: {noticed}; it {await _made_anew(strike, node_id)}"


def _how_it_ended(strike: Strike, node_id: str, what: str) -> str:
    process = strike.fleet.members[node_id].process
    if process.running:
        return ""
    if process.status <= 0 and process.status not in BAD_PAGE:
        strike.defect(f"{node_id}, {what}: ended with {process.status}: {process.last_line()}")
    return f"ended with {process.status}: {process.last_line()}"


async def _found_out(strike: Strike, node_id: str) -> _Found:
    """How a node that served at first was found out, once its whole state was compared."""
    fleet, member = strike.fleet, strike.fleet.members[node_id]
    found: list[_Found] = []

    async def differs() -> bool:
        if not member.process.running:
            found.append(_Found(member.process.last_line()))
        elif await fleet.metric(node_id, DIFFERS):
            found.append(_Found("out of service", out_of_service=True))
        return bool(found)

    async def decided() -> bool:
        return await differs() or bool(await fleet.metric(node_id, COMPARED))

    if not await fleet.until(decided, FOUND_OUT_WITHIN_S):
        strike.defect(f"{node_id}: its state was not compared within {FOUND_OUT_WITHIN_S:.0f} s of its start")
    if not found:
        # The verdict comes a moment after the last look.
        await fleet.until(differs, VERDICT_S)
    return found[0] if found else _Found()


async def _must_show_the_same(strike: Strike, node_id: str, what: str) -> None:
    """Whoever was not found out shows what the others show, while work goes on."""
    fleet = strike.fleet
    other = strike.rng.choice(strike.others(node_id))
    try:
        at_least = await _revision(strike, other)
        await _reaches(strike, node_id, at_least)
        changes, shown = await feed(fleet, node_id), await contents(fleet, node_id)
        await _reaches(strike, other, await _revision(strike, node_id))
        others_changes, others = await feed(fleet, other), await contents(fleet, other)
    except SilentError as error:
        if fleet.members[node_id].process.running:
            strike.defect(f"{what}: {error}")
        return  # coming to grief over a bad page is a way to be found out
    wrong = [f"change {revision}" for revision, told in changes.items() if others_changes.get(revision) != told]
    wrong += [f"change {revision}" for revision in others_changes if revision <= at_least and revision not in changes]
    wrong += differing(shown, others) + missing(shown, others, at_least)
    if wrong and fleet.members[node_id].process.running:
        strike.defect(f"{node_id}, {what}: not found out, but {other} shows {len(wrong)} things else: {wrong[:5]}")


async def _revision(strike: Strike, node_id: str) -> int:
    status = await strike.fleet.status(node_id)
    if status is None:
        raise SilentError(f"{node_id} does not say where it stands")
    return int(status["revision"])


async def _reaches(strike: Strike, node_id: str, revision: int) -> None:
    async def look() -> bool:
        return await _revision(strike, node_id) >= revision

    if not await strike.fleet.until(look, CAUGHT_UP_WITHIN_S):
        raise SilentError(f"{node_id} does not come to revision {revision}")


async def _brought_back(copy: Path, data_dir: Path) -> str:
    await asyncio.to_thread(shutil.rmtree, data_dir)
    await asyncio.to_thread(shutil.move, copy, data_dir)
    return "got its copy back"


async def _made_anew(strike: Strike, node_id: str) -> str:
    """`hive resync`, which must not refuse."""
    member = strike.fleet.members[node_id]
    try:
        done = await asyncio.to_thread(resync, member.data_dir)
    except ResyncRefusedError as error:
        strike.defect(f"{node_id}: resync refused: {error}")
        return "was not resynced"
    return "was resynced, its log " + ("kept" if done.keeps_log else "given up")


async def _served(strike: Strike, node_id: str) -> bool:
    """Whether the node serves, or is up and out of service; False when it has ended instead. That it does neither is a
    defect."""
    fleet, process = strike.fleet, strike.fleet.members[node_id].process

    async def decided() -> bool:
        if not process.running or await fleet.get(node_id, "/readyz") is not None:
            return True
        return bool(await fleet.metric(node_id, DIFFERS))

    if not await fleet.until(decided, DAMAGED_DECIDES_S):
        strike.defect(f"{node_id}: damaged, it neither served nor ended in {DAMAGED_DECIDES_S:.0f} s")
        await fleet.kill(node_id)
    return process.running
