"""``client.groups``: tasks that belong together by their ``group_id``."""

from __future__ import annotations

from typing import Literal, Unpack

from hive_client.calls import Calls, segment
from hive_client.errors import WaitTimedOut
from hive_client.models.tasks import Group, GroupCancelled
from hive_client.options import ReadOptions, WriteOptions
from hive_client.tasks import WAIT_MS


class Groups:
    """Groups of tasks: `client.groups`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, group_id: str, **options: Unpack[ReadOptions]) -> Group:
        """Counts by status and the ids of the failed."""
        return Group.from_reply(await self._calls.read(f"/api/groups/{segment(group_id)}", None, options))

    async def wait(
        self,
        group_id: str,
        *,
        until: Literal["ended", "any_failed"] = "ended",
        timeout_s: float | None = None,
    ) -> Group:
        """Wait until all have ended; with ``any_failed`` also return at the first failure. Raises ``WaitTimedOut``."""
        clock = self._calls.transport.clock
        deadline = None if timeout_s is None else clock.monotonic() + timeout_s
        last: Group | None = None
        while True:
            left_s = None if deadline is None else deadline - clock.monotonic()
            if left_s is not None and left_s <= 0:
                raise WaitTimedOut(
                    f"group {group_id}: not {until} within {timeout_s} s",
                    current=None if last is None else dict(last.counts),
                )
            wait_ms = WAIT_MS if left_s is None else min(WAIT_MS, max(1, int(left_s * 1000)))
            query = {"until": until, "wait_ms": wait_ms}
            last = Group.from_reply(await self._calls.read(f"/api/groups/{segment(group_id)}", query))
            if last.unended == 0 or (until == "any_failed" and last.failed):
                return last

    async def cancel(self, group_id: str, **options: Unpack[WriteOptions]) -> GroupCancelled:
        """Cancel every task of the group that has not ended."""
        path = f"/api/groups/{segment(group_id)}"
        return GroupCancelled.from_reply(await self._calls.write("DELETE", path, None, options))
