"""`hive resync`: a stopped node whose log, snapshot or state is wrong builds it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.resync import ResyncPlan, ResyncRefusedError, StartError, plan_resync
from cluster.resync import resync as resync_directory
from ops.edge import CommandError, guarded
from ops.output import bytes_text, print_json, print_line

DataDir = Annotated[Path, typer.Option("--data-dir", metavar="DIR", help="The node's data directory. Stop it first.")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("resync")(resync)


@guarded
def resync(
    data_dir: DataDir,
    everything: Annotated[bool, typer.Option("--everything", help="Give up a good log too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without, only say what would be done.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a stopped node build anew what is wrong with it: from its own log where that is whole, else from the others.

    It happens at the node's next start. One node at a time, while the others are up.
    """
    try:
        plan = (resync_directory if yes else plan_resync)(data_dir, everything=everything)
    except (ResyncRefusedError, StartError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot use {data_dir}: {error.strerror or error}; check its owner and its disk") from error
    if json:
        print_json(_document(plan, done=yes))
        return
    for line in _lines(plan, done=yes):
        print_line(line)


def _document(plan: ResyncPlan, *, done: bool) -> dict[str, object]:
    return {
        "node_id": plan.node_id,
        "cluster_id": plan.cluster_id,
        "done": done,
        "keeps_log": plan.keeps_log,
        "why": plan.why,
        "bytes": plan.bytes,
    }


def _lines(plan: ResyncPlan, *, done: bool) -> list[str]:
    size = bytes_text(plan.bytes)
    if plan.keeps_log:
        what = "the state goes, and is made again from the log; the node stays a voter"
    else:
        what = (
            f"log, state and snapshots ({size}) go; the node counts for nothing until it has caught up with a majority "
            "of the others"
        )
    last = f"done: start node {plan.node_id} now" if done else "nothing was changed; --yes does it"
    return [f"node {plan.node_id} of cluster {plan.cluster_id}: {plan.why}", what, last]
