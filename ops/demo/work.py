"""The work itself: from a file to the result of its outline or lint task."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.demo.lint import lint
from ops.demo.outline import outline
from ops.demo.source import FILE_BYTES_MAX, Source, parse_source
from ops.demo.tally import ComplexFunction, Tally, merge

# Details go to the session's log; an event holds 256 KiB.
DETAILS_MAX = 500
# Generated code has names of any length; the ten most complex functions of 1,000 results travel with one report.
NAME_CHARACTERS_MAX = 120


@dataclass(frozen=True, slots=True)
class Work:
    """`tally` becomes the task's result, small enough for a report over 1,000; `details` goes to the session."""

    tally: Tally
    details: dict[str, Any]


class SourceGoneError(Exception):
    """The file that a task names is not under the root, or cannot be read any more."""


def outline_file(root: Path, path: str) -> Work:
    """Classes, functions and their complexity. Raises SourceGoneError."""
    source = _read(root, path)
    if source.tree is None:
        return Work(Tally(outlined=1, unparsable=1), {"path": path, "error": source.error})
    found = outline(source.tree)
    ranked = merge(
        Tally(most_complex=(ComplexFunction(path, _clip(f.name), f.line, f.complexity),)) for f in found.functions
    )
    tally = Tally(
        outlined=1,
        classes=len(found.classes),
        functions=len(found.functions),
        most_complex=ranked.most_complex,
    )
    details = {
        "path": path,
        "classes": [_clip(name) for name in found.classes[:DETAILS_MAX]],
        "functions": [[_clip(f.name), f.line, f.complexity] for f in found.functions[:DETAILS_MAX]],
    }
    return Work(tally, details)


def lint_file(root: Path, path: str) -> Work:
    """Findings. Raises SourceGoneError."""
    findings = lint(_read(root, path))
    counts = Counter(finding.code for finding in findings)
    details = {"path": path, "findings": [[f.line, f.code, _clip(f.message)] for f in findings[:DETAILS_MAX]]}
    return Work(Tally(linted=1, findings=dict(sorted(counts.items()))), details)


def _clip(text: str) -> str:
    return text if len(text) <= NAME_CHARACTERS_MAX else text[: NAME_CHARACTERS_MAX - 1] + "…"


def path_within(root: Path, path: str) -> Path:
    """The file that a task names. Raises SourceGoneError if it is not under the root."""
    # A task's payload comes from outside the agent: it must not read what it was not given.
    if not (root / path).resolve().is_relative_to(root.resolve()):
        raise SourceGoneError(f"{path} leads out of {root}")
    return root / path


def _read(root: Path, path: str) -> Source:
    try:
        with path_within(root, path).open("rb") as file:
            return parse_source(path, file.read(FILE_BYTES_MAX))
    except OSError as error:
        raise SourceGoneError(f"{path}: {error.strerror}") from error
