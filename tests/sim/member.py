"""One simulated machine: what survives on it, and the process that comes and goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from cluster import state as state_rules
from cluster.core import Core, CoreOptions
from cluster.host import Host
from cluster.journal import Journal, JournalOptions
from cluster.memory_disk import MemoryDisk
from cluster.memory_state import MemorySnapshots
from cluster.peers import JOURNAL_UNKNOWN, Peers
from cluster.replica import Notice
from cluster.settings import Limits, Timings
from statemachine import machine
from tests.sim.clockwork import Action, DiskSpeed, SimClock, SimExecutor, SimLoop
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
    generation: Generation | None = None
    same_boot: bool = True
    clean: bool = False


class Life:
    """One process: actions of a dead one are dropped, those of a paused one wait."""

    def __init__(self, member: Member, number: int) -> None:
        self.number = number
        self._member = member
        self._waiting: deque[Action] = deque()
        self.paused = False
        self.over = False

    def run(self, action: Action) -> None:
        """Run an action of this process, now or when it is no longer paused."""
        if self.over:
            return
        if self.paused:
            self._waiting.append(action)
            return
        action()
        if not self.over:
            self._member.sim.checks.after_step(self._member)

    def resume(self) -> None:
        """Everything that should have happened meanwhile happens now, late."""
        self.paused = False
        while self._waiting and not self.paused:
            self.run(self._waiting.popleft())


class Process:
    """`host.Owner` of one life."""

    def __init__(self, member: Member, state: SimState, executor: SimExecutor) -> None:
        self._member = member
        self._state = state
        self._executor = executor

    def on_notice(self, notice: Notice) -> None:
        """See `checks`."""
        self._member.sim.checks.on_notice(self._member, notice)

    def role_changed(self) -> None:
        """For the transcript."""
        engine = self._member.core.engine
        role = "is elected" if engine.leading else f"follows {engine.leader_id}"
        self._member.note(f"{'leads' if self._member.core.is_leader else role} in term {engine.term}")

    def on_message(self, peer_id: str, message: Mapping[str, Any]) -> None:
        """Nobody calls the leader's memory here."""

    def on_refused(self, peer_id: str, reason: str) -> None:
        """As start.py: a node whose journal is unknown must not go on."""
        self._member.note(f"connection with {peer_id} refused: {reason[:60]}")
        if reason.startswith(f"{JOURNAL_UNKNOWN}: node {self._member.node_id} "):
            self._member.refused = True
            self._member.crash(power=False)

    def on_fatal(self, error: BaseException) -> None:
        """The end of this life."""
        self._member.sim.checks.on_fatal(self._member, error)
        self._member.crash(power=False)

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
            life.over = True
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
        others = tuple(member for member in self.sim.ids if member != self.node_id)
        peers = Peers(
            node_id=self.node_id,
            cluster_id=CLUSTER_ID,
            journal_id=kept.journal_id,
            members=dict.fromkeys(self.sim.ids, "simulated"),
            http_address="",
            version="0",
            fresh=journal.last_index <= 1,
            journal_ids=dict(kept.journal_ids),
            remember=lambda known: snapshot_executor.submit([lambda: self._remember(known)], _must_work),
        )
        self._port = Port(self.sim.hub, life, self.node_id, others)
        self.note(f"starts at entry {state.position.index} of {journal.last_index}, term {journal.getCurrentTerm()}")
        self._core = Core(
            CoreOptions(
                self.node_id,
                self.sim.ids,
                CLUSTER_ID,
                self._rng.getrandbits(63),
                self._timings,
                self._limits,
                self._rng.getrandbits(63),
            ),
            journal=journal,
            state=state,
            machine=machine.apply,
            peers=peers,
            host=Host(
                network=self._port,
                clock=self.clock,
                loop=SimLoop(scheduler, life, self.clock),
                journal_executor=SimExecutor(scheduler, life, self.speed),
                snapshot_executor=snapshot_executor,
            ),
            owner=Process(self, state, snapshot_executor),
        )

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

    def _remember(self, known: dict[str, bytes]) -> None:
        self.kept.journal_ids = dict(known)

    # --- the end ------------------------------------------------------------------------------------------------------

    def crash(self, *, power: bool) -> None:
        """The process is killed, or the machine loses power."""
        life = self.life
        if life is None:
            return
        self._keep()
        life.over = True
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
        core.journal.sync_blocking()
        core.journal.close()
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

    def empty(self) -> Kept:
        """Somebody empties the data directory; returns what was in it."""
        before, self.kept = self.kept, Kept(journal_id=self._rng.randbytes(16))
        return before


def _must_work(error: BaseException | None) -> None:
    if error is not None:
        raise error
