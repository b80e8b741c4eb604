"""What the whole history must keep to, beside the order of each key. Each rule returns one line for each break."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.nemesis.history import FAILED, OK, REFUSED, UNKNOWN, Op, Page, Seen
from tests.nemesis.models import describe

NUMBERED = frozenset({"create", "write", "cas", "append", "submit"})
"""Writes that get a revision of their own and are made once."""

GRANTS = frozenset({"claim", "take"})
VERBS = frozenset({"release", "complete", "finish"})


def _is_numbered(op: Op) -> bool:
    return op.kind in NUMBERED and op.outcome == OK and op.revision > 0


Feed = dict[int, list[str]]
"""Changes by revision."""


# --- revisions -------------------------------------------------------------------------------------------------------


def revisions_going_back(seen: Iterable[Seen]) -> list[str]:
    """A node never shows an older revision than before, within one run of it."""
    broken = []
    by_run: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for one in seen:
        if not one.replayed:
            by_run[one.node, one.run].append(one)
    for (node, run), replies in by_run.items():
        floor = _Floor((one.return_s, one.revision) for one in replies)
        for one in replies:
            before = floor.before(one.invoke_s)
            if one.revision < before:
                broken.append(f"{node} run {run}: {one.ask} at {one.invoke_s:.3f} shows {one.revision}, after {before}")
    return broken


def revisions_behind_time(ops: Sequence[Op], seen: Iterable[Seen]) -> list[str]:
    """A linearizable read shows every write that was acknowledged before it began; a write comes after them."""
    writes = [op for op in ops if _is_numbered(op)]
    floor = _Floor((op.return_s, op.revision) for op in writes)
    broken = [
        f"{one.node}: a linearizable read begun at {one.invoke_s:.3f} shows {one.revision}, acknowledged was {before}"
        for one in seen
        if one.strong and one.revision < (before := floor.before(one.invoke_s))
    ]
    broken += [
        f"acknowledged before it was revision {before}: {describe(op)}"
        for op in writes
        if op.revision <= (before := floor.before(op.invoke_s))
    ]
    numbers: dict[int, Op] = {}
    for op in writes:
        if op.revision in numbers:
            broken.append(f"revision {op.revision} twice: {describe(op)} and {describe(numbers[op.revision])}")
        numbers[op.revision] = op
    return broken


class _Floor:
    """The highest revision shown up to a moment."""

    def __init__(self, shown: Iterable[tuple[float, int]]) -> None:
        self._times_s: list[float] = []
        self._highest: list[int] = []
        for time_s, revision in sorted(shown):
            self._times_s.append(time_s)
            self._highest.append(max(revision, self._highest[-1] if self._highest else 0))

    def before(self, time_s: float) -> int:
        """The highest that was shown before this moment."""
        place = bisect.bisect_left(self._times_s, time_s)
        return self._highest[place - 1] if place else 0


# --- fences ----------------------------------------------------------------------------------------------------------


def fences_crossed(ops: Iterable[Op]) -> list[str]:
    """No attempt is granted to two; no verb of an old attempt is accepted once a newer grant was acknowledged."""
    grants: dict[str, list[tuple[int, float, str]]] = defaultdict(list)
    verbs: list[tuple[str, Op]] = []
    for op in ops:
        if op.outcome != OK:
            continue
        if op.kind == "claim":
            grants[op.key].append((op.value["attempt"], op.return_s, op.client))
        elif op.kind == "take":
            for task_id, attempt in op.value["grants"]:
                grants[task_id].append((attempt, op.return_s, op.client))
        elif op.kind in VERBS:
            verbs.append((op.key or op.args["task_id"], op))
    broken = []
    for task_id, granted in grants.items():
        holders: dict[int, set[str]] = defaultdict(set)
        for attempt, _, agent in granted:
            holders[attempt].add(agent)
        broken += [f"{task_id}: attempt {n} was granted to {sorted(who)}" for n, who in holders.items() if len(who) > 1]
    for task_id, op in verbs:
        newer = [
            f"{attempt} at {time_s:.3f} to {agent}"
            for attempt, time_s, agent in grants[task_id]
            if attempt > op.args["attempt"] and time_s < op.invoke_s
        ]
        if newer:
            broken.append(f"{task_id}: accepted after attempt {newer[0]} was granted: {describe(op)}")
    return broken


# --- results ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ending:
    """What a linearizable look at the end found. `tasks`: id, label, status, attempt, token of each task of the work
    group; `results`: task id, attempt, token of each result event; `feeds`: the changes as each node tells them;
    `contents`: for each node a digest of each resource it shows."""

    tasks: list[tuple[str, str, str, int, str]] = field(default_factory=list)
    results: list[tuple[str, int, str]] = field(default_factory=list)
    feeds: dict[str, Feed] = field(default_factory=dict)
    contents: dict[str, dict[str, str]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


def results_lost_or_doubled(ops: Iterable[Op], ending: Ending) -> list[str]:
    """Each submitted task exists once, each acknowledged result is the task's only one, none came from nowhere."""
    submits, finishes = [], []
    for op in ops:
        if op.kind == "submit":
            submits.append(op)
        elif op.kind == "finish":
            finishes.append(op)
    return _submitted(submits, ending) + _finished(finishes, ending)


