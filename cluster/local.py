"""A replica without replication: one node, memory only, entries applied as they come.

The reference for tests of everything above the cluster, and for throw-away use. Its clock is given, so a test decides
what time it is; nothing in it is durable.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from cluster.replica import (
    CallFailedError,
    MemberChange,
    MembershipRefusedError,
    MemberStatus,
    Metrics,
    NotCommittedError,
    Notice,
    RemoveMember,
    ReplicaStatus,
    ServiceHandler,
    TooStaleError,
    View,
)
from statemachine import commands, machine, members
from statemachine.entry import Frame, Header, decode_entry, encode_batch, encode_entry, encode_frame
from statemachine.outcome import Outcome
from statemachine.store import MemoryStore, Overlay


class _LocalView(Overlay):
    """A view that later entries do not touch: good for as long as no entry is applied meanwhile, which one thread
    gives."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        meta = machine.read_meta(store)
        self.revision = meta.revision
        self.time_ms = meta.time_ms


class LocalReplica:
    """As `Replica`; `lead()` and `follow()` play elections."""

    def __init__(self, now_ms: Callable[[], int], node_id: str = "n1") -> None:
        self.metrics = Metrics()
        self.node_id = node_id
        self.cluster_id = os.urandom(8).hex()
        self.run_id = os.urandom(8).hex()
        self.term = 1
        self.is_leader = True
        self.out_of_service = ""
        self.now_ms = now_ms
        self.store = MemoryStore()
        self.index = 1
        self._sequence = 0
        self._listeners: list[Callable[[Notice], None]] = []
        self._role_listeners: list[Callable[[], None]] = []
        self._services: dict[str, ServiceHandler] = {}
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._closed = False

    @property
    def leader_id(self) -> str | None:
        return self.node_id if self.is_leader else None

    @property
    def revision(self) -> int:
        return machine.read_meta(self.store).revision

    def leadership_confirmed_s(self) -> float | None:
        return 0.0 if self.is_leader else None

    def lag_ms(self) -> int | None:
        return 0

    def lead(self) -> None:
        """Win an election: a new term begins."""
        self.term += 1
        self.is_leader = True
        self._tell_role()

    def follow(self) -> None:
        """Lose leadership; nobody leads."""
        self.is_leader = False
        self._tell_role()

    async def propose(self, frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
        if self._closed:
            raise NotCommittedError("shutting_down", "this node is stopping")
        if not self.is_leader or term not in (None, self.term):
            raise NotCommittedError("no_leader", f"no leader within {timeout_s} s")
        return self.apply(frames)

    def apply(self, frames: Sequence[bytes]) -> list[Outcome]:
        """Apply one entry of these frames, through the same bytes a log would hold."""
        self._sequence += 1
        batch = encode_batch(1, self._sequence, frames)
        header, batches = decode_entry(encode_entry(Header(self.now_ms(), self.term), [batch]))
        applied = machine.apply(self.store, header, batches)
        self.store.apply(applied.writes)
        self.index += 1
        notice = Notice(
            self.index,
            self.term,
            applied.first_revision,
            applied.revision,
            applied.time_ms,
            applied.changes,
            internal_errors=applied.internal_errors,
        )
        self._wake(applied.revision)
        for listener in tuple(self._listeners):
            listener(notice)
        return list(applied.outcomes[0])

    @contextmanager
    def view(self) -> Iterator[View]:
        yield _LocalView(self.store)

    async def read_barrier(self, timeout_s: float) -> None:
        if not self.is_leader:
            raise NotCommittedError("no_leader", f"no leader within {timeout_s} s")

    async def wait_revision(self, revision: int, timeout_s: float) -> None:
        if self.revision >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, future))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            raise TooStaleError(f"revision {revision} is not here; this node is at {self.revision}") from None

    def _wake(self, revision: int) -> None:
        waiting, self._waiters = self._waiters, []
        for wanted, future in waiting:
            if future.done():
                continue
            if wanted <= revision:
                future.set_result(None)
            else:
                self._waiters.append((wanted, future))

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def on_role_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._role_listeners.append(listener)
        return lambda: self._role_listeners.remove(listener)

    def _tell_role(self) -> None:
        for listener in tuple(self._role_listeners):
            listener()

    def serve(self, service: str, handler: ServiceHandler) -> None:
        self._services[service] = handler

    async def call_leader(self, service: str, request: bytes, timeout_s: float) -> bytes:
        if not self.is_leader:
            raise CallFailedError("there is no leader")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._services[service](self.node_id, request)
        except TimeoutError:
            raise CallFailedError(f"{service}: no answer within {timeout_s} s") from None

    async def transfer_leadership(self, to: str | None, timeout_s: float) -> str:
        if to not in (None, self.node_id):
            raise ValueError(f"{to} is not a member")
        raise NotCommittedError("no_leader", f"a cluster of one has nobody to hand over to ({timeout_s} s)")

    async def change_members(self, change: MemberChange, timeout_s: float) -> tuple[MemberStatus, ...]:
        if not self.is_leader:
            raise NotCommittedError("no_leader", f"no leader within {timeout_s} s")
        payload = msgspec.Raw(commands.encode(change))
        number = commands.NUMBERS[type(change)]
        frame = Frame(number, commands.VERSION, "", "system:cluster", "", None, None, 0, 0, payload)
        self._found()
        for _ in range(2 if isinstance(change, RemoveMember) else 1):  # a voter goes in two steps
            refusal = self.apply([encode_frame(frame)])[0].refusal
        if refusal is not None:
            raise MembershipRefusedError(refusal.code, refusal.detail, refusal.current)
        return self._members()

    def _found(self) -> None:
        """This node is the first member, once there are any."""
        if members.get(self.store, self.node_id) is None:
            payload = msgspec.Raw(commands.encode(commands.FoundMembers((commands.Founder(self.node_id, ""),))))
            number = commands.NUMBERS[commands.FoundMembers]
            frame = Frame(number, commands.VERSION, "", "system:cluster", "", None, None, 0, 0, payload)
            self.apply([encode_frame(frame)])

    def _members(self) -> tuple[MemberStatus, ...]:
        """This node, and whoever was added; nobody of them is there."""
        own_role = "leader" if self.is_leader else "follower"
        own = MemberStatus(self.node_id, "", None, own_role, True, True, self.index, 0, 0)
        others = [
            MemberStatus(
                member.node_id,
                member.peer_address,
                member.http_address or None,
                "follower" if member.role == members.VOTER else "learner",
                member.role == members.VOTER,
                False,
            )
            for member in members.scan(self.store)
            if member.role != members.REMOVED and member.node_id != self.node_id
        ]
        return tuple(sorted([own, *others], key=lambda member: member.node_id))

    async def snapshot(self) -> int:
        return self.index

    def status(self) -> ReplicaStatus:
        role = "leader" if self.is_leader else "follower"
        return ReplicaStatus(
            self.cluster_id,
            self.node_id,
            self.run_id,
            role,
            self.leader_id,
            self.term,
            self.index,
            self.index,
            self.index,
            self.index,
            0,
            self.is_leader,
            self._members(),
            "",
        )

    async def close(self) -> None:
        self._closed = True
