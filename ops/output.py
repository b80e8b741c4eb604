"""How data is printed: as a table for people or as JSON for programs. Text from outside cannot move the cursor."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# A pipe has no width; nothing may be cut there.
PIPE_WIDTH = 1_000


def console() -> Console:
    """Standard output as of now, so that a redirected one is respected."""
    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if terminal else PIPE_WIDTH, highlight=False, soft_wrap=False)


def print_json(document: Any) -> None:
    """One document, indented; keys as the API orders them."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=_plain) + "\n")
    sys.stdout.flush()


def print_json_line(document: Any) -> None:
    """One document on one line, for endless output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, default=_plain) + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(visible(text) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows under headings; nothing is cut."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console().print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """One resource: a line for each field that has a value."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, "", [], {}):
            table.add_row(name, cell(value))
    console().print(table)


def cell(value: Any) -> Text:
    """A value as a table shows it: `-` for none, yes and no, JSON for what has parts."""
    if value is None:
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, dict | list | tuple):
        return Text(visible(json.dumps(value, ensure_ascii=False, default=_plain)))
    return Text(visible(_plain(value)))


def visible(text: str) -> str:
    """`text` without control characters: what users named must not steer the operator's terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.replace("\t", " "))


def one_line(text: str) -> str:
    """`text` on one line, whatever it holds."""
    return visible(" ".join(text.split()))


def bytes_text(count: float | None) -> str:
    """12.3 MB, in the manner of etcdctl."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _plain(value: Any) -> str:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)
