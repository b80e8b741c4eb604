"""One node's consensus core: engine, guards and duties wired together, without sockets, threads or clocks of its own.

    messages, disk, time ──> Core ──> messages, disk jobs, notices

`Core` is what the simulator runs; `node_replica.NodeReplica` wraps it for a real node. Everything happens on one
thread,
and almost everything in `pump`: append what was proposed, tick the engine, start the disk. PUMP AFTER EVERY BURST OF
EVENTS; `tick` pumps at least every few milliseconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.applier import Applier, ApplyEntry, Decided
from cluster.contact import Contact
from cluster.election import Elections
from cluster.engine import NO_OP, Engine
from cluster.entry_time import EntryTime
from cluster.intake import Intake
from cluster.journal import Journal
from cluster.messages import ProtocolViolationError, check_message
from cluster.peers import Peers
from cluster.ports import Clock, Executor, Loop, Network
from cluster.proposer import Proposer, Waiter
from cluster.read_index import ReadIndex
from cluster.replica import Metrics, Notice
from cluster.settings import Limits, Timings
from cluster.snapshots import Snapshots, decode_manifest
from cluster.state import State
from cluster.transport import GuardedTransport
from statemachine.entry import decode_header

Message = dict[str, Any]

TICK_S = 0.005
_EXPIRE_EVERY_S = 0.02
_COMPACT_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """What a core is. `run` is random and new with every start: it names this node's batches."""

    node_id: str
    members: tuple[str, ...]
    cluster_id: str
    run: int
    timings: Timings
    limits: Limits
    seed: int


