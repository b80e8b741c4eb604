"""One run: nodes, clients and nemesis together, then quiet, then judgement."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.nemesis.blows import Blows
from tests.nemesis.client import Ask, Client, Stage
from tests.nemesis.doubts import judged, served_out_of_service
from tests.nemesis.ending import look_at_the_end
from tests.nemesis.fleet import Fleet
from tests.nemesis.history import OK, History
from tests.nemesis.keys import Keys
from tests.nemesis.load_duels import Duellist, create_duel
from tests.nemesis.load_sessions import create_session, read_anywhere, use_events, use_register
from tests.nemesis.load_watch import Stream, follow_pages
from tests.nemesis.load_work import RESULTS, WorkAgent, create_tasks
from tests.nemesis.models import broken_keys
from tests.nemesis.namespaces import Namespaces
from tests.nemesis.pauses import pause
from tests.nemesis.plan import plan
from tests.nemesis.promises import all_broken

FULL_SPEED_S = 600.0
"""Nothing that is judged at the end may be deleted, so what is kept grows with every write: clients of a longer run
rest longer, and it makes no more data than one that is this long."""
DISK_MIB = 256
"""Holds several times what such a run makes: state, two snapshots, and another state while one is installed. A full
disk is a fault of the plan, not the end of the run."""
DISKS = 2
"""So many nodes have a small disk of their own, that can be filled. The others are on the disk that everybody uses."""
WRITES_AGAIN_S = 20.0
LAST_REST_S = 1.0


@dataclass(slots=True)
class Report:
    """How a run ended. `broken`: each rule with what breaks it."""

    seed: int
    nodes: int
    history: History
    lasted_s: float
    broken: dict[str, list[str]] = field(default_factory=dict)

    @property
    def violations(self) -> list[str]:
        """All that is broken, one text each."""
        return [f"{rule}: {line}" for rule, lines in self.broken.items() for line in lines]


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. `directory` must be empty; `without` names kinds of blows that are left out; `netns` asks for a
    network namespace for each node. It goes on after `seconds` until `blows_min` blows have fallen."""

    seed: int
    seconds: float
    nodes: int
    directory: Path
    without: Collection[str] = ()
    netns: bool = False
    blows_min: int = 1


async def run(order: Order, tell: Callable[[str], None]) -> Report:
    """Run it. `tell` hears what the nemesis does, while it does it. Raises TimeoutError if the nodes do not start,
    NoNamespacesError."""
    with small_disks(order) as disks, namespaces(order) as spaces:
        fleet = Fleet(order.directory, random.Random(f"ways/{order.seed}"), disks, spaces)
        try:
            await fleet.start(order.nodes)
            history = History()
            await _storm(order, fleet, history, tell)
            lasted_s = history.now_s()
            gc.freeze()
            ending = await look_at_the_end(fleet, history)
        finally:
            gc.unfreeze()
            await fleet.close()
    history.defects += fleet.ends
    if len(fleet.node_ids) != order.nodes:
        history.defects.append(f"there were {order.nodes} nodes, and at the end there are {fleet.node_ids}")
    report = Report(order.seed, order.nodes, history, lasted_s)
    sure = judged(history)
    report.broken["nothing is wrong by itself"] = history.defects + sure.defects
    report.broken["each key is linearizable"] = broken_keys(sure.ops)
    report.broken["who is out of service serves nothing"] = served_out_of_service(history)
    report.broken |= all_broken(sure.ops, sure.seen, sure.pages, ending)
    return report


async def _storm(order: Order, fleet: Fleet, history: History, tell: Callable[[str], None]) -> None:
    blows = Blows(fleet, history, order.seed, asyncio.Event())
    async with _working(order, fleet, history):
        for blow in plan(order.seed, order.without):
            await pause(blow.gap_s, blows.ending)
            if blow.number >= order.blows_min and history.now_s() > order.seconds:
                break
            told = len(history.faults)
            # The history only grows. Were the collector to go through all of it again and again, the proxies, which
            # live in this process, would stand still for longer than an election takes.
            gc.freeze()
            await blows.strike(blow)
            for fault in history.faults[told:]:
                tell(f"{fault.begin_s:7.1f} s  {fault.kind}: {fault.detail}")
        await _writes_again(fleet, history)
        await pause(LAST_REST_S, blows.ending)


async def _writes_again(fleet: Fleet, history: History) -> None:
    """Faults are over: a write is acknowledged soon."""
    before = len(history.write_acknowledged_s)

    async def look() -> bool:
        return len(history.write_acknowledged_s) > before

    if not await fleet.until(look, WRITES_AGAIN_S):
        history.defects.append(f"no write was acknowledged within {WRITES_AGAIN_S:.0f} s after the last fault")


@asynccontextmanager
async def _working(order: Order, fleet: Fleet, history: History) -> AsyncIterator[None]:
    """All clients at work while the body runs; at its end each finishes what it is at."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        slowness = max(1.0, order.seconds / FULL_SPEED_S)
        stage = Stage(history, http, fleet.endpoints, asyncio.Event(), order.seed, slowness)
        keys = {
            "register": Keys("register", Client("registrar", stage), create_session),
            "events": Keys("events", Client("scribe", stage), create_session),
            "duel": Keys("duel", Client("second", stage), create_duel),
        }
        await _insist(Client("founder", stage), create_session(RESULTS))
        for one in keys.values():
            await one.begin()
        for work in _works(stage, keys):
            group.create_task(work)
        try:
            yield
        finally:
            stage.stopping.set()
            for one in keys.values():
                await one.close()


def _works(stage: Stage, keys: dict[str, Keys]) -> list[Coroutine[Any, Any, None]]:
    def clients(name: str, count: int) -> list[Client]:
        return [Client(f"{name}{number}", stage) for number in range(1, count + 1)]

    works: list[Coroutine[Any, Any, None]] = [use_register(one, keys["register"]) for one in clients("register", 4)]
    works += [use_events(one, keys["events"]) for one in clients("events", 4)]
    works += [Duellist(one, keys["duel"]).run() for one in clients("duellist", 3)]
    works += [create_tasks(one) for one in clients("creator", 2)]
    works += [WorkAgent(one).run() for one in clients("worker", 3)]
    works += [read_anywhere(one, keys["register"]) for one in clients("reader", 2)]
    works += [follow_pages(one) for one in clients("pages", 2)]
    works += [Stream(one).run() for one in clients("stream", 2)]
    return works


async def _insist(client: Client, ask: Ask) -> None:
    while (await client.perform("setup", "", {}, ask)).outcome != OK:
        await client.rest(0.1)


@contextmanager
def namespaces(order: Order) -> Iterator[Namespaces | None]:
    """Network namespaces, if they are asked for. Raises NoNamespacesError."""
    if not order.netns:
        yield None
        return
    spaces = Namespaces()
    spaces.make()
    try:
        yield spaces
    finally:
        spaces.remove()


@contextmanager
def small_disks(order: Order) -> Iterator[list[Path]]:
    """Small file systems; none where mounting is not allowed."""
    with contextlib.ExitStack() as mounted:
        disks = []
        for number in range(1, 1 + DISKS):
            path = order.directory / f"disk{number}"
            path.mkdir(parents=True)
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(path)]
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                break
            # Lazily: a node that is only about to be killed may be on it.
            mounted.callback(subprocess.run, ["umount", "-l", str(path)], capture_output=True, check=False)
            disks.append(path)
        yield disks
