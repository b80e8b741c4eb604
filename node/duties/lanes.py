"""The parts of which the pending tasks are made: tasks of one need in lanes, and how far the state was read."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from node.duties.affinity import Site
from node.duties.fairness import Flow
from node.duties.fleet import Requires
from node.duties.holdings import TaskKey
from statemachine.commands import PathLock

PRIORITIES = range(9, -1, -1)


class Found:
    """A pending task as the state shows it. `since_ms`: since when it is pending (Unix milliseconds)."""

    __slots__ = (
        "attempt",
        "avoid",
        "concurrency_key",
        "locks",
        "order",
        "prefers",
        "priority",
        "requires",
        "session",
        "since_ms",
        "sites",
        "task_id",
    )

    def __init__(
        self,
        task_id: str,
        order: int,
        attempt: int,
        requires: Requires,
        avoid: tuple[str, int, bool] | None = None,
        *,
        priority: int = 5,
        since_ms: int = 0,
        session: str | None = None,
        concurrency_key: str | None = None,
        prefers: str | None = None,
        sites: tuple[Site, ...] = (),
        locks: tuple[PathLock, ...] = (),
    ) -> None:
        self.task_id = task_id
        self.order = order
        self.attempt = attempt
        self.requires = requires
        self.avoid = avoid
        self.priority = priority
        self.since_ms = since_ms
        self.session = session
        self.concurrency_key = concurrency_key
        self.prefers = prefers
        self.sites = sites
        self.locks = locks

    @property
    def kind(self) -> int:
        """Which strand the task belongs into."""
        return kind_of(self.concurrency_key, self.locks)


KEYED = 1
"""Of a kind, the bit for a concurrency key."""


def kind_of(concurrency_key: str | None, locks: tuple[PathLock, ...]) -> int:
    """What may keep single tasks back: 1 a concurrency key, 2 locks, 3 both, 0 nothing. Each kind has strands of its
    own, so that a task never stands behind others that have to wait for something it does not need."""
    return (concurrency_key is not None) + 2 * bool(locks)


class Signature:
    """What tasks of one lane have in common. Several tables are asked by it with each decision: its hash is kept."""

    __slots__ = ("_hash", "project", "queue", "requires")

    def __init__(self, project: str, queue: str, requires: Requires) -> None:
        self.project = project
        self.queue = queue
        self.requires = requires
        self._hash = hash((project, queue, requires))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Signature)
            and (self.project, self.queue, self.requires) == (other.project, other.queue, other.requires)
        )

    def __repr__(self) -> str:
        return f"Signature({self.project!r}, {self.queue!r}, {self.requires!r})"


class PendingTask:
    """One pending task. `order` is its place by creation, `rank` that by priority and age: smaller comes first.
    `avoid` is an agent that let it go, since when (Unix milliseconds), and whether for a moment even if no other is
    there; `prefers` one that parked it, `sites` where it belongs. Without a strand it is parked (`path_locks`)."""

    __slots__ = (
        "attempt",
        "avoid",
        "concurrency_key",
        "key",
        "locks",
        "order",
        "prefers",
        "priority",
        "queued",
        "rank",
        "reserved",
        "reserved_until_s",
        "run",
        "signature",
        "sites",
        "strand",
    )

    def __init__(self, key: TaskKey, signature: Signature, found: Found, rank: int) -> None:
        self.key = key
        self.signature = signature
        self.order = found.order
        self.priority = found.priority
        self.rank = rank
        self.attempt = found.attempt
        self.avoid = found.avoid
        self.concurrency_key = found.concurrency_key
        self.prefers = found.prefers
        self.sites = found.sites
        self.locks = found.locks
        self.run: Run | None = None
        self.strand: Strand | None = None
        self.queued = False
        self.reserved = False
        self.reserved_until_s = 0.0

    @property
    def kind(self) -> int:
        """Which strand the task belongs into."""
        return kind_of(self.concurrency_key, self.locks)

    def avoids(self, agent_id: str, now_ms: int, within_ms: int) -> bool:
        """Whether the agent let this task lapse, declined it or failed at it so lately."""
        return self.avoid is not None and self.avoid[0] == agent_id and now_ms < self.avoid[1] + within_ms


Place = tuple[float, int, int]
"""What decides between tasks of one project, smaller first: what their session has had, rank, order."""


class Strand:
    """Tasks of one run, one priority, one need and one kind (`kind_of`), in order.

    `skipped_from`: the first order that was left in the state for want of room. `entry` is the number of its one valid
    entry among those of its part. `closed`: nothing of it is to be had in this pass.
    """

    __slots__ = ("closed", "count", "entry", "heap", "kind", "lane", "priority", "pushes", "run", "skipped_from")

    def __init__(self, run: Run, lane: Lane, priority: int, kind: int) -> None:
        self.run = run
        self.lane = lane
        self.priority = priority
        self.kind = kind
        self.closed = False
        self.heap: list[tuple[int, int, int, PendingTask]] = []
        self.pushes = 0
        self.count = 0
        self.entry = 0
        self.skipped_from: int | None = None

    def push(self, task: PendingTask) -> None:
        """Queue a task, once."""
        if not task.queued:
            task.queued = True
            self.pushes += 1
            heapq.heappush(self.heap, (task.rank, task.order, self.pushes, task))

    def pop(self) -> None:
        """Take the first task out of the order."""
        heapq.heappop(self.heap)[3].queued = False

    def head(self) -> PendingTask | None:
        """The first task that is still here and reserved for nobody."""
        if self.closed:
            return None
        while self.heap:
            task = self.heap[0][3]
            if task.strand is self and not task.reserved:
                return task
            self.pop()
        return None

    @property
    def served(self) -> bool:
        """Whether its first task comes before all of its run and priority that was not read yet."""
        task, position = self.head(), self.run.positions[self.priority]
        return self.closed or (task is not None and (position is None or task.order < position))

    def sweep(self) -> None:
        """Forget tasks that are gone, when they are most of what is queued."""
        if len(self.heap) > 2 * self.count + 64:
            self.heap = [entry for entry in self.heap if entry[3].strand is self]
            heapq.heapify(self.heap)


class Part:
    """The strands of one run in a lane, by the place of their first task.

    `entry` is the number of its one valid entry in the lane, `place` where that stands; 0 when it has none.
    """

    __slots__ = ("_entries", "_heap", "count", "entry", "flow", "lane", "place")

    def __init__(self, lane: Lane, flow: Flow) -> None:
        self.lane = lane
        self.flow = flow
        self.count = 0
        self.entry = 0
        self.place: Place = (0.0, 0, 0)
        self._heap: list[tuple[int, int, int, Strand]] = []
        self._entries = 0

    def push(self, strand: Strand) -> Place | None:
        """A strand's first task changed; its place, None if it has none to be had."""
        task = None if self.flow.closed else strand.head()
        if task is None:
            return None
        self._entries += 1
        strand.entry = self._entries
        heapq.heappush(self._heap, (task.rank, task.order, self._entries, strand))
        if len(self._heap) > 2 * self.count + 64:
            self._heap = [entry for entry in self._heap if entry[3].entry == entry[2]]
            heapq.heapify(self._heap)
        return self.flow.service_ms, task.rank, task.order

    def first(self) -> tuple[Place, Strand] | None:
        """The strand whose first task comes first; None when there is none, or the session has no budget left."""
        heap = self._heap
        while heap and not self.flow.closed:
            rank, order, entry, strand = heap[0]
            task = strand.head() if strand.entry == entry else None
            if task is None:
                heapq.heappop(heap)
            elif task.order == order and task.rank == rank:
                return (self.flow.service_ms, rank, order), strand
            else:
                heapq.heapreplace(heap, (task.rank, task.order, entry, strand))
        return None


