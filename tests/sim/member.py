"""One simulated machine: what survives on it, and the process that comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from cluster import state as state_rules
from cluster.core import Core
from cluster.host import CoreOptions, Host
from cluster.identity import StartError
from cluster.journal import Journal, JournalOptions
from cluster.memory_disk import MemoryDisk
from cluster.memory_state import MemorySnapshots
from cluster.peers import REMOVED, Peers, ends
from cluster.replica import Notice
from cluster.settings import Limits, Timings
from statemachine import machine
from tests.sim.clockwork import DiskSpeed, SimClock, SimExecutor, SimLoop, SimWriter
from tests.sim.coroutines import simulated_loop
from tests.sim.leadership import DutyClock, Edge
from tests.sim.life import Life
from tests.sim.links import Port
from tests.sim.states import Generation, SimState

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

CLUSTER_ID = "simulated"


@dataclass(slots=True)
class Kept:
    """What a machine keeps when its process dies."""

    disk: MemoryDisk = field(default_factory=MemoryDisk)
    snapshots: MemorySnapshots = field(default_factory=MemorySnapshots)
    journal_id: bytes = b""
    journal_ids: dict[str, bytes] = field(default_factory=dict)
    held_at_least: dict[str, int] = field(default_factory=dict)
    generation: Generation | None = None
    same_boot: bool = True
    clean: bool = False
    rebuilding: bool = False
    state_differs: str = ""


class Process:
    """`host.Owner` of one life."""

    def __init__(self, member: Member, state: SimState, executor: SimExecutor, edge: Edge | None) -> None:
        self._member = member
        self._state = state
        self._executor = executor
        self._edge = edge

    def on_notice(self, notice: Notice) -> None:
        """See `checks`."""
        self._member.sim.checks.on_notice(self._member, notice)
        if self._edge is not None:
            self._edge.replica.on_notice(notice)

    def role_changed(self) -> None:
        """For the transcript."""
        engine = self._member.core.engine
        role = "is elected" if engine.leading else f"follows {engine.leader_id}"
        self._member.note(f"{'leads' if self._member.core.is_leader else role} in term {engine.term}")
        self._member.sim.checks.on_role(self._member)
        if self._edge is not None:
            self._edge.replica.role_changed()

    def on_message(self, peer_id: str, message: Mapping[str, Any]) -> None:
        """A call of the leader's memory, where somebody makes them."""
        if self._edge is not None:
            self._edge.replica.on_message(peer_id, message)

    def on_refused(self, peer_id: str, reason: str) -> None:
        """As start.py: a node whose journal is unknown must not go on."""
        self._member.note(f"connection with {peer_id} refused: {reason[:60]}")
        if ends(reason, self._member.node_id):
            self._refused(reason)

    def _refused(self, reason: str) -> None:
        """It may not go on under its id: for good, if it was removed."""
        if reason.startswith(REMOVED):
            self._member.sim.checks.on_removed(self._member)
            self._member.removed = True
        self._member.refused = True
        self._member.crash(power=False)
        if self._member.removed:
            self._member.sim.drop_machine(self._member)

    def on_fatal(self, error: BaseException) -> None:
        """The end of this life."""
        if isinstance(error, StartError) and str(error).startswith(REMOVED):
            self._refused(str(error))
            return
        self._member.sim.checks.on_fatal(self._member, error)
        self._member.crash(power=False)

    def state_differs(self, text: str) -> None:
        """As start.py: remembered until the state is built anew."""
        self._member.note(f"is out of service: {text}")
        self._member.kept.state_differs = text

    def rebuilt(self, then: Callable[[], None]) -> None:
        """As start.py: it votes again when that is on disk."""

        def done(error: BaseException | None) -> None:
            _must_work(error)
            then()

        self._executor.submit([self._member.remember_rebuilt], done)

    def installed(self) -> None:
        """Name the new generation once the log's reset is durable, as start.py does."""
        member, state, generation = self._member, self._state, self._state.generation
        journal, life = member.core.journal, member.life
        assert life is not None
        member.note(f"installs the snapshot at entry {state.position.index}")

        def named() -> None:
            kept = member.kept
            if kept.generation is not None and kept.generation.number < generation:
                kept.generation = Generation(generation, state.position, state.store)

        def when_durable() -> None:
            if journal.durable_index >= state.position.index:
                self._executor.submit([named], _must_work)
            else:
                member.sim.scheduler.after(0.01, lambda: life.run(when_durable))

        when_durable()


