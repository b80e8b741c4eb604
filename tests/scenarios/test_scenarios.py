"""Every scenario of this folder comes out as it is written down.

To write down what comes out now, and then read the difference: HIVE_REWRITE_SCENARIOS=1 pytest tests/scenarios
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.node.harness import run
from tests.scenarios import verbs
from tests.scenarios.script import INDENT, Command, is_command, parse, transcribe
from tests.scenarios.stage import staged

FOLDER = Path(__file__).parent
SCENARIOS = sorted(FOLDER.glob("*.txt"))
REWRITE = os.environ.get("HIVE_REWRITE_SCENARIOS") == "1"


def play(text: str) -> str:
    """Play a scenario on a stage of its own -> the scenario with what came out."""
    played: list[str] = []

    async def whole() -> None:
        async with staged() as stage:
            played.append(await transcribe(text, partial(verbs.perform, stage)))

    run(whole())
    return played[0]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario_comes_out_as_written(path: Path) -> None:
    written = path.read_text()
    played = play(written)
    if REWRITE:
        path.write_text(played)
    else:
        assert played == written


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario_opens_with_the_complaint_it_answers(path: Path) -> None:
    assert path.read_text().startswith('# "')


def test_every_verb_is_used_somewhere() -> None:
    lines = [line for path in SCENARIOS for line in path.read_text().splitlines() if is_command(line)]
    assert {parse(line).verb for line in lines} == set(verbs.VERBS)


def test_whatever_was_written_under_a_command_is_replaced_by_what_came_of_it() -> None:
    told = "# A task.\nsubmit t1\n  201 t1 pending\n  r1 +0s task.created t1 to=pending\n\n# The end.\n"
    assert play(told) == told
    assert play(told.replace("pending", "running")) == told
    assert play("# A task.\nsubmit t1\n\n# The end.\n") == told


def test_a_step_after_which_nothing_happens_says_so() -> None:
    assert play("clock +5s\n") == "clock +5s\n  nothing happens\n"


def test_unknown_verb_is_named_with_its_line() -> None:
    with pytest.raises(KeyError) as caught:
        play("# A slip of the pen.\nsumbit t1\n")
    assert caught.value.__notes__ == ["in line 2: sumbit t1"]


def test_words_options_and_values_of_a_command() -> None:
    command = parse('complete a1 t1#2 result={"said":"it is done"} priority=9 requires=python:0.5 message="a b"')
    options = {"result": {"said": "it is done"}, "priority": 9, "requires": "python:0.5", "message": "a b"}
    assert command == Command("complete", ("a1", "t1#2"), options)


def test_indented_lines_are_output_and_comments_no_commands() -> None:
    assert [is_command(line) for line in ("submit t1", "", "# submit t1", INDENT + "submit t1")] == [
        True, False, False, False,
    ]  # fmt: skip