class Lane:
    """All strands of one signature, by the place of their first task. Those of one run stand together, so that what
    its session has had changes one entry and not many."""

    __slots__ = ("_entries", "_heap", "_parts", "signature", "strands")

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.strands: dict[Strand, None] = {}
        self._parts = 0
        self._heap: list[tuple[Place, int, Part]] = []
        self._entries = 0

    def add(self, strand: Strand) -> None:
        """A strand that has no task yet."""
        run, requires = strand.run, self.signature.requires
        part = run.parts.get(requires)
        if part is None:
            part = run.parts[requires] = Part(self, run.flow)
            self._parts += 1
        part.count += strand not in self.strands
        self.strands[strand] = None

    def drop(self, strand: Strand) -> None:
        """A strand is done with. Again: nothing happens."""
        if strand not in self.strands:
            return
        del self.strands[strand]
        strand.entry = 0
        part = strand.run.parts[self.signature.requires]
        part.count -= 1
        if not part.count:
            part.entry = 0
            self._parts -= 1
            del strand.run.parts[self.signature.requires]

    def push(self, strand: Strand) -> None:
        """A strand's first task changed."""
        if strand in self.strands:
            part = strand.run.parts[self.signature.requires]
            place = part.push(strand)
            if place is not None and (not part.entry or place < part.place):
                self.push_part(part)

    def push_part(self, part: Part) -> None:
        """A part's first task, or what its session has had, changed."""
        found = part.first()
        if found is None or (part.entry and part.place <= found[0]):
            # An entry that stands too early is put right when it comes to the front.
            return
        self._entries += 1
        part.entry, part.place = self._entries, found[0]
        heapq.heappush(self._heap, (part.place, self._entries, part))
        if len(self._heap) > 2 * self._parts + 64:
            self._heap = [entry for entry in self._heap if entry[2].entry == entry[1]]
            heapq.heapify(self._heap)

    def first(self) -> tuple[Place, Strand] | None:
        """The strand whose first task comes first."""
        heap = self._heap
        while heap:
            place, entry, part = heap[0]
            if part.entry != entry:
                heapq.heappop(heap)
                continue
            found = part.first()
            if found is None:
                part.entry = 0
                heapq.heappop(heap)
            elif found[0] == place:
                return found
            else:
                part.place = found[0]
                heapq.heapreplace(heap, (found[0], entry, part))
        return None


