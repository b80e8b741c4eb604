"""`hive recover`: when a majority is lost for good, one survivor becomes a new cluster."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.identity import StartError
from cluster.recover import RecoveryPlan, force_new_cluster, plan_recovery
from ops.edge import CommandError, UsageError, guarded
from ops.output import print_fields, print_json, print_line
from statemachine import machine

DataDir = Annotated[Path, typer.Option("--data-dir", metavar="DIR", help="The survivor's directory. Stop it first.")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("recover")(recover)


@guarded
def recover(
    data_dir: DataDir,
    new_cluster: Annotated[
        bool, typer.Option("--force-new-cluster", help="Make this node a cluster of one, with a new cluster id.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without, only say what would be kept and lost.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a stopped node holds; with --force-new-cluster --yes make it a cluster of its own. There is no way back.

    For a cluster that has lost its majority for good. Take the survivor with the highest applied index, and see that
    the other old nodes are not started again.
    """
    if yes and not new_cluster:
        raise UsageError("--yes does what --force-new-cluster says; give both")
    try:
        plan = (force_new_cluster if yes else plan_recovery)(data_dir, machine.apply)
    except StartError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot use {data_dir}: {error.strerror or error}; check its owner and its disk") from error
    if as_json:
        print_json({**asdict(plan), "done": yes})
        return
    print_fields(_fields(plan))
    print_line(_last_line(plan, done=yes))


def _fields(plan: RecoveryPlan) -> dict[str, object]:
    return {
        "node": plan.node_id,
        "cluster": plan.cluster_id,
        "kept": f"everything up to log entry {plan.last_index}",
        "known to be committed": f"up to log entry {plan.applied_index}, revision {plan.revision}",
        "perhaps never acknowledged": f"{plan.unconfirmed_entries} entries",
        "lost": "whatever this node never got",
        "lost members": ", ".join(plan.lost_members),
        "new cluster": plan.new_cluster_id,
    }


def _last_line(plan: RecoveryPlan, *, done: bool) -> str:
    if not done:
        return "nothing was changed; --force-new-cluster --yes does it"
    gone = f"never start {', '.join(plan.lost_members)} again with the old data; " if plan.lost_members else ""
    return f"done: start node {plan.node_id}; {gone}new nodes come with hive node --join"
