"""One pass over the pending tasks: whose turn it is among projects, and which lane has a project's first task."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from node.duties.fairness import Fairness, Share
from node.duties.lanes import Lane, Place, Scope, Signature, Strand


class Pass:
    """Lanes in scope, by project. A lane that gets tasks during the pass is told by `see`."""

    def __init__(self, lanes: Mapping[str, Mapping[Signature, Lane]], fairness: Fairness, scope: Scope) -> None:
        self._scope = scope
        self._fairness = fairness
        self._count = 0
        self._projects: list[tuple[float, int, Share]] = []
        self._lanes: dict[str, list[tuple[Place, int, Lane]]] = {}
        projects = lanes if scope.project is None else {scope.project: lanes.get(scope.project, {})}
        for of_project in list(projects.values()):
            for lane in list(of_project.values()):
                self.see(lane)

    def see(self, lane: Lane) -> None:
        """The lane has tasks."""
        if not self._wants(lane):
            return
        found = lane.first()
        if found is None:
            return
        place, strand = found
        share = strand.run.flow.share
        heads = self._lanes.get(share.project)
        self._count += 1
        if not heads:
            heads = self._lanes[share.project] = []
            heapq.heappush(self._projects, (share.service_ms, self._count, share))
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
            found = lane.first() if self._wants(lane) else None
            if found is None:
                heapq.heappop(heads)
            elif found[0] == place:
                return found[1]
            else:
                heapq.heapreplace(heads, (found[0], number, lane))
        return None

    def _wants(self, lane: Lane) -> bool:
        queues = self._scope.queues
        return (queues is None or lane.signature.queue in queues) and self._scope.wanted(lane.signature)
