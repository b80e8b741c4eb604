"""The format of a scenario: comments, commands, and under each command, indented, what came of it.

    # Comments begin at the margin, and tell what a user sees and why.
    submit t1 priority=9 requires=python
      201 t1 pending
      r2 +0s task.created t1 to=pending

A command is a verb, words, and options `name=value`. A value is JSON if it reads as JSON, else a text; blanks may stand
within double quotes only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

INDENT = "  "

_WORD = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+')
_OPTION = re.compile(r"([a-z_]+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One step as written."""

    verb: str
    words: tuple[str, ...]
    options: dict[str, Any]


Perform = Callable[[Command], Awaitable[list[str]]]
"""Does a step -> the lines that came of it."""


def parse(line: str) -> Command:
    """The command of a line."""
    words: list[str] = []
    options: dict[str, Any] = {}
    for token in _WORD.findall(line):
        option = _OPTION.fullmatch(token)
        if option is None:
            words.append(token)
        else:
            options[option[1]] = _value(option[2])
    return Command(words[0], tuple(words[1:]), options)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def is_output(line: str) -> bool:
    """Whether a line was written by the run, not by the author."""
    return line.startswith(INDENT)


def is_command(line: str) -> bool:
    """Whether a line is a step."""
    return bool(line.strip()) and not line.startswith(("#", INDENT))


async def transcribe(text: str, perform: Perform) -> str:
    """Do every step of a scenario -> the scenario with what really came of each."""
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if is_output(line):
            continue
        lines.append(line)
        if is_command(line):
            try:
                outcome = await perform(parse(line))
            except Exception as error:
                error.add_note(f"in line {number}: {line}")
                raise
            lines += [INDENT + said for said in outcome or ["nothing happens"]]
    return "\n".join(lines) + "\n"
