from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.demo import work
from ops.demo.tally import MOST_COMPLEX_MAX, ComplexFunction, Tally, merge
from ops.demo.work import NAME_CHARACTERS_MAX, SourceGoneError, lint_file, outline_file

TEXT = """
import os

class A:
    def simple(self): ...

    def branchy(self, x):
        if x:
            return 1
        return 2
"""


def test_outline_and_lint_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TEXT)
    outlined = outline_file(tmp_path, "a.py")
    assert (outlined.tally.outlined, outlined.tally.classes, outlined.tally.functions) == (1, 1, 2)
    assert [(f.name, f.complexity) for f in outlined.tally.most_complex] == [("A.branchy", 2), ("A.simple", 1)]
    assert outlined.details["functions"] == [["A.simple", 5, 1], ["A.branchy", 7, 2]]
    linted = lint_file(tmp_path, "a.py")
    assert linted.tally == Tally(linted=1, findings={"unused-import": 1})
    assert linted.details["findings"][0][:2] == [2, "unused-import"]


def test_a_file_that_does_not_parse_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(:")
    assert outline_file(tmp_path, "a.py").tally.unparsable == 1


@pytest.mark.parametrize("path", ["../secret.py", "gone.py"])
def test_only_files_under_the_root_are_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.py").write_text("x = 1")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(SourceGoneError):
        outline_file(root, path)


def test_results_stay_small_whatever_the_file_holds(tmp_path: Path) -> None:
    functions = "".join(f"def {'f' * 1000}{n}(): ...\n" for n in range(work.DETAILS_MAX + 100))
    (tmp_path / "a.py").write_text(functions)
    outlined = outline_file(tmp_path, "a.py")
    assert outlined.tally.functions == work.DETAILS_MAX + 100
    assert len(outlined.tally.most_complex) == MOST_COMPLEX_MAX
    assert all(len(f.name) <= NAME_CHARACTERS_MAX for f in outlined.tally.most_complex)
    # An event holds 256 KiB; 1,000 results must fit one reply of 4 MiB.
    assert len(json.dumps(outlined.details).encode()) < 256 * 1024
    assert len(json.dumps(outlined.tally.to_json()).encode()) < 4 * 1024


def tally(*complexities: int, path: str = "a.py") -> Tally:
    return Tally(
        outlined=1,
        functions=len(complexities),
        findings={"x": 1},
        most_complex=tuple(ComplexFunction(path, f"f{c}", c, c) for c in complexities),
    )


def test_merging_keeps_sums_and_the_most_complex() -> None:
    merged = merge([tally(*range(8)), tally(*range(5, 12), path="b.py")])
    assert (merged.outlined, merged.functions, merged.findings) == (2, 15, {"x": 2})
    assert [f.complexity for f in merged.most_complex] == [11, 10, 9, 8, 7, 7, 6, 6, 5, 5]
    assert [f.path for f in merged.most_complex][4:6] == ["a.py", "b.py"]


def test_merging_reports_gives_what_merging_all_gives() -> None:
    parts = [tally(n, n * 7 % 13, path=f"{n}.py") for n in range(30)]
    assert merge([merge(parts[:11]), merge(parts[11:])]) == merge(parts)


def test_a_tally_survives_json() -> None:
    before = merge([tally(3, 4), Tally(linted=2, findings={"y": 3})])
    assert Tally.from_json(json.loads(json.dumps(before.to_json()))) == before
