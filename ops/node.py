"""`hive node`: one node of a cluster."""

from __future__ import annotations

import os
import sys

import typer

# The node parses its own options, --help included: they come from its table of settings.
RAW = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def node_command(arguments: list[str]) -> list[str]:
    """A node process. `-P`: a folder named `node` where the operator stands must not be imported."""
    return [sys.executable, "-P", "-m", "node", *arguments]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("node", context_settings=RAW, add_help_option=False)(run)


def run(ctx: typer.Context) -> None:
    """Run one node; `hive node --help` lists its settings. Without --members: a cluster of one."""
    command = node_command(ctx.args)
    # The node takes this process's place, so signals and the exit status are its own.
    os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted
