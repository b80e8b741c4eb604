from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from hive_client.errors import Conflict, NoLeader, OutcomeUnknown

from ops.edge import CommandError, explain, guarded
from tests.ops.command_line import hive
from tests.ops.local import LIMIT_S

COMMANDS = [
    ["dev"], ["demo"], ["status"], ["transfer-leadership"], ["snapshot"], ["watch"], ["recover"], ["resync"],
    *(["task", verb] for verb in ("create", "get", "list", "cancel", "retry", "explain", "wait")),
    *(["member", verb] for verb in ("list", "add", "promote", "update", "remove")),
    *(["agent", verb] for verb in ("list", "get", "drain", "delete")),
    *(["session", verb] for verb in ("create", "get", "list", "events", "append", "tail")),
    *(["schedule", verb] for verb in ("create", "list", "show", "pause", "resume", "trigger", "delete")),
    *(["bench", verb] for verb in ("http", "restart", "failover", "join")),
]  # fmt: skip
# Both run until they are stopped or replace the process: what they print is not data.
WITHOUT_JSON = (["dev"],)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(command: list[str]) -> None:
    printed = hive(*command, "--help")
    assert printed.status == 0
    assert ("--json" in printed.stdout) == (command not in WITHOUT_JSON)


def test_an_unknown_command_or_option_is_a_usage_error() -> None:
    assert hive("nonsense").status == 2
    assert hive("task", "list", "--nonsense").status == 2


def test_version() -> None:
    assert hive("--version").stdout.startswith("hive ")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (CommandError("a\nb"), 1, "hive: a b\n"),
        (ExceptionGroup("tasks", [ExceptionGroup("inner", [CommandError("deep", 2)])]), 2, "hive: deep\n"),
        (NoLeader("no majority", status=503), 1, "a majority of the nodes must be up"),
        (OutcomeUnknown("cut", idempotency_key="k1"), 1, "--idempotency-key k1"),
    ],
)
def test_errors_are_one_line_and_a_status(
    error: Exception, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @guarded
    def fails() -> None:
        raise error

    with pytest.raises(typer.Exit) as left:
        fails()
    printed = capsys.readouterr().err
    assert left.value.exit_code == status
    assert said in printed
    assert printed.count("\n") == 1


def test_ctrl_c_is_130() -> None:
    @guarded
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as left:
        interrupted()
    assert left.value.exit_code == 130


def test_a_bug_is_not_hidden() -> None:
    @guarded
    def broken() -> None:
        raise ExceptionGroup("tasks", [ZeroDivisionError()])

    with pytest.raises(ZeroDivisionError):
        broken()


@pytest.mark.process
def test_hive_node_is_the_node_itself() -> None:
    command = [sys.executable, "-P", "-c", "from ops.cli import main; main()", "node", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0
    assert "--cluster-secret-file" in done.stdout
    wrong = subprocess.run([*command[:-1], "--nonsense", "x"], capture_output=True, timeout=LIMIT_S, check=False)
    assert wrong.returncode == 2


def test_an_error_without_a_way_out_stands_alone() -> None:
    assert explain(Conflict("held")) == "conflict: held"
