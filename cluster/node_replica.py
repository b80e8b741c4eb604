"""`Replica` of a real node: the core on this thread's event loop, with awaitable calls and calls to the leader's
memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from cluster.calls import Calls
from cluster.core import Core
from cluster.identity import StartError
from cluster.member_changes import SERVICE, MemberChanges
from cluster.member_status import member_status, own_role
from cluster.membership import Membership
from cluster.peers import Peers, ends
from cluster.replica import (
    MemberChange,
    MemberStatus,
    Metrics,
    NotCommittedError,
    Notice,
    ReplicaStatus,
    ServiceHandler,
    TooStaleError,
    View,
)
from statemachine.outcome import Outcome

log = logging.getLogger("hive.cluster")

_SNAPSHOT_TURN_S = 1.0
_REFUSALS_MAX = 1_000
"""Different refusals that are logged; after that peers make them up."""


class NodeReplica:
    """As `Replica`. Made by `start.open_replica`, which also gives `_close` what else has to be let go."""

    def __init__(
        self,
        *,
        run_id: str,
        version: str,
        peers: Peers,
        on_installed: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
        on_state_differs: Callable[[str], None],
        on_rebuilt: Callable[[Callable[[], None]], None],
    ) -> None:
        self.run_id = run_id
        self.installed = on_installed
        self.state_differs = on_state_differs
        self.rebuilt = on_rebuilt
        self.on_fatal = on_fatal
        self._refusals: set[str] = set()
        self._version = version
        self._peers = peers
        self._core: Core | None = None
        self._listeners: list[Callable[[Notice], None]] = []
        self._role_listeners: list[Callable[[], None]] = []
        self._calls = Calls(
            peers.node_id,
            int(run_id, 16) >> 1,
            send=lambda peer_id, message: self.core.send(peer_id, dict(message)),
            leader_id=lambda: self.leader_id,
            is_leader=lambda: self.is_leader,
        )
        self._changes = MemberChanges(self, self._calls.call)
        self._calls.serve(SERVICE, self._changes.answer)
        self._revision_waiters: dict[asyncio.Future[None], int] = {}
        self._closing: list[Callable[[], None]] = []
        self._closed: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._caught_up = False
        self._was: tuple[str, int, str | None] = ("", 0, None)
        self.internal_errors = 0

    def bind(self, core: Core, closing: list[Callable[[], None]]) -> None:
        """The core calls back into this object, so it is named only afterwards. `closing` runs last, in order."""
        self._core = core
        self._closing = closing

    @property
    def core(self) -> Core:
        """The consensus core."""
        if self._core is None:
            raise AssertionError("used before bind()")
        return self._core

    @property
    def metrics(self) -> Metrics:
        metrics, integrity = self.core.metrics, self.core.integrity
        metrics.peer_round_trip_s = self.core.contact.round_trip_s
        metrics.state_checks = integrity.agreement.checks_done
        metrics.state_compared = integrity.agreement.compared
        metrics.disk_free_bytes = integrity.free_space.own_bytes
        return metrics

    @property
    def node_id(self) -> str:
        return self.core.options.node_id

    @property
    def cluster_id(self) -> str:
        return self.core.options.cluster_id

    @property
    def leader_id(self) -> str | None:
        return self.core.leader_id

    @property
    def is_leader(self) -> bool:
        return self.core.is_leader

    @property
    def out_of_service(self) -> str:
        return self.core.integrity.out_of_service

    @property
    def term(self) -> int:
        return self.core.engine.term

    @property
    def revision(self) -> int:
        return self.core.state.position.revision

    def now_ms(self) -> int:
        return self.core.entry_time.now_ms()

    def leadership_confirmed_s(self) -> float | None:
        return self.core.contact.confirmed_s(self.term) if self.core.engine.leading else None

    def lag_ms(self) -> int | None:
        confirmed_s = self.leadership_confirmed_s()
        if confirmed_s is not None and self.is_leader:
            return int(confirmed_s * 1000)
        return self.core.contact.lag_ms()

    # --- writes and reads ---------------------------------------------------------------------------------------------

    async def propose(self, frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

        def waiter(result: list[Outcome] | Exception) -> None:
            if future.done():
                return  # whoever asked has gone
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.core.propose(frames, timeout_s, waiter, term)
        return await future

    def view(self) -> AbstractContextManager[View]:
        return self.core.state.view()

    async def read_barrier(self, timeout_s: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def waiter(error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.core.read_barrier(timeout_s, waiter)
        await future

    async def wait_revision(self, revision: int, timeout_s: float) -> None:
        if self.revision >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._revision_waiters[future] = revision
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            raise TooStaleError(f"revision {revision} is not here yet; this node is at {self.revision}") from None
        finally:
            self._revision_waiters.pop(future, None)

    # --- what the core tells ------------------------------------------------------------------------------------------

    def on_notice(self, notice: Notice) -> None:
        """From the core: an entry became visible."""
        self.internal_errors += len(notice.internal_errors)
        for text in notice.internal_errors:
            log.error("a command met a defect and was refused index=%d error=%s", notice.index, text)
        for future, wanted in self._revision_waiters.items():
            if wanted <= notice.revision and not future.done():
                future.set_result(None)
        for listener in tuple(self._listeners):
            listener(notice)

    def role_changed(self) -> None:
        """From the core: role, leader or term changed."""
        now = ("leader" if self.core.engine.leading else "follower", self.term, self.leader_id)
        if now != self._was:
            self._was = now
            log.info("role=%s term=%d leader=%s", *now)
        self._calls.leader_changed()
        for listener in tuple(self._role_listeners):
            listener()

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def on_role_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._role_listeners.append(listener)
        return lambda: self._role_listeners.remove(listener)

    # --- calls to the leader's memory ---------------------------------------------------------------------------------

    def serve(self, service: str, handler: ServiceHandler) -> None:
        self._calls.serve(service, handler)

    async def call_leader(self, service: str, request: bytes, timeout_s: float) -> bytes:
        return await self._calls.call(service, request, timeout_s)

    def on_refused(self, peer_id: str, reason: str) -> None:
        """From the core: a handshake failed. A node that its peers know under another journal, or that was removed,
        must not go on."""
        if ends(reason, self.node_id):
            self.on_fatal(StartError(reason))
        elif reason not in self._refusals and len(self._refusals) < _REFUSALS_MAX:
            self._refusals.add(reason)
            log.warning("peer refused peer=%s reason=%s", peer_id, reason)

    def on_message(self, peer_id: str, message: Mapping[str, Any]) -> None:
        """From the core: a call or the reply to one."""
        self._calls.on_message(peer_id, message)

    # --- operations ---------------------------------------------------------------------------------------------------

    async def transfer_leadership(self, to: str | None, timeout_s: float) -> str:
        core = self.core
        voters = core.membership.current.voters
        if to is not None and to not in voters:
            raise ValueError(f"{to} is not a voting member; these are: {', '.join(sorted(voters))}")
        if not self.is_leader:
            raise NotCommittedError("no_leader", "this node does not lead; ask the leader")
        if to == self.node_id:
            return to
        before, deadline_s = self.term, asyncio.get_running_loop().time() + timeout_s
        core.intake.paused = True
        try:
            # A member that is stopping too is soon gone: then there is nobody to wait for.
            while asyncio.get_running_loop().time() < deadline_s and core.transport.connected:
                core.hand_over(to)
                changed = asyncio.Event()
                forget = self.on_role_change(changed.set)
                try:
                    async with asyncio.timeout(0.05):
                        while not (self.term > before and self.leader_id not in (None, self.node_id)):
                            await changed.wait()
                            changed.clear()
                except TimeoutError:
                    continue
                finally:
                    forget()
                return str(self.leader_id)
        finally:
            core.intake.paused = False
        raise NotCommittedError("no_leader", "no member caught up in time to take over; try again", retry_after_ms=1000)

    @property
    def membership(self) -> Membership:
        """Who is a member, as far as this node has applied it."""
        return self.core.membership

    def members(self) -> tuple[MemberStatus, ...]:
        """The members as this node sees them."""
        members = sorted(self.membership.current.members)
        return tuple([member_status(self.core, member, self._version) for member in members])

    async def change_members(self, change: MemberChange, timeout_s: float) -> tuple[MemberStatus, ...]:
        return await self._changes.change(change, timeout_s)

    async def snapshot(self) -> int:
        core = self.core
        wanted = core.engine.applied_index
        # What holds nothing new is not taken again. One that is under way may have begun before this call, or be one
        # of a peer that this node is fetching: then it takes more than one turn.
        while wanted > 1 and self._snapshot_index() < wanted:
            if core.stopped:
                raise NotCommittedError("shutting_down", "this node is stopping; ask another")
            if core.snapshots.out_of_space:
                raise NotCommittedError("read_only", "the disk is too full for a snapshot; free some space")
            taken = asyncio.Event()
            core.snapshots.when_taken(taken.set)
            core.engine.forceLogCompaction()
            core.schedule_pump()
            await self._either(taken, _SNAPSHOT_TURN_S)
        return self._snapshot_index()

    def _snapshot_index(self) -> int:
        newest = self.core.snapshots.newest
        return 0 if newest is None else newest.position.index

    async def _either(self, event: asyncio.Event, timeout_s: float) -> None:
        """Wait for the event, the end of this node, or the time."""
        both = [asyncio.ensure_future(one.wait()) for one in (event, self._stopped)]
        try:
            await asyncio.wait(both, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()

    def status(self) -> ReplicaStatus:
        core, engine = self.core, self.core.engine
        self._caught_up = self._caught_up or self._is_caught_up()
        return ReplicaStatus(
            cluster_id=self.cluster_id,
            node_id=self.node_id,
            run_id=self.run_id,
            role=own_role(self.core),
            leader_id=self.leader_id,
            term=self.term,
            commit_index=engine.commit_index,
            applied_index=engine.applied_index,
            durable_index=core.journal.durable_index,
            last_index=core.journal.last_index,
            snapshot_index=self._snapshot_index(),
            has_quorum=core.has_quorum(),
            members=self.members(),
            digest=core.state.position.chain.hex(),
            alarms=self._alarms(),
            ready=self._caught_up and not self.out_of_service,
            log_bytes=core.journal.total_bytes,
            log_first_index=core.journal.first_index,
            state_bytes=core.state.size_bytes(),
            cluster_version=self._cluster_version(),
        )

    def _is_caught_up(self) -> bool:
        """A leader is known, and everything it was known to have committed is applied here."""
        engine = self.core.engine
        if engine.leading:
            return self.is_leader
        return self.leader_id is not None and self.core.contact.lag_ms() is not None

    def _alarms(self) -> tuple[str, ...]:
        alarms = []
        if self.core.entry_time.clock_is_wrong:
            alarms.append("clock_skew")
        if self.internal_errors:
            alarms.append("internal_errors")
        alarms += self.core.integrity.alarms()
        return tuple(alarms)

    def _cluster_version(self) -> str:
        known = [self._version, *(peer.version for peer in self._peers.known.values())]
        return min(known, key=lambda version: [int(part) if part.isdecimal() else 0 for part in version.split(".")])

    async def close(self) -> None:
        # Once, for all who ask; and to its end, even if one of them gives up.
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closed)

    async def _close(self) -> None:
        if not self.core.stopped and self.is_leader and self.core.transport.connected:
            try:
                await self.transfer_leadership(None, 2.0)
            except NotCommittedError as refused:
                log.info("stopping without handing over: %s", refused.detail)
        self.core.stop()
        self._calls.close()
        self._stopped.set()
        for future in self._revision_waiters:
            if not future.done():
                future.set_exception(TooStaleError("this node is stopping"))
        for action in self._closing:
            await asyncio.get_running_loop().run_in_executor(None, action)
