"""What a node said while it ran on a damaged state. Checksums do not protect a state; the nodes find the odd one by
comparing, and until then it may show anything. So of that node in that time nothing is judged: its reads show nothing,
whether its writes happened is not known from it. Everything else keeps its full weight, as does that it is found.

What such a node has answered is decided all the same: an answer comes after the entry was applied, or instead of one. A
repeat with the same key that another node has answered is as good as any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from tests.nemesis.history import OK, REFUSED, UNKNOWN, Doubt, History, Op, Page, Seen

READS = frozenset({"read", "stale"})


@dataclass(frozen=True, slots=True)
class Judged:
    """What of a history counts."""

    ops: list[Op]
    seen: list[Seen]
    pages: list[Page]
    defects: list[str]


def judged(history: History) -> Judged:
    """The history without what was said in doubt."""
    doubts = history.doubts

    def sure(node: str, begin_s: float, end_s: float) -> bool:
        return not _doubted(doubts, (node,), begin_s, end_s)

    return Judged(
        ops=[found for op in history.ops if (found := _what_counts(op, doubts)) is not None],
        seen=[one for one in history.seen if sure(one.node, one.invoke_s, one.return_s)],
        pages=[page for page in history.pages if sure(page.node, page.begin_s, page.end_s)],
        defects=[one.text for one in history.misspoken if sure(one.node, one.begin_s, one.end_s)],
    )


def _what_counts(op: Op, doubts: Sequence[Doubt]) -> Op | None:
    answered = op.outcome in (OK, REFUSED)
    if not _doubted(doubts, op.nodes[-1:] if answered else op.nodes, op.invoke_s, op.return_s):
        return op
    if op.kind in READS:
        return None
    return replace(op, outcome=UNKNOWN, code="", value={}, revision=0, over=answered)


def _doubted(doubts: Sequence[Doubt], nodes: Iterable[str], begin_s: float, end_s: float) -> bool:
    return any(doubt.node in nodes and begin_s <= doubt.end_s and end_s >= doubt.begin_s for doubt in doubts)


def served_out_of_service(history: History) -> list[str]:
    """Who has found that its state is wrong says nothing of it any more."""
    broken = []
    for doubt in history.doubts:
        if doubt.noticed_s is None:
            continue
        broken += [
            f"{one.node} is out of service since {doubt.noticed_s:.3f}, and at {one.invoke_s:.3f}: {one.ask}"
            for one in history.seen
            if one.node == doubt.node and doubt.noticed_s < one.invoke_s < doubt.end_s and one.status < 300
        ]
        broken += [
            f"{page.node} is out of service since {doubt.noticed_s:.3f}, and tells {page.follower} of changes"
            for page in history.pages
            if page.node == doubt.node and doubt.noticed_s < page.begin_s < doubt.end_s and page.messages
        ]
    return broken
