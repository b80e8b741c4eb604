"""Faults that a node must answer by stopping, by cutting a connection, or by refusing one command: disks that take
nothing, peers that do not read or talk nonsense, commands that meet a defect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from statemachine import commands, machine
from statemachine.commands import AppendEvents, NewEvent
from statemachine.entry import Frame, encode_frame
from tests.sim.load import frame_of

if TYPE_CHECKING:
    from statemachine.context import Context
    from statemachine.outcome import Outcome
    from tests.sim.faults import Faults

POISON = "poison"
"""A session whose commands meet a defect, and how the request ids of all poison begin."""

NONSENSE: tuple[Any, ...] = (
    {"type": "no such type"},
    {"type": 5},
    ["a list"],
    {"type": "apply_command", "command": b"\x00", "request_id": 1},
    {"type": "append_entries", "term": "high", "commit_index": 3},
    {"type": "append_entries", "term": 1 << 40, "commit_index": 3, "prevLogIdx": 1, "prevLogTerm": 0, "entries": None},
    {
        "type": "append_entries",
        "term": 1 << 40,
        "commit_index": 3,
        "prevLogIdx": 4,
        "prevLogTerm": 0,
        "entries": [[b"\x00x", 9, 1]],
    },
    {
        "type": "append_entries",
        "term": 1 << 40,
        "commit_index": 3,
        "prevLogIdx": 4,
        "prevLogTerm": 0,
        "entries": [[b"\x02cos\nsystem\n.", 5, 1]],
    },
    {"type": "next_node_idx", "term": 1, "next_node_idx": None, "reset": False, "success": True, "n": 1},
    {"type": "request_vote", "term": 1 << 40, "last_log_index": 1.5, "last_log_term": 1},
    {"type": "propose", "term": 1, "low": 1},
    {"type": "image_chunk", "index": 1, "offset": 0, "data": "text"},
)
"""Malformed messages, each for another reason."""


def disk_full(faults: Faults) -> None:
    """A disk has little or no room left, for a while. The node may stop; it comes back when there is room."""
    _spoil_disk(faults, "its disk is full", capacity_bytes=faults._rng.choice((0, 500, 5_000)))


def disk_error(faults: Faults) -> None:
    """An fsync fails."""
    _spoil_disk(faults, "its disk fails to sync", capacity_bytes=None)


def _spoil_disk(faults: Faults, what: str, capacity_bytes: int | None) -> None:
    member = faults._someone()
    if member.disk_trouble or member is faults.emptied:
        return
    disk = member.kept.disk
    member.disk_trouble = True
    if capacity_bytes is None:
        disk.faults.sync_error = True
    else:
        disk.faults.capacity_bytes = disk.used_bytes() + capacity_bytes
    member.note(what)

    def over() -> None:
        # Whatever became of the process: this disk is whole again.
        disk.faults.capacity_bytes, disk.faults.sync_error = None, False
        member.disk_trouble = False
        if not member.up and not member.refused and member is not faults.emptied and not faults.repaired:
            member.start()

    faults._sim.scheduler.after(min(faults._duration_s(), 1.5), over)


def deaf(faults: Faults) -> None:
    """A node does not read what its peers send, but goes on to send."""
    member = faults._someone()
    pairs = {(other, member.node_id) for other in faults._sim.ids if other != member.node_id}
    faults._sim.hub.cut |= pairs
    member.note("does not read")
    faults._later(faults._duration_s() + 0.5, lambda: faults._sim.hub.heal(pairs))


def nonsense(faults: Faults) -> None:
    """A peer says what no correct peer says: it costs the connection, and nothing else."""
    rng, sim = faults._rng, faults._sim
    opened = [link for link in sim.hub.connections if link.dialer.opened and link.acceptor.opened]
    if not opened:
        return
    connection = rng.choice(opened)
    end = rng.choice((connection.dialer, connection.acceptor))
    message = rng.choice(NONSENSE)

    def receive() -> None:
        if end.closed:
            return
        end.port.receiver.on_message(end.peer_id, message)
        # Nobody listens to a removed member any more; its connection ends when it has been told.
        if not end.closed and end.peer_id not in sim.by_id[end.port.node_id].core.peers.removed:
            sim.checks.violated(end.port.node_id, f"goes on with a peer that said {message!r:.60}")

    sim.note(end.port.node_id, f"hears nonsense from {end.peer_id}")
    end.port.host.run(receive)


def poison(faults: Faults) -> None:
    """A command that no handler survives, or that cannot be read at all, among others."""
    member, sim = faults._someone(), faults._sim
    if not member.awake:
        return
    sim.poisoned += 1
    name = f"{POISON}{sim.poisoned}"
    frames = [
        frame_of(name, AppendEvents(POISON, (NewEvent(name, "sim.step", b'""'),))),
        encode_frame(
            Frame(
                commands.NUMBERS[AppendEvents], commands.VERSION, "default", "user:sim", f"{name}.unreadable",
                None, None, 0, 0, msgspec.Raw(b"\x93\x01\x02\x03"),
            )
        ),
    ]  # fmt: skip
    sim.load.propose(member, frames, 1.0, [name, f"{name}.unreadable"], lambda _: None)


@contextmanager
def poisoned_handlers() -> Iterator[None]:
    """The state machine with a defect: what is done to the session of that name raises, in the middle of it."""
    whole = machine.HANDLERS[AppendEvents]

    def handler(ctx: Context, command: Any) -> Outcome:
        if command.session_id == POISON:
            ctx.take_revision()
            ctx.state.put(b"\x7fpoison", b"half done")
            raise ZeroDivisionError(POISON)
        return whole(ctx, command)

    machine.HANDLERS[AppendEvents] = handler
    try:
        yield
    finally:
        machine.HANDLERS[AppendEvents] = whole


ABUSES: dict[str, Callable[[Faults], None]] = {
    abuse.__name__: abuse for abuse in (disk_full, disk_error, deaf, nonsense, poison)
}