def _submitted(submits: list[Op], ending: Ending) -> list[str]:
    by_label: dict[str, list[str]] = defaultdict(list)
    for task_id, label, *_ in ending.tasks:
        by_label[label].append(task_id)
    broken = []
    for op in submits:
        found = by_label.pop(op.args["label"], [])
        wrong = len(found) > 1
        wrong = wrong or (op.outcome == OK and found != [op.value["task_id"]])
        wrong = wrong or (op.outcome in (FAILED, REFUSED) and bool(found))
        if wrong:
            broken.append(f"found as {found}: {describe(op)}")
    return broken + [f"nobody submitted {label}: {found}" for label, found in by_label.items()]


def _finished(finishes: list[Op], ending: Ending) -> list[str]:
    broken = []
    told: dict[str, set[str]] = defaultdict(set)
    for op in finishes:
        told[op.args["token"]].add(op.outcome)
    events: dict[str, list[str]] = defaultdict(list)
    for task_id, _, token in ending.results:
        events[task_id].append(token)
    for task_id, _, status, _, token in ending.tasks:
        expected = [token] if status == "completed" else []
        found = events.pop(task_id, [])
        if found != expected:
            broken.append(f"{task_id} is {status} with result {token!r}, but its results are {found}")
        if status == "completed" and not told[token] & {OK, UNKNOWN}:
            broken.append(f"{task_id} has the result {token!r} that was told {sorted(told[token])}")
    broken += [f"results of a task that is not there: {task_id} {tokens}" for task_id, tokens in events.items()]
    kept = {token for *_, token in ending.tasks}
    broken += [
        f"an acknowledged result is lost: {describe(op)}"
        for op in finishes
        if op.outcome == OK and op.args["token"] not in kept
    ]
    return broken


# --- feeds and states ------------------------------------------------------------------------------------------------


def watches_with_gaps(ops: Iterable[Op], pages: Iterable[Page], ending: Ending) -> list[str]:
    """Every follower got exactly the changes there are, in order and whole; every write is among them."""
    if not ending.feeds:
        return ["no feed was read at the end"]
    node, feed = next(iter(ending.feeds.items()))
    broken = [
        f"the feeds of {node} and {other} differ at revision {revision}: {feed.get(revision)} {told.get(revision)}"
        for other, told in ending.feeds.items()
        for revision in sorted(feed.keys() | told.keys())
        if feed.get(revision) != told.get(revision)
    ][:10]
    revisions = sorted(feed)
    for page in pages:
        first, end = (bisect.bisect_left(revisions, at) for at in (page.from_revision, page.next_revision))
        expected = [(revision, feed[revision]) for revision in revisions[first:end]]
        if page.messages != expected:
            broken.append(
                f"{page.follower}@{page.node}: from {page.from_revision} to {page.next_revision} it was told "
                f"{page.messages[:3]}..., there was {expected[:3]}..."
            )
    broken += [f"not in the feed: {describe(op)}" for op in ops if _is_numbered(op) and op.revision not in feed]
    return broken


def states_that_differ(ending: Ending) -> list[str]:
    """At the end all nodes have the same digest, and show the same."""
    broken = []
    if len(set(ending.digests.values())) != 1:
        broken.append(f"the digests differ: {ending.digests}")
    nodes = list(ending.contents)
    for node in nodes[1:]:
        first, other = ending.contents[nodes[0]], ending.contents[node]
        differing = sorted(name for name in first.keys() | other.keys() if first.get(name) != other.get(name))
        if differing:
            broken.append(f"{nodes[0]} and {node} show {len(differing)} resources differently: {differing[:5]}")
    return broken


def all_broken(
    ops: Sequence[Op], seen: Sequence[Seen], pages: Sequence[Page], ending: Ending | None
) -> dict[str, list[str]]:
    """Every rule of this module with what breaks it. Without an ending, only those that can do without."""
    found = {
        "revisions never go back on a node": revisions_going_back(seen),
        "reads and writes are in real time": revisions_behind_time(ops, seen),
        "fences hold": fences_crossed(ops),
    }
    if ending is None:
        return found
    return found | {
        "no result is lost or doubled": results_lost_or_doubled(ops, ending),
        "watches have no gaps": watches_with_gaps(ops, pages, ending),
        "all nodes hold the same": states_that_differ(ending),
    }