class Run:
    """How far the tasks of a project's queue were read: those of one session, or those of none; by priority.

    A position of None: read to its end. `parked`: how many of its tasks are here and in no strand.
    """

    __slots__ = ("flow", "parked", "parts", "positions", "project", "queue", "seen", "session", "strands")

    def __init__(self, project: str, queue: str, session: str | None, flow: Flow) -> None:
        self.project = project
        self.queue = queue
        self.session = session
        self.flow = flow
        self.parked = 0
        self.seen = [0] * len(PRIORITIES)
        self.positions: list[int | None] = [0] * len(PRIORITIES)
        self.strands: dict[tuple[int, Requires, int], Strand] = {}
        self.parts: dict[Requires, Part] = {}

    @property
    def unread(self) -> bool:
        """Whether the state may hold tasks of it that are not here."""
        return any(position is not None for position in self.positions) or any(
            strand.skipped_from is not None for strand in self.strands.values()
        )

    @property
    def dry(self) -> bool:
        """Whether a strand that left tasks in the state has none here; whoever wants them must read them then."""
        return any(
            strand.skipped_from is not None and not strand.closed and strand.head() is None
            for strand in self.strands.values()
        )


Chunk = tuple[Sequence[Found], int | None]
"""Pending tasks of the state in order, and where to read on; None at the end."""

Scan = Callable[[str, str, str | None, Mapping[int, int], int], Mapping[int, Chunk]]
"""(project, queue, session or None for tasks of none, least order by priority, most tasks of each) -> chunks."""


@dataclass(slots=True)
class Scope:
    """What one pass is about. `budget`: how many tasks it may still read from the state."""

    wanted: Callable[[Signature], bool]
    project: str | None
    queues: Collection[str] | None
    budget: int

    def covers(self, run: Run) -> bool:
        """Whether anybody might take tasks of this run: who can do anything at all can do what needs nothing."""
        if (self.project is not None and self.project != run.project) or (
            self.queues is not None and run.queue not in self.queues
        ):
            return False
        return self.wanted(Signature(run.project, run.queue, ()))
