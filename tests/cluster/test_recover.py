"""One survivor of three becomes a cluster: real files, in one process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cluster.recover import force_new_cluster, plan_recovery
from statemachine import audit, changes, machine, session_record
from statemachine.commands import CreateSession
from statemachine.entry import Header, encode_batch, encode_entry
from statemachine.recovery import REVISIONS_SKIPPED
from tests.cluster.nodes import Nodes, nodes_up
from tests.sim.load import frame_of


def _sees(nodes: Nodes, name: str) -> bool:
    with nodes.up["n1"].view() as view:
        return session_record.find(view, 1, name) is not None


def test_what_the_survivor_has_stays_also_what_it_cannot_know_to_be_committed(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            await nodes.leader.transfer_leadership("n1", 10)
            await nodes.until(lambda: nodes.up["n1"].is_leader)
            n1 = nodes.up["n1"]
            await n1.propose([frame_of("before", CreateSession("before"))], 10)
            for other in ("n2", "n3"):
                await nodes.stop(other)
            last_index = n1.status().last_index
            # In its log, and nobody can say whether it was on its way to being acknowledged.
            frame = frame_of("perhaps", CreateSession("perhaps"))
            n1.core.engine.enter()
            n1.core.engine.append(encode_entry(Header(n1.now_ms(), n1.term), [encode_batch(1, 1, [frame])]))
            revision, cluster_id = n1.revision, n1.cluster_id
            await nodes.stop("n1")

            plan = plan_recovery(tmp_path / "n1", machine.apply)
            assert (plan.node_id, plan.cluster_id, plan.revision) == ("n1", cluster_id, revision)
            assert plan.last_index > last_index
            assert plan.unconfirmed_entries >= 1
            assert plan.lost_members == ("n2", "n3")
            assert plan.new_cluster_id is None
            again = plan_recovery(tmp_path / "n1", machine.apply)
            assert again == plan, "a dry run takes nothing for committed"

            done = force_new_cluster(tmp_path / "n1", machine.apply)
            assert done.new_cluster_id not in (None, cluster_id)
            alone = await nodes.start("n1", members={"n1": nodes.options("n1").peer_address})
            await nodes.until_led()
            assert alone.cluster_id == done.new_cluster_id
            assert _sees(nodes, "before")
            assert _sees(nodes, "perhaps")
            # Nothing that was seen in the old cluster means something else in this one.
            assert alone.revision >= revision + REVISIONS_SKIPPED
            with alone.view() as view:
                assert machine.read_meta(view).compacted_revision >= revision + REVISIONS_SKIPPED
                assert all(group.first_revision > revision for _, group in changes.read(view, 0))
                assert [fault for fault in audit.audit(view) if "position" not in fault] == []
            (outcome,) = await alone.propose([frame_of("after", CreateSession("after"))], 10)
            assert outcome.revision == alone.revision > revision + REVISIONS_SKIPPED

    asyncio.run(play())
