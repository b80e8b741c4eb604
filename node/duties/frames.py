"""Frames of the commands that the leader itself proposes: they come from nobody outside and carry no key."""

from __future__ import annotations

import msgspec

from statemachine import commands
from statemachine.commands import Command
from statemachine.entry import Frame, encode_frame

PRINCIPAL = "system"


def frame(command: Command, project: str = "") -> bytes:
    """The encoded frame of a decision of the leader; `project` only for commands that live in one."""
    payload = msgspec.Raw(commands.encode(command))
    number = commands.NUMBERS[type(command)]
    return encode_frame(Frame(number, commands.VERSION, project, PRINCIPAL, "", None, None, 0, 0, payload))
