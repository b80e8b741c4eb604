"""`hive dev`: a local cluster in one terminal."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from hive_client import Client

from ops.addresses import require_free
from ops.edge import CommandError, guarded
from ops.interrupt import stop_event
from ops.local_cluster import LocalCluster, NodePlan, plan_nodes
from ops.output import print_line
from ops.process import ChildProcess, describe_exit

NODES_MAX = 9
LAYOUT_FILE = "dev.json"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("dev")(dev)


@guarded
def dev(
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=NODES_MAX)] = 3,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Kept; the same cluster starts from it again.")] = Path(
        ".hive"
    ),
    http_port: Annotated[int, typer.Option("--http-port", min=1, max=65_535 - 10 * NODES_MAX)] = 7400,
) -> None:
    """Run a cluster on this machine until Ctrl-C: HTTP on 7400, 7410, 7420, peers on the port after each."""
    plans = plan_nodes(nodes, http_port)
    _check_layout(data_dir, nodes, http_port)
    require_free([port for plan in plans for port in (plan.http_port, plan.peer_port)])
    raise typer.Exit(asyncio.run(_run(LocalCluster(plans, data_dir, log_to_pipes=True))))


def _check_layout(data_dir: Path, nodes: int, http_port: int) -> None:
    """Members and their addresses are part of a cluster's identity; started with others its nodes would refuse."""
    path = data_dir / LAYOUT_FILE
    layout = {"nodes": nodes, "http_port": http_port}
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(layout) + "\n", encoding="utf-8")
            return
        found = json.loads(path.read_text(encoding="utf-8"))
        kept = {"nodes": int(found["nodes"]), "http_port": int(found["http_port"])}
    except OSError as error:
        raise CommandError(f"cannot use {data_dir}: {error.strerror}; give another --data-dir") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path} is damaged; give another --data-dir, or remove this one with its data") from error
    if kept != layout:
        was = f"--nodes {kept['nodes']} --http-port {kept['http_port']}"
        raise CommandError(f"{data_dir} holds a cluster made with {was}; start it so, or give another --data-dir")


async def _run(cluster: LocalCluster) -> int:
    with stop_event() as stopped:
        try:
            await cluster.start()
            return await _until_stopped(cluster, stopped)
        finally:
            await cluster.stop()


async def _until_stopped(cluster: LocalCluster, stopped: asyncio.Event) -> int:
    """0 after a stop that was asked for, 1 when the last node is gone."""
    async with asyncio.TaskGroup() as group:
        watchers = [group.create_task(_follow(node, cluster)) for node in cluster.nodes.values()]
        announcement = group.create_task(_announce(cluster))
        stop = asyncio.create_task(stopped.wait())
        all_gone = asyncio.gather(*watchers)
        await asyncio.wait((stop, all_gone), return_when=asyncio.FIRST_COMPLETED)
        announcement.cancel()
        stop.cancel()
        if not stopped.is_set():
            print_line("hive | every node is gone")
            return 1
        print_line("hive | stopping")
        # The nodes' last lines are still read, so none of them blocks on a full pipe.
        await cluster.stop()
        await all_gone
    print_line("hive | stopped")
    return 0


async def _announce(cluster: LocalCluster) -> None:
    async with Client(cluster.endpoints) as client:
        try:
            leader = await cluster.wait_ready(client)
        except CommandError as error:
            print_line(f"hive | {error}")
            return
    print_line(f"ready  {','.join(cluster.endpoints)}  (leader {leader.node_id}, term {leader.term})")


async def _follow(node: ChildProcess, cluster: LocalCluster) -> None:
    """Print a node's log under its name; report its end."""
    output = node.output
    while line := await _line(output):
        print_line(f"{node.name} | {line.decode('utf-8', 'replace').rstrip()}")
    status = await node.wait()
    if status != 0:
        print_line(
            f"hive | node {node.name} is gone ({describe_exit(status)}); {_way_back(cluster.plans[node.name], node)}"
        )


async def _line(output: asyncio.StreamReader) -> bytes:
    try:
        return await output.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await output.read(error.consumed)


def _way_back(plan: NodePlan, node: ChildProcess) -> str:
    arguments = node.command[node.command.index("node") + 1 :]
    words = shlex.join(arguments)
    return f"the others go on while they are a majority; start {plan.node_id} again with: hive node {words}"
