"""The live view: a panel that is redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ops.demo.progress import Progress
from ops.output import visible

LINE_EVERY_S = 1.0


class View(Protocol):
    """Entered once; `refresh` is called a few times a second."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def refresh(self, progress: Progress) -> None: ...


def make_view(*, as_json: bool) -> View:
    """A panel on a terminal; lines otherwise, and on stderr when stdout is for JSON."""
    if as_json:
        return LineView(sys.stderr)
    return PanelView() if sys.stdout.isatty() else LineView(sys.stdout)


class LineView:
    """One line a second while something changes, and one for each event."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._said = ""
        self._said_at = -LINE_EVERY_S
        self._last_event_at = -1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.flush()

    def refresh(self, progress: Progress) -> None:
        for at_s, text in progress.recent:
            if at_s > self._last_event_at:
                self._print(at_s, text)
                self._last_event_at = at_s
        state = (
            f"{progress.phase}: {progress.completed}/{progress.total} tasks, leader {progress.leader_id or '-'}, "
            f"term {progress.term}, {progress.rate:.0f} tasks/s"
        )
        now_s = progress.elapsed_s
        if state != self._said and now_s - self._said_at >= LINE_EVERY_S:
            self._said, self._said_at = state, now_s
            self._print(now_s, state)

    def _print(self, at_s: float, text: str) -> None:
        self._file.write(f"{at_s:7.2f}s  {visible(text)}\n")
        self._file.flush()


class PanelView:
    """A panel that is redrawn in place."""

    def __init__(self) -> None:
        self._live = Live(console=Console(), auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def refresh(self, progress: Progress) -> None:
        self._live.update(draw(progress), refresh=True)


def draw(progress: Progress) -> RenderableType:
    """The panel: progress, cluster, agents, recent events."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("tasks", f"{progress.completed} of {progress.total} completed, {progress.submitted} submitted")
    facts.add_row("throughput", f"{progress.rate:.0f} tasks/s")
    facts.add_row("leader", f"{progress.leader_id or 'none'}, term {progress.term}, {progress.nodes_up} nodes up")
    agents = ", ".join(f"{visible(agent)} {count}" for agent, count in sorted(progress.by_agent.items()))
    facts.add_row("agents", agents or f"{progress.agents_up} registered")
    facts.add_row("revision", str(progress.revision))
    recent = Text("\n".join(f"{at_s:7.2f}s  {visible(text)}" for at_s, text in progress.recent))
    bar = ProgressBar(total=max(1, progress.total), completed=progress.completed)
    title = f"hive demo  {progress.phase}  {progress.elapsed_s:.0f} s"
    return Panel(Group(bar, facts, Text(), recent), title=title, title_align="left")