class Member:
    """A machine with its clocks, its disk, and at most one process of the cluster."""

    def __init__(self, sim: Simulation, node_id: str, rng: Random, timings: Timings, limits: Limits) -> None:
        self.sim = sim
        self.node_id = node_id
        self._rng = rng
        self._timings = timings
        self._limits = limits
        self.clock = SimClock(sim.scheduler, 1.0 + rng.random() * 1000, 0.98 + rng.random() * 0.04)
        self.speed = DiskSpeed(rng, sim.plan.disk_s)
        self.kept = Kept(journal_id=rng.randbytes(16))
        self.lives = 0
        self.life: Life | None = None
        self.refused = False
        self.removed = False
        self.joins = False
        self.turn_s = 0.0
        self.started_with = dict.fromkeys(sim.ids, "simulated")
        self.disk_trouble = False
        self.damaged = False
        self._core: Core | None = None
        self._port: Port | None = None

    @property
    def core(self) -> Core:
        """The core of the process that runs now."""
        assert self._core is not None
        return self._core

    @property
    def up(self) -> bool:
        """Whether a process runs here, paused or not."""
        return self.life is not None

    @property
    def awake(self) -> bool:
        """Whether a process runs here and is not paused."""
        return self.life is not None and not self.life.paused

    def receive(self, peer_id: str, message: Any) -> None:
        """A message comes from a peer, whether or not that has sent it."""
        assert self._port is not None
        self._port.receiver.on_message(peer_id, message)

    def note(self, text: str) -> None:
        """A line of the transcript."""
        self.sim.note(self.node_id, text)

    # --- start --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process on what is kept; one that cannot start is a violation."""
        self.lives += 1
        life = self.life = Life(self, self.lives)
        try:
            self._open(life)
            life.run(self.core.start)
        except Exception as error:  # noqa: BLE001 - as in a real node: whatever it is, the process ends
            self.sim.checks.on_fatal(self, error)
            life.end()
            self.life = None

    def _open(self, life: Life) -> None:
        """From what is on the disk to a core, as cluster/start.py does it with files."""
        kept, scheduler = self.kept, self.sim.scheduler
        new = not kept.disk.names()
        journal = Journal.open(
            kept.disk,
            journal_id=kept.journal_id,
            options=JournalOptions(
                segment_bytes=self._limits.segment_bytes,
                cache_bytes=self._limits.log_cache_bytes,
                log_keep_bytes=self._limits.log_keep_bytes,
            ),
            clock=self.clock,
            create=new,
        )
        self.sim.checks.on_start(self, journal)
        state = self._open_state(journal)
        kept.same_boot, kept.clean = True, False
        snapshot_executor = SimExecutor(scheduler, life, self.speed)
        peers = Peers(
            node_id=self.node_id,
            cluster_id=CLUSTER_ID,
            journal_id=kept.journal_id,
            members=self.started_with,
            http_address="",
            version="0",
            fresh=journal.last_index <= 1 and not self.joins,
            journal_ids=dict(kept.journal_ids),
            remember=lambda known, held: snapshot_executor.submit([lambda: self._remember(known, held)], _must_work),
            held_at_least=kept.held_at_least,
            rebuilding=kept.rebuilding,
        )
        self._port = Port(self.sim.hub, life, self.node_id)
        self.note(f"starts at entry {state.position.index} of {journal.last_index}, term {journal.getCurrentTerm()}")
        run = self._rng.getrandbits(63)
        loop = SimLoop(scheduler, life, self.clock, self.turn_s)
        life.edge = self._edge(life, run, peers, loop) if self.sim.plan.fleet else None
        self._core = Core(
            CoreOptions(
                self.node_id,
                self.started_with,
                CLUSTER_ID,
                run,
                self._timings,
                self._limits,
                self._rng.getrandbits(63),
                joins=self.joins,
                rebuilding=kept.rebuilding,
                state_differs=kept.state_differs,
            ),
            journal=journal,
            state=state,
            machine=machine.apply,
            peers=peers,
            host=Host(
                network=self._port,
                clock=self.clock,
                loop=loop,
                journal_executor=SimExecutor(scheduler, life, self.speed),
                snapshot_executor=snapshot_executor,
                journal_writer=SimWriter(scheduler, life, self.speed, kept.disk) if self.sim.plan.writer else None,
            ),
            owner=Process(self, state, snapshot_executor, life.edge),
        )
        if life.edge is not None:
            life.edge.begin(self._core)

    def _edge(self, life: Life, run: int, peers: Peers, loop: SimLoop) -> Edge:
        coroutines = simulated_loop(
            self.sim.scheduler, life, self.clock, lambda defect: self.sim.checks.violated(self.node_id, defect)
        )
        return Edge(run=run, peers=peers, loop=coroutines, duty_clock=DutyClock(self.clock, loop))

    def _open_state(self, journal: Journal) -> SimState:
        kept = self.kept
        state = SimState(kept.snapshots, lambda before, after: self.sim.checks.on_commit(self, before, after))
        found, snapshot_index = kept.generation, state.position.index if kept.snapshots.manifest is not None else 0
        trusted = kept.same_boot or kept.clean
        if found is not None and trusted and state_rules.may_stay(found.position, snapshot_index, journal.term_at):
            state.adopt(found)
        elif found is not None:
            state.generation = found.number + 1
        kept.generation = Generation(state.generation, state.position, state.store)
        return state

    def _remember(self, known: dict[str, bytes], held: dict[str, int]) -> None:
        self.kept.journal_ids, self.kept.held_at_least = dict(known), dict(held)

    # --- the end ------------------------------------------------------------------------------------------------------

    def crash(self, *, power: bool) -> None:
        """The process is killed, or the machine loses power."""
        life = self.life
        if life is None:
            return
        self._keep()
        life.end()
        self.life = None
        assert self._port is not None
        self._port.drop(lambda: self._rng.random() * (0.8 if power else 0.05))
        if power:
            self.lose_power()
        self.note("loses power" if power else "is killed")

    def lose_power(self) -> None:
        """What was not synced is gone, whether or not a process runs."""
        kept, rng = self.kept, self._rng
        kept.disk.crash(rng)
        kept.same_boot = False
        if kept.snapshots.fetching is not None:
            _, data = kept.snapshots.fetching
            torn = rng.randrange(len(data) + 1)
            data[torn:] = bytes(len(data) - torn) if rng.random() < 0.3 else b""

    def stop(self) -> None:
        """A clean stop: everything to disk, and the mark that says so."""
        if not self.awake:
            return
        core = self.core
        core.stop()
        try:
            core.journal.sync_blocking()
            core.journal.close()
        except OSError:
            self.crash(power=False)  # a disk that fails now: it ends without the mark
            return
        self.crash(power=False)
        kept = self.kept.generation
        self.kept.clean = kept is not None and kept.position == core.state.position

    def _keep(self) -> None:
        """Of the state, the generation that node.json names is found again."""
        state, named = self.core.state, self.kept.generation
        assert isinstance(state, SimState)
        assert named is not None
        if named.number == state.generation:
            self.kept.generation = Generation(state.generation, state.position, state.store)
        elif state.previous is not None and state.previous.number == named.number:
            self.kept.generation = state.previous

    def remember_rebuilt(self) -> None:
        """It is whole again."""
        self.kept.rebuilding = False
        self.note("is rebuilt, and counts again")

    def resync(self) -> None:
        """The log of a stopped node is damaged, and somebody runs `hive resync`: all goes but who it is."""
        if self._core is not None and self._core.membership.current.founded:
            self.started_with, self.joins = self._core.membership.current.addresses(), True
        self.kept = Kept(
            journal_id=self.kept.journal_id,
            journal_ids=self.kept.journal_ids,
            held_at_least=self.kept.held_at_least,
            rebuilding=True,
        )
        self.sim.checks.on_forgotten(self)
        self.note("has lost its log, and is rebuilt")

    def empty_now(self) -> Kept:
        """As `empty`, of a machine that runs; it stays down."""
        self.crash(power=False)
        return self.empty()

    def empty(self) -> Kept:
        """Somebody empties the data directory; returns what was in it."""
        before, self.kept = self.kept, Kept(journal_id=self._rng.randbytes(16))
        return before


def _must_work(error: BaseException | None) -> None:
    if error is not None:
        raise error
