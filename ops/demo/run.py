"""The demonstration from start to end: submit, work, strike the agents, kill the leader, restart it, count."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hive_client import Client, HiveError, TaskFields

from ops.demo.agents import ROLES, Team, require_running
from ops.demo.ledger import Ledger
from ops.demo.plan import batches, plan_tasks
from ops.demo.progress import Progress
from ops.demo.report import DemoReport, Rejoined
from ops.demo.source import SourceTree
from ops.demo.trials import Pace, Trials
from ops.demo.verify import APPLIED_TIMEOUT_S, count_events, count_tasks, differences, report_tally, wait_applied
from ops.demo.view import View
from ops.edge import CommandError, first_error
from ops.failover import Failover, kill_leader
from ops.local_cluster import POLL_S, LocalCluster

# The agents are struck at a quarter of the work, but not later than this: it may not get that far.
STRIKE_LATEST_S = 20.0
# Longer than a lease and all retries of a call; after that nothing comes any more.
STALL_S = 90.0
REFRESH_S = 0.2
STATUS_EVERY_S = 0.5
STOP_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Crash:
    """The leader's death and return: `catch_up_ms` from its start until it had what was written before that."""

    failover: Failover
    killed_at_completed: int
    catch_up_ms: float


class Demo:
    """One run over one tree, on a cluster that `start` made."""

    def __init__(
        self,
        tree: SourceTree,
        cluster: LocalCluster,
        client: Client,
        view: View,
        restart_after_s: float,
        pace: Pace,
    ) -> None:
        self._tree = tree
        self._cluster = cluster
        self._client = client
        self._view = view
        self._restart_after_s = restart_after_s
        self._run_id = f"demo-{secrets.token_hex(4)}"
        self._files = plan_tasks(self._run_id, tree.paths, lease_ms=pace.lease_ms)
        self._team = Team(self._run_id, tree.root, cluster.endpoints, cluster.data_dir)
        self._progress = Progress(total=0)
        self._trials = Trials(client, self._team, self._progress, self._run_id, tree.root, tree.paths, pace)
        tasks = [*self._trials.tasks.values(), *self._files]
        self._ledger = Ledger(submitted={task["task_id"] for task in tasks})
        self._progress.total = len(tasks)
        self._watch = client.changes.watch()
        self._moved = asyncio.Event()
        self._ended = False
        self._expected_down: set[str] = set()

    async def run(self) -> DemoReport:
        """Raises CommandError when it cannot be carried out; what went wrong in the cluster is in the report."""
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._show())]
                await self._start()
                helpers += [group.create_task(step()) for step in (self._follow, self._look_after_processes)]
                report = await self._work(group)
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as errors:
            raise first_error(errors) from errors
        finally:
            await self._watch.aclose()
            # Together and without regard for what they do: the counting is over.
            await self._team.stop(STOP_GRACE_S)
        self._view.refresh(self._progress)
        return report

    async def _start(self) -> None:
        await self._cluster.start()
        leader = await self._cluster.wait_ready(self._client)
        self._progress.note(f"{leader.node_id} leads in term {leader.term}")
        session = await self._client.sessions.create(
            session_id=self._run_id, title=f"Demonstration over {self._tree.root}"
        )
        self._watch = self._client.changes.watch(from_revision=session.created_revision + 1)
        for role in ROLES:
            await self._team.start(role)
        for role in ROLES:
            await self._team.wait_registered(self._client, role)
            self._progress.agents_up += 1

    async def _work(self, group: asyncio.TaskGroup) -> DemoReport:
        started_at = time.monotonic()
        self._progress.phase = "working"
        crash = group.create_task(self._crash())
        await self._submit(list(self._trials.tasks.values()))
        trials = group.create_task(self._trials.run(self._until_a_quarter))
        await self._submit(self._files)
        await self._until_ended()
        elapsed_s = time.monotonic() - started_at
        self._progress.phase = "waiting for the killed node and the paused agent"
        trials_good = await trials
        return await self._verify(await crash, elapsed_s, trials_good=trials_good)

    async def _submit(self, tasks: Sequence[TaskFields]) -> None:
        for batch in batches(tasks):
            reply = await self._client.tasks.create_batch(batch)
            if reply.refused:
                item = reply.refused[0]
                raise CommandError(f"task {item.id} was refused: {item.raw}")
            self._progress.submitted += len(batch)

    async def _follow(self) -> None:
        """Every change, from before the first task on."""
        async for message in self._watch:
            self._ledger.take_message(message)
            self._progress.take_message(message)
            self._moved.set()

    async def _until_ended(self) -> None:
        """Until every task has ended somehow, or nothing moved for so long that nothing will."""
        group = asyncio.create_task(self._client.groups.wait(self._run_id))
        try:
            while self._progress.completed < self._progress.total and not group.done():
                self._moved.clear()
                moved = asyncio.create_task(self._moved.wait())
                done, _ = await asyncio.wait((moved, group), timeout=STALL_S, return_when=asyncio.FIRST_COMPLETED)
                moved.cancel()
                if not done:
                    self._progress.note(f"nothing moved for {STALL_S:.0f} s; counting what there is")
                    return
        finally:
            group.cancel()
            await asyncio.gather(group, return_exceptions=True)
            self._ended = True

    async def _until_a_quarter(self) -> None:
        """Until a good part of the files' work is done, and much of it is under way."""
        latest = time.monotonic() + STRIKE_LATEST_S
        while self._progress.completed * 4 < len(self._files) and time.monotonic() < latest:
            await asyncio.sleep(POLL_S / 10)

    async def _crash(self) -> Crash:
        """SIGKILL for the leader at half of the work, and its restart."""
        while self._progress.completed * 2 < self._progress.total and not self._ended:
            await asyncio.sleep(POLL_S / 10)
        self._expected_down.update(self._cluster.nodes)
        at_completed = self._progress.completed
        restart_at = time.monotonic() + self._restart_after_s
        failover = await kill_leader(self._cluster, self._client, self._run_id)
        self._expected_down.intersection_update({failover.killed})
        self._progress.note(
            f"SIGKILL for the leader {failover.killed}; writes again after {failover.failover_ms:.0f} ms"
        )
        await asyncio.sleep(restart_at - time.monotonic())
        written = self._progress.revision
        returned_at = time.monotonic()
        await self._cluster.nodes[failover.killed].start()
        await self._cluster.wait_node_ready(self._client, failover.killed)
        self._expected_down.clear()
        async with Client([self._cluster.plans[failover.killed].endpoint]) as client:
            await client.cluster.status(min_revision=written, timeout_s=APPLIED_TIMEOUT_S)
        catch_up_ms = (time.monotonic() - returned_at) * 1000
        self._progress.note(f"{failover.killed} is back and has everything after {catch_up_ms:.0f} ms")
        return Crash(failover, at_completed, catch_up_ms)

    async def _verify(self, crash: Crash, elapsed_s: float, *, trials_good: bool) -> DemoReport:
        self._progress.phase = "counting"
        revision = await count_tasks(self._client, self._run_id, self._ledger)
        await wait_applied(lambda: self._watch.revision, revision, "the change feed")
        events = await count_events(self._client, self._run_id, self._ledger)
        for session_id in self._team.processes:
            session = await self._client.sessions.get(session_id, consistency="linearizable")
            events += session.last_seq
        killed = crash.failover.killed
        async with Client([self._cluster.plans[killed].endpoint]) as client:
            differing = await differences(client, self._run_id, self._ledger, revision)
        leader = await self._cluster.wait_leader(self._client)
        self._progress.phase = "done"
        return DemoReport(
            files=len(self._tree.paths),
            skipped=len(self._tree.skipped),
            verdict=self._ledger.verdict(),
            events_written=events,
            killed_at_completed=crash.killed_at_completed,
            failover=crash.failover,
            rejoined=Rejoined(killed, crash.catch_up_ms, differing),
            leader_after=leader.node_id,
            term_after=leader.term,
            elapsed_s=elapsed_s,
            stages=tuple(self._trials.seen),
            trials_good=trials_good,
            tally=report_tally(self._ledger.tasks.get(self._files[-1]["task_id"])),
        )

    async def _show(self) -> None:
        next_status_at = 0.0
        while True:
            self._progress.sample()
            if time.monotonic() >= next_status_at:
                next_status_at = time.monotonic() + STATUS_EVERY_S
                await self._look_at_cluster()
            self._view.refresh(self._progress)
            await asyncio.sleep(REFRESH_S)

    async def _look_at_cluster(self) -> None:
        self._progress.nodes_up = sum(node.running for node in self._cluster.nodes.values())
        try:
            leader = await self._cluster.leader(self._client)
        except HiveError:
            return
        if leader is not None:
            self._progress.leader_id, self._progress.term = leader.node_id, leader.term
        else:
            self._progress.leader_id = None

    async def _look_after_processes(self) -> None:
        while True:
            nodes = [n for n in self._cluster.nodes.values() if n.name not in self._expected_down]
            self._team.require_running()
            for node in nodes:
                require_running(node)
            await asyncio.sleep(REFRESH_S)


async def run_demo(
    tree: SourceTree, cluster: LocalCluster, view: View, restart_after_s: float, pace: Pace
) -> DemoReport:
    """Start everything, run, stop everything."""
    async with Client(cluster.endpoints) as client:
        try:
            with view:
                return await Demo(tree, cluster, client, view, restart_after_s, pace).run()
        finally:
            await cluster.stop()
