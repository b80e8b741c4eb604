"""The outermost edge of the command line: what went wrong in one line, with a way out, and an exit status.

0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer
from hive_client import HiveError, OutcomeUnknown

from ops.output import one_line

P = ParamSpec("P")
R = TypeVar("R")

FAILED, USAGE, INTERRUPTED = 1, 2, 130

WAYS_OUT = {
    "unreachable": "is a node running? `hive dev` starts a cluster here; --endpoints or HIVE_ENDPOINTS names another",
    "no_leader": "a majority of the nodes must be up; `hive status` shows which are",
    "not_found": "the list command shows what there is; a node that lags may not know it yet",
    "unknown_project": "a project comes into being with its first write; --project names another",
    "stale_attempt": "the task is held under another attempt; `hive task get` shows it",
    "membership_busy": "one change at a time; try again in a moment",
    "quorum_at_risk": "bring more nodes up first; `hive member list` shows who is connected",
    "node_id_used": "give the node an id that was never used, and an empty --data-dir",
    "overloaded": "the cluster is at its limit; try again in a moment",
    "unexpected_reply": "is this the HTTP port of a Hive node (7400 by default)?",
}


class CommandError(Exception):
    """A command cannot go on; the text is one line that says what to do. `status` is the exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


class UsageError(CommandError):
    """The command was called wrongly."""

    def __init__(self, text: str) -> None:
        super().__init__(text, USAGE)


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """The function as a command: its errors become one line on stderr and an exit status."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except BaseExceptionGroup as errors:
            _leave(first_error(errors))
        except (CommandError, HiveError, BrokenPipeError, KeyboardInterrupt) as error:
            _leave(error)

    return command


def _leave(error: BaseException) -> NoReturn:
    """Raises typer.Exit for what a user can do something about, and the error itself for a bug."""
    if isinstance(error, CommandError):
        fail(str(error), error.status)
    if isinstance(error, HiveError):
        fail(explain(error), FAILED)
    if isinstance(error, BrokenPipeError):
        # The reader of a pipe (`| head`) has enough; the interpreter must not complain at its own exit.
        sys.stderr.close()
        raise typer.Exit(FAILED)
    if isinstance(error, KeyboardInterrupt):
        raise typer.Exit(INTERRUPTED)
    raise error


def first_error(errors: BaseExceptionGroup) -> BaseException:
    """The error that made the others: a task group cancels the rest."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def explain(error: HiveError) -> str:
    """The error's own text, then the way out."""
    way_out = WAYS_OUT.get(error.code, "")
    if isinstance(error, OutcomeUnknown) and error.idempotency_key:
        way_out = f"it may have happened; repeat it with --idempotency-key {error.idempotency_key}"
    return f"{error}; {way_out}" if way_out else str(error)


def fail(text: str, status: int) -> NoReturn:
    """Print one line and leave. Raises typer.Exit."""
    typer.echo(f"hive: {one_line(text)}", err=True)
    raise typer.Exit(status)
