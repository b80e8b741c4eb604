"""`hive demo`: the main job."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ops.addresses import free_ports
from ops.demo.report import DemoReport, print_report
from ops.demo.run import run_demo
from ops.demo.source import SourceTree, find_sources
from ops.demo.trials import QUICK, Pace
from ops.demo.view import make_view
from ops.edge import FAILED, INTERRUPTED, CommandError, UsageError, guarded
from ops.interrupt import unless_stopped
from ops.local_cluster import LocalCluster, plan_free_nodes
from ops.output import print_json

NODES = 3
RESTART_AFTER_S = 10.0


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("demo")(demo)


@guarded
def demo(
    path: Annotated[Path, typer.Argument(help="A folder with Python files.")] = Path(),
    restart_after_s: Annotated[float, typer.Option("--restart-after-s", min=0, max=600)] = RESTART_AFTER_S,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help=f"Pause the agent for {QUICK.pause_s:.0f} s and not for a minute; leases are shorter.",
        ),
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the cluster's data and logs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Outline and lint every Python file under PATH with four agents on three nodes; kill the leader in the middle.

    Meanwhile one agent is killed, one is paused for a minute, one is drained, and one registers again under its name.
    Exit status 1 if any task was lost or any result recorded twice, or if `explain` was wrong about a task of theirs.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; name a folder with Python files")
    tree = find_sources(path.resolve())
    if not tree.paths:
        raise UsageError(f"there is no Python file under {path}; name another folder")
    data_dir = Path(tempfile.mkdtemp(prefix="hive-demo-"))
    unneeded = False
    try:
        report = asyncio.run(_run(tree, data_dir, restart_after_s, QUICK if quick else Pace(), as_json=as_json))
        unneeded = report.good
    except CommandError as error:
        unneeded = error.status == INTERRUPTED
        raise
    finally:
        # What went wrong can be read in the logs.
        if unneeded and not keep:
            shutil.rmtree(data_dir, ignore_errors=True)
        else:
            typer.echo(f"hive: data and logs are in {data_dir}", err=True)
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)
    if not report.good:
        raise typer.Exit(FAILED)


async def _run(tree: SourceTree, data_dir: Path, restart_after_s: float, pace: Pace, *, as_json: bool) -> DemoReport:
    cluster = LocalCluster(plan_free_nodes(free_ports(2 * NODES)), data_dir)
    return await unless_stopped(run_demo(tree, cluster, make_view(as_json=as_json), restart_after_s, pace))
