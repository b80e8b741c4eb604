"""What is refused while space is short, and what goes on."""

from __future__ import annotations

import pytest

from statemachine import commands
from statemachine.commands import COMMANDS, Command
from statemachine.growth import GROWING, grows
from tests.sim.load import frame_of

_GO_ON = {"DeleteSession", "CancelTask", "CancelGroup", "AcceptTasks", "CompleteTasks", "FailTasks", "ReleaseTasks"} | {
    "CheckpointTasks",
    "ClaimTasks",
    "ExpireLeases",
    "DoWork",
    "RegisterAgent",
    "DeleteAgent",
}
_REFUSED = {"CreateProject", "CreateSession", "UpdateSession", "AppendEvents", "SubmitTasks", "UpdateTask"} | {
    "CreateSchedule",
    "UpdateSchedule",
    "TriggerSchedule",
    "FireSchedule",
}


def test_what_brings_data_in_is_refused_and_what_ends_work_goes_on() -> None:
    assert {kind.__name__ for kind in GROWING} == _REFUSED
    assert {kind.__name__ for kind in COMMANDS.values()} >= _GO_ON | _REFUSED


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (commands.CreateSession("s"), True),
        (commands.AppendEvents("s", ()), True),
        (commands.SubmitTasks((commands.NewTask("t"),)), True),
        (commands.FireSchedule("s", 1, 1, 1, 0, None), True),
        (commands.DeleteSession("s"), False),
        (commands.DeleteSchedule("s"), False),
        (commands.CancelTask("t"), False),
        (commands.CompleteTasks("a", (commands.Completion("t", 1),)), False),
    ],
)
def test_a_frame_says_which_it_is(command: Command, expected: bool) -> None:
    assert grows(frame_of("r", command)) is expected
