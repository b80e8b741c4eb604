"""What is known of a part of the tree. Tallies merge in any order, so reports can be taken over reports."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MOST_COMPLEX_MAX = 10


@dataclass(frozen=True, slots=True)
class ComplexFunction:
    """A function, where it is, and its McCabe complexity."""

    path: str
    name: str
    line: int
    complexity: int

    @property
    def rank(self) -> tuple[int, str, int]:
        """Most complex first, then by place, so that the same tree always gives the same ten."""
        return -self.complexity, self.path, self.line


@dataclass(frozen=True, slots=True)
class Tally:
    """`outlined` and `linted` count files; `findings` counts by code."""

    outlined: int = 0
    linted: int = 0
    classes: int = 0
    functions: int = 0
    unparsable: int = 0
    findings: Mapping[str, int] = field(default_factory=dict)
    most_complex: tuple[ComplexFunction, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Tally:
        """The tally in a task's result. Raises TypeError or KeyError for anything else."""
        fields = dict(document)
        fields["most_complex"] = tuple(ComplexFunction(**function) for function in fields["most_complex"])
        return cls(**fields)


def merge(tallies: Iterable[Tally]) -> Tally:
    """One tally of all; the order does not matter, and merging merged ones gives the same."""
    parts = list(tallies)
    findings: Counter[str] = Counter()
    for part in parts:
        findings.update(part.findings)
    functions = (function for part in parts for function in part.most_complex)
    return Tally(
        outlined=sum(part.outlined for part in parts),
        linted=sum(part.linted for part in parts),
        classes=sum(part.classes for part in parts),
        functions=sum(part.functions for part in parts),
        unparsable=sum(part.unparsable for part in parts),
        findings=dict(sorted(findings.items())),
        most_complex=tuple(heapq.nsmallest(MOST_COMPLEX_MAX, functions, key=lambda function: function.rank)),
    )
