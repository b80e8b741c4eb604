"""One pass over the pending tasks: whose turn it is among projects, and which lane has a project's first task."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from math import inf

from node.duties.fairness import Fairness, Share
from node.duties.lanes import Lane, Place, Scope, Signature, Strand

_NEVER: tuple[Place, int] = (inf, 0, 0), 0
"""The entry of a lane that is in no order."""


class Pass:
    """Lanes in scope, by project. A lane that gets tasks during the pass is told by `see`.

    Each lane has one entry; one that stands too early is put right when it comes to the front.
    """

    def __init__(self, lanes: Mapping[str, Mapping[Signature, Lane]], fairness: Fairness, scope: Scope) -> None:
        self._scope = scope
        self._fairness = fairness
        self._count = 0
        self._projects: list[tuple[float, int, Share]] = []
        self._lanes: dict[str, list[tuple[Place, int, Lane]]] = {}
        self._entries: dict[Lane, tuple[Place, int]] = {}
        projects = lanes if scope.project is None else {scope.project: lanes.get(scope.project, {})}
        for of_project in list(projects.values()):
            for lane in list(of_project.values()):
                self.see(lane)

    def see(self, lane: Lane) -> None:
        """The lane has tasks."""
        found = lane.first()
        if found is None:
            return
        place, strand = found
        known = self._entries.get(lane)
        if (known is not None and known[0] <= place) or not self._wants(lane):
            return
        share = strand.run.flow.share
        heads = self._lanes.get(share.project)
        self._count += 1
        if not heads:
            heads = self._lanes[share.project] = []
            heapq.heappush(self._projects, (share.service_ms, self._count, share))
        self._entries[lane] = place, self._count
        heapq.heappush(heads, (place, self._count, lane))

    def first(self) -> Strand | None:
        """The strand with the first task of all; None when no lane in scope has one."""
        while self._projects:
            service_ms, number, share = self._projects[0]
            if service_ms != share.service_ms:
                heapq.heapreplace(self._projects, (share.service_ms, number, share))
                continue
            strand = self._first_of(self._lanes[share.project])
            if strand is not None:
                return strand
            heapq.heappop(self._projects)
        return None

    def _first_of(self, heads: list[tuple[Place, int, Lane]]) -> Strand | None:
        while heads:
            place, number, lane = heads[0]
            if self._entries[lane][1] != number:
                heapq.heappop(heads)
                continue
            found = lane.first() if self._wants(lane) else None
            if found is None:
                heapq.heappop(heads)
                # Nothing may be left of it: whoever sees it again enters it again.
                self._entries[lane] = _NEVER
            elif found[0] == place:
                return found[1]
            else:
                self._entries[lane] = found[0], number
                heapq.heapreplace(heads, (found[0], number, lane))
        return None

    def _wants(self, lane: Lane) -> bool:
        queues = self._scope.queues
        return (queues is None or lane.signature.queue in queues) and self._scope.wanted(lane.signature)
