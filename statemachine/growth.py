"""Which commands bring new data in: while space is short they are refused, and everything else goes on. Runs of
schedules are then late, or missed, like those of a time without a leader.

What goes on: the end of work (complete, fail, release, progress), deletes and cancels, what the leader decides (leases,
offers, liveness), registrations, without which an agent could hand nothing back, settings of queues, which may be what
helps, and changes of membership, which may be the way out.
"""

from __future__ import annotations

import msgspec

from statemachine import commands
from statemachine.commands import (
    AppendEvents,
    Command,
    CreateProject,
    CreateSchedule,
    CreateSession,
    FireSchedule,
    SubmitTasks,
    TriggerSchedule,
    UpdateSchedule,
    UpdateSession,
    UpdateTask,
)

GROWING: frozenset[type[Command]] = frozenset(
    {
        *(CreateProject, CreateSession, UpdateSession, AppendEvents, SubmitTasks, UpdateTask),
        *(CreateSchedule, UpdateSchedule, TriggerSchedule, FireSchedule),
    }
)

_NUMBERS = frozenset(commands.NUMBERS[kind] for kind in GROWING)


class _Head(msgspec.Struct, array_like=True, frozen=True):
    """The first field of a frame; the rest is passed over."""

    number: int


_decode = msgspec.msgpack.Decoder(_Head).decode


def grows(frame: bytes) -> bool:
    """Whether an encoded frame (`entry.Frame`) holds such a command."""
    return _decode(frame).number in _NUMBERS
