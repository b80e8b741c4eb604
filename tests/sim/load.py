"""What clients do: writes of several kinds through every node, with and without keys, and linearizable reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

import msgspec

from cluster.replica import NotCommittedError
from statemachine import commands
from statemachine.commands import (
    AppendEvents,
    ClaimTasks,
    Command,
    CompleteTasks,
    Completion,
    CreateSession,
    NewEvent,
    NewTask,
    RegisterAgent,
    SubmitTasks,
)
from statemachine.entry import FLAG_CREATE_PROJECT, Frame, Idempotency, encode_frame
from statemachine.outcome import Outcome

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.simulation import Simulation

_SESSIONS = ("s0", "s1")
_AGENT = "a0"
_TRIES_MAX = 6

Result = list[Outcome] | Exception


def frame_of(request_id: str, command: Command, key: Idempotency | None = None) -> bytes:
    """A command as the edge would frame it; the request id is how the checks follow it through the log."""
    number = commands.NUMBERS[type(command)]
    project = "" if type(command) in commands.CLUSTER_SCOPED else "default"
    payload = msgspec.Raw(commands.encode(command))
    return encode_frame(
        Frame(number, commands.VERSION, project, "user:sim", request_id, key, None, 0, FLAG_CREATE_PROJECT, payload)
    )


class Load:
    """Clients that act now and then, until `stop_s`."""

    def __init__(self, sim: Simulation, rng: Random, pause_s: float, stop_s: float) -> None:
        self._sim = sim
        self._rng = rng
        self._pause_s = pause_s
        self._stop_s = stop_s
        self._number = 0
        self._last_seq = dict.fromkeys(_SESSIONS, 0)
        self._epoch = 0
        self._attempts: list[tuple[str, int]] = []
        self._pending: list[str] = []
        self.writes = self.reads = self.acknowledged = self.reads_done = 0

    def begin(self) -> None:
        """Make what the writes need, and go on from there."""
        for session in _SESSIONS:
            self._keyed(f"create-{session}", CreateSession(session), 0)
        self._keyed("register", RegisterAgent(_AGENT, max_concurrent=100, projects=("*",)), 0)
        self._next()

    def _next(self) -> None:
        if self._sim.scheduler.now_s < self._stop_s:
            self._sim.scheduler.after(self._rng.expovariate(1 / self._pause_s), self._act)

    def _act(self) -> None:
        self._next()
        member = self._somebody()
        if member is None:
            return
        if self._rng.random() < 0.2:
            self.read(member, 0.05 + 2 * self._rng.random())
            return
        self._number += 1
        self._rng.choice((self._append, self._append, self._expected, self._keyed_append, self._submit, self._work))(
            member, f"w{self._number}"
        )

    def _somebody(self) -> Member | None:
        awake = [member for member in self._sim.members if member.awake]
        return self._rng.choice(awake) if awake else None

    # --- writes -------------------------------------------------------------------------------------------------------

    def write(
        self,
        member: Member,
        frames: Sequence[tuple[str, Command, Idempotency | None]],
        timeout_s: float,
        then: Callable[[Result], None],
    ) -> None:
        """Propose some commands at a node."""
        request_ids = [request_id for request_id, _, _ in frames]
        self.propose(member, [frame_of(*parts) for parts in frames], timeout_s, request_ids, then)

    def propose(
        self,
        member: Member,
        frames: Sequence[bytes],
        timeout_s: float,
        request_ids: list[str],
        then: Callable[[Result], None],
    ) -> None:
        """Propose frames at a node."""
        self.writes += 1

        def waiter(result: Result) -> None:
            self._sim.checks.on_result(member, request_ids, result)
            said = type(result).__name__ if isinstance(result, Exception) else "done"
            member.note(f"{','.join(request_ids)}: {said}")
            self.acknowledged += not isinstance(result, Exception)
            then(result)

        def act() -> None:
            try:
                member.core.propose(frames, timeout_s, waiter)
            except NotCommittedError as refused:
                waiter(refused)

        if member.life is not None:
            member.life.run(act)

    def _timeout_s(self) -> float:
        return self._rng.choice((0.05, 0.3, 1.0, 3.0))

    def _event(self, request_id: str) -> NewEvent:
        data = self._rng.randbytes(self._rng.choice((10, 10, 100, 1500))).hex()
        return NewEvent(request_id, "sim.step", f'"{data}"'.encode())

    def _append(self, member: Member, name: str) -> None:
        """Without a key: an append that ran twice would show."""
        frames = []
        for part in range(self._rng.choice((1, 1, 1, 3))):
            request_id = f"{name}.{part}"
            frames.append((request_id, AppendEvents(self._rng.choice(_SESSIONS), (self._event(request_id),)), None))
        self.write(member, frames, self._timeout_s(), lambda _: None)

    def _expected(self, member: Member, name: str) -> None:
        session = self._rng.choice(_SESSIONS)
        command = AppendEvents(session, (self._event(name),), self._last_seq[session])
        self.write(member, [(name, command, None)], self._timeout_s(), lambda result: self._saw(session, result))

    def _saw(self, session: str, result: Result) -> None:
        if isinstance(result, Exception):
            return
        refusal = result[0].refusal
        if refusal is None:
            self._last_seq[session] = result[0].items[0].numbers[1]
        elif refusal.current is not None:
            self._last_seq[session] = refusal.current.get("last_seq", self._last_seq[session])

    def _keyed_append(self, _member: Member, name: str) -> None:
        self._keyed(name, AppendEvents(self._rng.choice(_SESSIONS), (self._event(name),)), 0)

    def _keyed(self, name: str, command: Command, tries: int) -> None:
        """Repeat under one key, at any node, until there is an answer: it must run once."""
        member = self._somebody()
        if member is None or tries == _TRIES_MAX:
            return
        key = None
        if type(command) not in commands.CLUSTER_SCOPED:  # which have no project to keep a key in, and repeat safely
            key = Idempotency(name.encode().ljust(16, b"."), name.encode().ljust(16, b"-"), 0, 86_400_000)

        def then(result: Result) -> None:
            if isinstance(result, Exception):
                self._sim.scheduler.after(0.2 * self._rng.random(), lambda: self._keyed(name, command, tries + 1))
            elif name == "register" and result[0].refusal is None:
                self._epoch = result[0].items[0].numbers[0]

        if key is not None:
            self._sim.checks.on_keyed(name, f"{name}.{tries}")
        self.write(member, [(f"{name}.{tries}", command, key)], self._timeout_s(), then)

    def _submit(self, member: Member, name: str) -> None:
        items = tuple(NewTask(f"{name}-{number}") for number in range(self._rng.randrange(1, 5)))

        def then(result: Result) -> None:
            if not isinstance(result, Exception):
                self._pending.extend(item.task_id for item in items)

        self.write(member, [(name, SubmitTasks(items), None)], self._timeout_s(), then)

    def _work(self, member: Member, name: str) -> None:
        """Claim what is pending, or complete what was claimed."""
        if self._attempts:
            task_id, attempt = self._attempts.pop()
            done = CompleteTasks(_AGENT, (Completion(task_id, attempt, b"1"),))
            self.write(member, [(name, done, None)], self._timeout_s(), lambda _: None)
        elif self._pending:
            wanted, self._pending = tuple(self._pending[:3]), self._pending[3:]
            claim = ClaimTasks(_AGENT, self._epoch, wanted, named=True)
            self.write(member, [(name, claim, None)], self._timeout_s(), lambda result: self._claimed(wanted, result))

    def _claimed(self, wanted: tuple[str, ...], result: Result) -> None:
        if isinstance(result, Exception) or result[0].refusal is not None:
            return
        for task_id, item in zip(wanted, result[0].items, strict=True):
            if item.refusal is None and item.numbers:
                self._attempts.append((task_id, item.numbers[0]))

    # --- reads --------------------------------------------------------------------------------------------------------

    def read(self, member: Member, timeout_s: float, then: Callable[[bool], None] = lambda _: None) -> None:
        """A linearizable read at a node."""
        self.reads += 1
        began_at_index = self._sim.checks.seen_index

        def waiter(error: Exception | None) -> None:
            if error is None:
                self.reads_done += 1
                self._sim.checks.on_read(member, began_at_index)
            then(error is None)

        if member.life is not None:
            member.life.run(lambda: member.core.read_barrier(timeout_s, waiter))
