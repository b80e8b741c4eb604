from __future__ import annotations

import io

import pytest
from hive_client.models import ChangeMessage
from rich.console import Console

from ops.demo import progress as progress_module
from ops.demo.progress import Progress
from ops.demo.view import LineView, draw


class Hands:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    made = Hands()
    monkeypatch.setattr(progress_module, "time", made)
    return made


def completed(revision: int, agent_id: str) -> ChangeMessage:
    change = {"type": "task.completed", "resource_id": f"t{revision}", "data": {"agent_id": agent_id}}
    return ChangeMessage.from_json({"revision": revision, "changes": [change]})


def make(hands: Hands) -> Progress:
    return Progress(total=10, started_at=hands.now)


def test_rate_and_counts(hands: Hands) -> None:
    progress = make(hands)
    progress.sample()
    for revision in range(4):
        progress.take_message(completed(revision + 1, "linter"))
    hands.now += 2
    progress.sample()
    assert (progress.completed, progress.by_agent["linter"], progress.rate) == (4, 4, 2.0)
    hands.now += 10
    progress.sample()
    assert progress.rate == 0.0


def test_the_panel_shows_what_there_is(hands: Hands) -> None:
    progress = make(hands)
    progress.take_message(completed(7, "linter"))
    progress.leader_id, progress.term = "n2", 3
    progress.note("something \x1b[2J happened")
    console = Console(file=io.StringIO(), width=100)
    console.print(draw(progress))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    for part in ("1 of 10 completed", "n2, term 3", "linter 1", "happened"):
        assert part in text
    assert "\x1b" not in text


def test_lines_are_few_and_events_come_once(hands: Hands) -> None:
    out = io.StringIO()
    progress = make(hands)
    with LineView(out) as view:
        progress.note("begun")
        view.refresh(progress)
        view.refresh(progress)
        progress.completed = 1
        hands.now += 0.1
        view.refresh(progress)
        assert out.getvalue().count("begun") == 1
        assert "1/10" not in out.getvalue()
        hands.now += 1.0
        view.refresh(progress)
    assert "1/10" in out.getvalue()
