"""The end of a replica as a kill leaves it, within a process that goes on: the page cache stays, nothing is flushed."""

from __future__ import annotations

import asyncio
from typing import Any

from cluster.node_replica import NodeReplica


async def abandon(replica: NodeReplica) -> None:
    """Cut its connections, let go of its files, hand nothing over, vouch for nothing."""
    replica.core.stop()
    end_threads, finish = replica._closing
    await asyncio.get_running_loop().run_in_executor(None, end_threads)
    opened: Any = finish.args[0]  # type: ignore[attr-defined]  # it is a partial
    opened.state.let_go()
    opened.disk.close()
    opened.directory.unlock()
