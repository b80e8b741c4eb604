"""One node's consensus core: engine, guards and duties wired together, without sockets, threads or clocks of its own.

    messages, disk, time ──> Core ──> messages, disk jobs, notices

`Core` is what the simulator runs; `node_replica.NodeReplica` wraps it for a real node. Everything happens on one
thread,
and almost everything in `pump`: append what was proposed, tick the engine, start the disk. PUMP AFTER EVERY BURST OF
EVENTS; `tick` pumps at least every few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster.applier import Applier, ApplyEntry, Decided
from cluster.contact import Contact
from cluster.entry_time import EntryTime
from cluster.host import CoreOptions, GuardedExecutor, GuardedWriter, Host, Owner
from cluster.inbound import Inbound
from cluster.installing import Installing
from cluster.integrity import Integrity
from cluster.journal import Journal
from cluster.members import as_started
from cluster.membership import Membership
from cluster.parts import make_elections, make_engine, make_intake, make_snapshots
from cluster.peers import Peers
from cluster.periodic import Periodic
from cluster.proposer import Proposer, Waiter
from cluster.read_index import ReadIndex
from cluster.reconfiguring import Reconfiguring
from cluster.replica import Metrics, Notice
from cluster.state import State
from cluster.transport import GuardedTransport

Message = dict[str, Any]

TICK_S = 0.01
"""The longest time between two pumps. Everything that is waited for pumps by itself; this is for the engine's
timers."""

TELL_COMMIT_S = 0.001
"""How long a leader waits for an entry that takes the commit index along."""


class Core:
    """One member. `peers` decides whom to talk to; `owner` hears of everything, and ends the node when it must."""

    def __init__(
        self,
        options: CoreOptions,
        *,
        journal: Journal,
        state: State,
        machine: ApplyEntry,
        peers: Peers,
        host: Host,
        owner: Owner,
    ) -> None:
        self.options = options
        self.metrics = Metrics()
        self.journal = journal
        self.state = state
        self.peers = peers
        peers.run = options.run
        self.owner = owner
        self._network = host.network
        self.clock = host.clock
        self._loop = host.loop
        self._pump_scheduled = False
        self._stopped = False
        self.failed = False
        self._role: tuple[bool, int, str | None, bool] = (False, 0, None, False)
        self._remote_waits = False
        self._will_tell_commit = False
        writer = None if host.journal_writer is None else GuardedWriter(host.journal_writer, self.guarded)
        executor = GuardedExecutor(host.journal_executor, self.guarded)
        journal.bind(executor, self._on_durable, self.fail, self._on_fsync, writer)
        self.transport = GuardedTransport(journal, self.send)
        started = as_started(options.members, options.node_id if options.joins else None)
        self.membership = Membership(self, started, options.run ^ 1)
        self.others = self.membership.current.others(options.node_id)
        self.reconfiguring = Reconfiguring(self, host.network, host.loop)
        self._installing = Installing(self)
        self.snapshots = make_snapshots(self, host, self._installing.fetched)
        self.applier = Applier(state, journal, machine, self.clock, self.metrics, self._applied)
        self.engine = make_engine(self, self._apply_entries)
        self.contact = Contact(
            options.node_id,
            self.membership.current.voters,
            self.clock,
            broadcast=self.broadcast,
            on_confirmed=self._round_confirmed,
        )
        self.entry_time = EntryTime(self.clock, self.contact, options.timings.clock_skew_max_ms)
        self.elections = make_elections(self, lambda: self.peers.may_vote() and self._periodic.fit())
        self.transport.bind(self.engine, self.elections)
        self.intake = make_intake(self, self._refuse_batch)
        self.proposer = Proposer(options.run, self.clock, options.limits, self.metrics, self._send_batch)
        self.reads = ReadIndex(
            self.engine,
            self.contact,
            self.clock,
            ask_leader=self._ask_read_index,
            first_number=options.run >> 1,
        )
        self.integrity = Integrity(self, GuardedExecutor(host.snapshot_executor, self.guarded), self.broadcast)
        self.transport.uncounted = self.contact.uncounted
        self._periodic = Periodic(self, self.clock)

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up where the disk left off, then speak to the others."""
        self.engine.enter()
        if self.snapshots.newest is not None:
            self.engine.load_snapshot()
        position = self.state.position
        known_term = self.journal.term_at(position.index)
        if position.index > 1 and known_term != position.term:
            raise AssertionError(
                f"the state stands at entry {position.index} of term {position.term}, "
                f"the log has term {known_term} there"
            )
        self.engine.skip_to(position.index)
        self.entry_time.seen(position.time_ms)
        self.reconfiguring.take_up()
        self.engine.postpone_election()
        if self.contact.alone:
            self.engine.campaign_now()
        self._network.start(Inbound(self, self._network))
        self._tick()

    @property
    def stopped(self) -> bool:
        """Whether this core has ended, by `stop` or by a fault."""
        return self._stopped

    def now_s(self) -> float:
        """The core's monotonic time."""
        return self.clock.monotonic_s()

    def hand_over(self, to: str | None) -> None:
        """Ask a member that has everything to take over now; nothing happens if none has (yet)."""
        self.engine.enter()
        self.engine.transferLeadership(to)
        self.schedule_pump()

    def stop(self) -> None:
        """Stop at once. Pending writes end with their honest error."""
        self._stopped = True
        self.proposer.close()
        self.membership.gap()
        self.reads.close()
        self._network.close()

    def fail(self, error: BaseException) -> None:
        """End the node: what is wrong must not be said to others."""
        if not self._stopped:
            self._stopped = self.failed = True
            self.owner.on_fatal(error)

    def guarded(self, action: Callable[[], None]) -> None:
        """Run a piece of the core: an error in it ends the node, before anything wrong can be said to others."""
        if self._stopped:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the outermost edge of the core: fail-stop
            self.fail(error)

    # --- members ------------------------------------------------------------------------------------------------------

    def is_live(self, node_id: str) -> bool:
        """Whether a member answered within the fallback time."""
        since_s = self.now_s() - self.options.timings.fallback_ms / 1000
        heard_s = self.contact.heard_s.get(node_id, -1e9)
        counts = node_id in self.transport.connected and node_id not in self.contact.uncounted
        return node_id == self.options.node_id or (counts and heard_s >= since_s)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._stopped:
            return
        self._loop.call_later(TICK_S, self._tick)
        self.guarded(self._timed)
        self.pump()

    def _timed(self) -> None:
        self.engine.enter()
        self._periodic.tick()
        self.integrity.tick()
        self._installing.go_on()

    def has_quorum(self) -> bool:
        """Whether a majority was heard of within the fallback time: by this leader, or by this follower's leader."""
        within_s = self.options.timings.fallback_ms / 1000
        if self.engine.leading:
            return self.contact.has_quorum_contact(within_s)
        return self.leader_id is not None and self.contact.leader_has_quorum(within_s)

    # --- the pump -----------------------------------------------------------------------------------------------------

    def schedule_pump(self) -> None:
        """Pump after what is happening now."""
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self.pump)

    def pump(self) -> None:
        """Let everything that can go on go on."""
        self._pump_scheduled = False
        self.guarded(self._pump)

    def _pump(self) -> None:
        engine = self.engine
        engine.enter()
        # First: a new leader must have taken up the log's time before it stamps anything.
        self._tell_role()
        self.proposer.pump(self._leader_term())
        self.reads.pump()
        appended = self.intake.append()
        self._send_new(self.membership.append() or appended)
        self.transport.mark_transfer_campaign(on=self.elections.before_tick())
        engine.doTick(0)
        if engine.applied_index < min(engine.commit_index, self.journal.durable_index) and not engine.apply_turn.waits:
            self.schedule_pump()
        self.journal.flush()
        # Also what waits for nothing: an answer made while all was on disk would otherwise wait for the next write.
        self.transport.release()
        self._tell_role()

    def _send_new(self, appended: bool) -> None:
        # Before anything is applied: disks and peers work on what is new while this thread works on what is old. The
        # peers first: their disks are on the way of an acknowledgement as this one is, and further away.
        if appended:
            self.engine.send_entries()
        self.journal.flush()

    def _on_durable(self) -> None:
        self.transport.release()
        self.schedule_pump()

    def _on_fsync(self, seconds: float) -> None:
        if self.metrics.on_fsync is not None:
            self.metrics.on_fsync(seconds)

    @property
    def leader_id(self) -> str | None:
        """The leader, None while none is heard of."""
        engine = self.engine
        return None if self.elections.leader_missed and not engine.leading else engine.leader_id

    def _tell_role(self) -> None:
        role = (self.engine.leading, self.engine.term, self.leader_id, self.is_leader)
        if role == self._role:
            return
        if role[:3] != self._role[:3]:
            self.reads.leadership_changed()
            if role[2] is not None and role[2] != self._role[2]:
                self.metrics.leader_changes += 1
        if role[0] != self._role[0]:
            self.transport.leadership_changed()
        if role[0] and not self._role[0]:
            self.entry_time.seen(self.state.position.time_ms)
            self.entry_time.resume(self.journal)
            # Not at the next period: writes wait until it knows the others' clocks.
            self.contact.probe(self.engine.term, self.engine.commit_index)
        self._role = role
        self.owner.role_changed()

    @property
    def is_leader(self) -> bool:
        """Leads, and has applied its own term's first entry: everything before it is known and visible here."""
        engine = self.engine
        if self.integrity.state_differs:
            return False
        return engine.leading and engine.applied_index >= engine.no_op_index > 0

    def _leader_term(self) -> int | None:
        engine = self.engine
        if engine.leading:
            return engine.term
        leader = engine.leader_id
        return engine.term if leader is not None and leader in self.transport.connected else None

    # --- writes and reads ---------------------------------------------------------------------------------------------

    def propose(self, frames: Sequence[bytes], timeout_s: float, waiter: Waiter, term: int | None = None) -> None:
        """See `Proposer.propose`; and what may not be written now is refused."""
        self.integrity.check_writable(frames)
        self.proposer.propose(frames, timeout_s, waiter, term)
        self.schedule_pump()

    def read_barrier(self, timeout_s: float, waiter: Callable[[Exception | None], None]) -> None:
        """See `ReadIndex.read`."""
        self.reads.read(timeout_s, waiter)
        self.schedule_pump()

    def _send_batch(self, term: int, low: int, batch: bytes) -> bool:
        if self.engine.leading:
            self.intake.take(self.options.node_id, term, low, batch, trusted=True)
            return True
        leader = self.engine.leader_id
        if leader is None:
            return False
        return self.send(leader, {"type": "propose", "term": term, "low": low, "batch": batch})

    def _refuse_batch(self, proposer: str, sequence: int, term: int, code: str) -> None:
        if proposer == self.options.node_id:
            self.proposer.refused(sequence, term, code)
        else:
            self.send(proposer, {"type": "refused", "sequence": sequence, "term": term, "code": code})

    def _ask_read_index(self, number: int) -> bool:
        leader = self.engine.leader_id
        return leader is not None and self.send(leader, {"type": "read_index", "number": number})

    def _round_confirmed(self, number: int) -> None:
        self.contact.led(self.engine.applied_index)
        self.reads.confirmed(number)

    def _apply_entries(self, first: int, last: int) -> int:
        if self.engine.leading:
            # What waited for the entry that is committed now.
            self._send_new(self.intake.append())
        applied = self.applier.apply(first, self.integrity.agreement.stop_at(first, last))
        self.integrity.agreement.applied()
        return applied

    def _applied(self, term: int, decided: list[Decided], notices: list[Notice]) -> None:
        """From the applier: entries up to one of `term` are visible now."""
        if self.applier.members_changed:
            self.applier.members_changed = False
            self.reconfiguring.take_up()
        for batch in decided:
            if batch.run == self.options.run:
                self.metrics.proposals_committed += 1
                self.proposer.applied(batch.sequence, batch.outcomes)
                self.schedule_pump()
            elif batch.run == self.membership.run:
                self.membership.decided(batch.sequence, batch.outcomes[0])
            elif self.engine.leading:
                self._remote_waits = True
        self.proposer.applied_term(term)
        self.membership.applied_term(term)
        if self._remote_waits:
            # A follower's proposer waits for the commit index: send it with this tick, not with the next period.
            self._remote_waits = False
            self.engine.send_now()
        self._tell_commit_soon()
        index = self.state.position.index
        self.contact.on_applied(index)
        for notice in notices:
            self.owner.on_notice(notice)
        self._loop.call_soon(self._reads_applied)

    def _tell_commit_soon(self) -> None:
        """The members hear of a commit with the entry that follows. Where none does they would wait for the next
        period, and with them the agents and watchers at their doors."""
        if self.engine.leading and self.others and not self._will_tell_commit:
            self._will_tell_commit = True
            self._loop.call_later(TELL_COMMIT_S, self._tell_commit)

    def _tell_commit(self) -> None:
        self._will_tell_commit = False
        if not self._stopped and self.engine.leading and self.engine.commit_told < self.engine.commit_index:
            self.engine.send_now()
            self.schedule_pump()

    def _reads_applied(self) -> None:
        self.guarded(lambda: self.reads.applied(self.engine.applied_index))

    # --- network ------------------------------------------------------------------------------------------------------

    def send(self, peer_id: str, message: Message) -> bool:
        """Send to a member; False when it cannot be reached now."""
        return self._network.send(peer_id, message)

    def broadcast(self, message: Message) -> None:
        for peer_id in self.others:
            self._network.send(peer_id, message)
