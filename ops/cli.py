"""The `hive` command: one line for each thing it can do. Each noun has a file of its own."""

from __future__ import annotations

from importlib.metadata import version

import typer

from ops import (
    agent,
    budget,
    cluster,
    dev,
    member,
    node,
    queue,
    recover,
    resync,
    schedule,
    session,
    settings,
    status,
    task,
    task_waits,
    watch,
)
from ops.bench import command as bench_command
from ops.connection import EndpointsOption, Globals, ProjectOption, TimeoutOption
from ops.demo import command as demo_command

app = typer.Typer(
    name="hive",
    help="Hive: the coordination store for fleets of AI coding agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hive {version('hive')}")
        raise typer.Exit


@app.callback()
def _globals(
    ctx: typer.Context,
    endpoints: EndpointsOption = None,
    project: ProjectOption = None,
    timeout_s: TimeoutOption = 10.0,
    _version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    ctx.obj = Globals(endpoints, project, timeout_s)


node.add_to(app)
dev.add_to(app)
demo_command.add_to(app)
status.add_to(app)
cluster.add_to(app)
member.add_to(app)
resync.add_to(app)
recover.add_to(app)
watch.add_to(app)
task_waits.add_to(task.app)
app.add_typer(task.app, name="task")
app.add_typer(queue.app, name="queue")
app.add_typer(agent.app, name="agent")
app.add_typer(session.app, name="session")
app.add_typer(schedule.app, name="schedule")
app.add_typer(budget.app, name="budget")
app.add_typer(settings.app, name="settings")
app.add_typer(bench_command.app, name="bench")


def main() -> None:
    """The entry point of `hive`."""
    app()