class Core:
    """One member. `peers` decides whom to talk to; `listener` hears every notice; `on_fatal` must end the node."""

    def __init__(
        self,
        options: CoreOptions,
        *,
        journal: Journal,
        state: State,
        machine: ApplyEntry,
        peers: Peers,
        network: Network,
        clock: Clock,
        loop: Loop,
        journal_executor: Executor,
        snapshot_executor: Executor,
        on_notice: Callable[[Notice], None],
        on_role_change: Callable[[], None],
        on_installed: Callable[[], None],
        on_message: Callable[[str, Message], None],
        on_refused: Callable[[str, str], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.options = options
        self.metrics = Metrics()
        self.journal = journal
        self.state = state
        self._peers = peers
        self._network = network
        self._clock = clock
        self._loop = loop
        self._on_notice = on_notice
        self._on_role_change = on_role_change
        self._on_installed = on_installed
        self._on_other_message = on_message
        self._on_refused_by_peer = on_refused
        self._on_fatal = on_fatal
        self._others = tuple(member for member in options.members if member != options.node_id)
        self._pump_scheduled = False
        self._stopped = False
        self._role: tuple[bool, int, str | None, bool] = (False, 0, None, False)
        self._last_expire_s = self._last_compact_s = self._last_probe_s = -1e9
        self._last_tick_s: float | None = None
        self._fetched: bytes | None = None
        self._remote_waits = False

        journal.bind(journal_executor, self._on_durable, self._fail, self._on_fsync)
        self.transport = GuardedTransport(journal, self._send)
        self.snapshots = Snapshots(
            state,
            snapshot_executor,
            clock,
            self.metrics,
            cluster_id=options.cluster_id,
            members=options.members,
            send=self._send,
            on_fetched=self._snapshot_fetched,
            on_failure=self._fail,
        )
        self.applier = Applier(state, journal, machine, clock, self.metrics, self._applied)
        self.engine = Engine(
            options.node_id,
            list(self._others),
            journal=journal,
            transport=self.transport,
            snapshots=self.snapshots,
            apply_entries=self.applier.apply,
            on_state_changed=self.schedule_pump,
            clock=clock,
            rng=random.Random(options.seed),
            timings=options.timings,
            limits=options.limits,
        )
        self.contact = Contact(
            options.node_id, self._others, clock, broadcast=self._broadcast, on_confirmed=self._round_confirmed
        )
        self.entry_time = EntryTime(clock, self.contact, options.timings.clock_skew_max_ms)
        self.elections = Elections(
            self.engine,
            journal,
            clock,
            options.timings,
            self._others,
            broadcast=self._broadcast,
            send=self._send,
            may_campaign=self._may_campaign,
            may_vote=peers.may_vote,
            has_quorum_contact=self.has_quorum,
        )
        self.transport.bind(self.engine, self.elections)
        self.intake = Intake(
            self.engine, journal, options.limits, entry_time_ms=self.entry_time.stamp_ms, refuse=self._refuse_batch
        )
        self.proposer = Proposer(options.run, clock, options.limits, self.metrics, self._send_batch)
        self.reads = ReadIndex(
            self.engine, self.contact, clock, ask_leader=self._ask_read_index, alone=not self._others
        )

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
        self.engine.postpone_election()
        if not self._others:
            self.engine.campaign_now()
        self._network.start(self)
        self._tick()

    @property
    def stopped(self) -> bool:
        """Whether this core has ended, by `stop` or by a fault."""
        return self._stopped

    def now_s(self) -> float:
        """The core's monotonic time."""
        return self._clock.monotonic_s()

    def hand_over(self, to: str | None) -> None:
        """Ask a member that has everything to take over now; nothing happens if none has (yet)."""
        self.engine.enter()
        self.engine.transferLeadership(to)
        self.schedule_pump()

    def stop(self) -> None:
        """Stop at once. Pending writes end with their honest error."""
        self._stopped = True
        self.proposer.close()
        self.reads.close()
        self._network.close()

    def _fail(self, error: BaseException) -> None:
        if not self._stopped:
            self._stopped = True
            self._on_fatal(error)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Rule 6 of STYLE.md: whatever is wrong in here ends the node, before anything wrong can be said to others."""
        if self._stopped:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the outermost edge of the core: fail-stop
            self._fail(error)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._stopped:
            return
        self._loop.call_later(TICK_S, self._tick)
        now = self._clock.monotonic_s()
        if self._last_tick_s is not None and (now - self._last_tick_s) * 1000 > self.options.timings.late_tick_ms:
            self.metrics.late_ticks += 1
        self._last_tick_s = now
        self._guarded(self._timed)
        self.pump()

    def _timed(self) -> None:
        self.engine.enter()
        now = self._clock.monotonic_s()
        if now - self._last_probe_s >= self.options.timings.heartbeat_ms / 1000:
            self._last_probe_s = now
            if self.engine.leading:
                self.contact.probe(self.engine.term, self.engine.commit_index)
                self.transport.heartbeat_installing(self.engine.term)
                self._leave_if_unfit()
        if now - self._last_expire_s >= _EXPIRE_EVERY_S:
            self._last_expire_s = now
            self.proposer.expire()
            self.reads.expire()
            self.snapshots.tick()
        if now - self._last_compact_s >= _COMPACT_EVERY_S:
            self._last_compact_s = now
            self._compact_if_due()
        self._install_if_fetched()

    def _leave_if_unfit(self) -> None:
        """A leader with a stalled disk or a wrong clock hands over; followers in that state do not campaign."""
        if self._others and not self._fit():
            self.engine.transferLeadership()

    def _fit(self) -> bool:
        since_s = self.journal.oldest_unsynced_since_s
        stall_s = self.options.timings.disk_stall_ms / 1000
        stalled = since_s is not None and self._clock.monotonic_s() - since_s > stall_s
        return not stalled and not self.entry_time.clock_is_wrong

    def _may_campaign(self) -> bool:
        return self._peers.may_vote() and self._fit()

    def _compact_if_due(self) -> None:
        newest = self.snapshots.newest
        since = newest.position.index if newest is not None else self.journal.first_index
        behind = self.journal.bytes_behind
        log_bytes = behind(self.engine.applied_index + 1) - behind(max(since, self.journal.first_index))
        if log_bytes > max(self.options.limits.snapshot_log_bytes, self.state.size_bytes()):
            self.engine.forceLogCompaction()

    def has_quorum(self) -> bool:
        """Whether a majority was heard of within the fallback time."""
        return self.contact.has_quorum_contact(self.options.timings.fallback_ms / 1000)

    # --- the pump -----------------------------------------------------------------------------------------------------

    def schedule_pump(self) -> None:
        """Pump after what is happening now."""
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self.pump)

    def pump(self) -> None:
        """Let everything that can go on go on."""
        self._pump_scheduled = False
        self._guarded(self._pump)

    def _pump(self) -> None:
        engine = self.engine
        engine.enter()
        self.proposer.pump(self._leader_term())
        self.reads.pump()
        self.intake.append()
        self.transport.mark_transfer_campaign(on=self.elections.before_tick())
        engine.doTick(0)
        if engine.applied_index < min(engine.commit_index, self.journal.durable_index):
            self.schedule_pump()
        self.journal.flush()
        self._tell_role()

    def _on_durable(self) -> None:
        self.transport.release()
        self.schedule_pump()

    def _on_fsync(self, seconds: float) -> None:
        if self.metrics.on_fsync is not None:
            self.metrics.on_fsync(seconds)

    def _tell_role(self) -> None:
        role = (self.engine.leading, self.engine.term, self.engine.leader_id, self.is_leader)
        if role == self._role:
            return
        if role[:3] != self._role[:3]:
            self.reads.leadership_changed()
            if role[2] is not None and role[2] != self._role[2]:
                self.metrics.leader_changes += 1
        if role[0] and not self._role[0]:
            self._resume_log_time()
        self._role = role
        self._on_role_change()

    def _resume_log_time(self) -> None:
        """A new leader's first entry is not older than the last one of its log."""
        for index in range(self.journal.last_index, max(self.journal.first_index, self.journal.last_index - 8), -1):
            command = self.journal[index - self.journal.first_index][0]
            if command[:1] != NO_OP:
                self.entry_time.seen(decode_header(command[1:]).time_ms)
                return

    @property
    def is_leader(self) -> bool:
        """Leads, and has applied its own term's first entry: everything before it is known and visible here."""
        engine = self.engine
        return engine.leading and engine.applied_index >= engine.no_op_index > 0

    def _leader_term(self) -> int | None:
        engine = self.engine
        if engine.leading:
            return engine.term
        leader = engine.leader_id
        return engine.term if leader is not None and leader in self.transport.connected else None

    # --- writes and reads ---------------------------------------------------------------------------------------------

    def propose(self, frames: Sequence[bytes], timeout_s: float, waiter: Waiter) -> None:
        """See `Proposer.propose`."""
        self.proposer.propose(frames, timeout_s, waiter)
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
        return self._send(leader, {"type": "propose", "term": term, "low": low, "batch": batch})

    def _refuse_batch(self, proposer: str, sequence: int, term: int, code: str) -> None:
        if proposer == self.options.node_id:
            self.proposer.refused(sequence, term, code)
        else:
            self._send(proposer, {"type": "refused", "sequence": sequence, "term": term, "code": code})

    def _ask_read_index(self, number: int) -> bool:
        leader = self.engine.leader_id
        return leader is not None and self._send(leader, {"type": "read_index", "number": number})

    def _round_confirmed(self, number: int) -> None:
        self.reads.confirmed(number)

    def _applied(self, term: int, decided: list[Decided], notices: list[Notice]) -> None:
        """From the applier: entries up to one of `term` are visible now."""
        for batch in decided:
            if batch.run == self.options.run:
                self.metrics.proposals_committed += 1
                self.proposer.applied(batch.sequence, batch.outcomes)
                self.schedule_pump()
            elif self.engine.leading:
                self._remote_waits = True
        self.proposer.applied_term(term)
        if self._remote_waits:
            # A follower's proposer waits for the commit index: send it with this tick, not with the next period.
            self._remote_waits = False
            self.engine.send_now()
        index = self.state.position.index
        self.contact.on_applied(index)
        for notice in notices:
            self._on_notice(notice)
        self._loop.call_soon(self._reads_applied)

    def _reads_applied(self) -> None:
        self._guarded(lambda: self.reads.applied(self.engine.applied_index))

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def _snapshot_fetched(self, _peer_id: str, manifest: bytes) -> None:
        self._fetched = manifest

    def _install_if_fetched(self) -> None:
        """Inject the fetched snapshot as coming from the present leader: what it holds is committed, whoever gave
        it."""
        leader = self.engine.leader_id
        if self._fetched is None or leader is None or self.engine.leading:
            return
        manifest, self._fetched = decode_manifest(self._fetched), None
        if manifest.position.index > self.engine.applied_index:
            from_bytes = self.snapshots.ready
            if from_bytes is None:
                raise AssertionError("a fetched snapshot vanished")
            self.transport.install(leader, self.engine.term, from_bytes, manifest.position.index)
            self.proposer.gap()
            position = self.state.position
            self._on_notice(
                Notice(position.index, position.term, 0, position.revision, position.time_ms, gap=True)
            )
            self._on_installed()
        self._send(leader, {"type": "installed", "index": self.engine.applied_index})
        self.schedule_pump()

    # --- network ------------------------------------------------------------------------------------------------------

    def send(self, peer_id: str, message: Message) -> bool:
        """A message of the node beside the consensus (calls to the leader's memory)."""
        return self._send(peer_id, message)

    def _send(self, peer_id: str, message: Message) -> bool:
        return self._network.send(peer_id, message)

    def _broadcast(self, message: Message) -> None:
        for peer_id in self._others:
            self._network.send(peer_id, message)

    def hello(self) -> dict[str, Any]:
        """What this node says of itself to a peer."""
        return self._peers.hello(self.journal.last_index, self.journal.last_term)

    def refuse_hello(self, peer_id: str, hello: dict[str, Any]) -> str | None:
        """Why a peer is not spoken to."""
        return self._peers.refuse(peer_id, hello)

    def on_connected(self, peer_id: str, hello: dict[str, Any]) -> None:
        """A peer is there."""
        if self._stopped:
            return
        self._peers.met(peer_id, hello)
        self.contact.heard(peer_id)
        self._guarded(lambda: self._connected(peer_id))

    def _connected(self, peer_id: str) -> None:
        self.transport.peer_connected(peer_id)
        if peer_id == self.engine.leader_id:
            self.proposer.reconnected(self.engine.term)
            self.reads.leadership_changed()
        self.schedule_pump()

    def on_refused(self, peer_id: str, reason: str) -> None:
        """A handshake failed. Whoever is told that its journal is unknown must not go on with it."""
        self._on_refused_by_peer(peer_id, reason)

    def on_disconnected(self, peer_id: str) -> None:
        """A peer is gone."""
        self.contact.lost(peer_id)
        self._guarded(lambda: self._disconnected(peer_id))

    def _disconnected(self, peer_id: str) -> None:
        if self.engine.leading:
            self._peers.holds_at_least(peer_id, min(self.engine.match_index(peer_id), self.engine.commit_index))
        self.transport.peer_disconnected(peer_id)
        self.snapshots.lost(peer_id)
        if peer_id == self.engine.leader_id:
            self.elections.leader_lost()

    def on_drained(self, peer_id: str) -> None:
        """A slow peer reads again."""
        self._guarded(lambda: self.transport.resume(peer_id))

    def on_message(self, peer_id: str, message: Message) -> None:
        """One message of a peer. A malformed one costs the peer its connection, never this node."""
        if self._stopped:
            return
        self.contact.heard(peer_id)
        self.engine.enter()
        handler = _HANDLERS.get(message.get("type", ""))
        try:
            check_message(message)
            if handler is None:
                self.transport.receive(peer_id, message)
            else:
                handler(self, peer_id, message)
        except ProtocolViolationError as error:
            self._network.disconnect(peer_id, f"protocol violation: {error}")
        except Exception as error:  # noqa: BLE001 - the outermost edge of the core: fail-stop
            self._fail(error)
        self.schedule_pump()

    def _on_ping(self, peer_id: str, message: Message) -> None:
        if peer_id == self.engine.leader_id and message["term"] == self.engine.term:
            self.contact.on_ping(message, self.engine.applied_index)
        self._send(
            peer_id,
            {"type": "pong", "n": message["n"], "term": self.engine.term, "wall_ms": self._clock.wall_ms()},
        )

    def _on_pong(self, peer_id: str, message: Message) -> None:
        self.contact.on_pong(peer_id, message, self.engine.term)
        if self.engine.leading and message["term"] == self.engine.term:
            # Its acknowledgements wait for its disk; that it is there does not.
            self.engine.credit_contact(peer_id)

    def _on_newer_term(self, peer_id: str, message: Message) -> None:
        self.transport.newer_term(peer_id, message["term"])

    def _on_propose(self, peer_id: str, message: Message) -> None:
        self.intake.take(peer_id, message["term"], message["low"], message["batch"])

    def _on_refused(self, _peer_id: str, message: Message) -> None:
        self.proposer.refused(message["sequence"], message["term"], message["code"])

    def _on_read_index(self, peer_id: str, message: Message) -> None:
        number = message["number"]

        def answer(index: int | None) -> None:
            self._send(peer_id, {"type": "read_index_reply", "number": number, "index": index})

        self.reads.on_question(answer)

    def _on_read_index_reply(self, _peer_id: str, message: Message) -> None:
        self.reads.on_answer(message["number"], message["index"])

    def _on_snapshot_offer(self, peer_id: str, message: Message) -> None:
        if message["term"] >= self.engine.term:
            self.snapshots.on_offer(peer_id, message["manifest"], self.engine.applied_index)

    def _on_installed_by_peer(self, peer_id: str, _message: Message) -> None:
        self.transport.resume(peer_id)

    def _on_service(self, peer_id: str, message: Message) -> None:
        self._on_other_message(peer_id, message)


_HANDLERS: dict[str, Callable[[Core, str, Message], None]] = {
    "ping": Core._on_ping,
    "pong": Core._on_pong,
    "pre_vote": lambda core, peer, message: core.elections.on_pre_vote(peer, message),
    "pre_vote_reply": lambda core, peer, message: core.elections.on_pre_vote_reply(peer, message),
    "newer_term": Core._on_newer_term,
    "propose": Core._on_propose,
    "refused": Core._on_refused,
    "read_index": Core._on_read_index,
    "read_index_reply": Core._on_read_index_reply,
    "snapshot_offer": Core._on_snapshot_offer,
    "installed": Core._on_installed_by_peer,
    "image_pull": lambda core, peer, message: core.snapshots.on_pull(peer, message),
    "image_chunk": lambda core, peer, message: core.snapshots.on_chunk(peer, message),
    "image_gone": lambda core, peer, message: core.snapshots.on_gone(peer, message),
    "call": Core._on_service,
    "reply": Core._on_service,
}
