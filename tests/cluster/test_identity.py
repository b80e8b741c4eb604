"""Whose data directory this is, and whether its state can be trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.identity import (
    FORMAT,
    CleanMark,
    DataDirectory,
    Identity,
    StartError,
    boot_id,
    check_cluster,
    check_identity,
    file_system_id,
    state_is_valid,
    with_run,
)


def _identity(path: Path, **fields: object) -> Identity:
    made = Identity(
        node_id="n1", cluster_id="c", journal_id="00" * 16, boot_id=boot_id(), file_system_id=file_system_id(path)
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # names are checked by replace


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    assert directory.load() is None
    saved = _identity(directory.path, generation=3, clean=CleanMark(7, 2), journal_ids={"n2": "aa"})
    directory.save(saved)
    assert directory.load() == saved
    directory.unlock()


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path)
    with pytest.raises(StartError, match="in use by another process"):
        DataDirectory(tmp_path)
    first.unlock()
    DataDirectory(tmp_path).unlock()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot use data directory"):
        DataDirectory(tmp_path / "file")


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StartError, match=r"holds thesis\.tex"):
        DataDirectory(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "cannot read"),
        ("[]", "cannot read"),
        ("{}", "cannot read"),
        (f'{{"format": {FORMAT + 1}}}', "has format"),
    ],
)
def test_an_unreadable_or_future_identity_is_refused_untouched(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "node.json").write_text(content)
    directory = DataDirectory(tmp_path)
    with pytest.raises(StartError, match=why):
        directory.load()
    directory.unlock()
    assert (tmp_path / "node.json").read_text() == content


def test_unknown_fields_are_refused(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.save(_identity(tmp_path))
    raw = json.loads((tmp_path / "node.json").read_text()) | {"surprise": 1}
    (tmp_path / "node.json").write_text(json.dumps(raw))
    with pytest.raises(StartError, match="cannot read"):
        directory.load()
    directory.unlock()


def test_a_directory_of_another_node_or_cluster_is_refused(tmp_path: Path) -> None:
    found = _identity(tmp_path)
    check_identity(found, node_id="n1")
    check_cluster(found, "c")
    with pytest.raises(StartError, match="belongs to node n1"):
        check_identity(found, node_id="n2")
    with pytest.raises(StartError, match="belongs to cluster c"):
        check_cluster(found, "d")


def test_the_state_of_this_boot_is_trusted_on_this_file_system_only(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    found = _identity(tmp_path)
    assert state_is_valid(found, directory, applied=(5, 1))
    assert not state_is_valid(replace(found, boot_id="other"), directory, applied=(5, 1))
    assert not state_is_valid(replace(found, file_system_id="other"), directory, applied=(5, 1))
    directory.unlock()


def test_a_clean_mark_counts_where_it_was_set(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    found = _identity(tmp_path, boot_id="other", clean=CleanMark(5, 1))
    assert state_is_valid(found, directory, applied=(5, 1))
    assert not state_is_valid(found, directory, applied=(6, 1))
    assert not state_is_valid(found, directory, applied=(5, 2))
    directory.unlock()


def test_a_run_takes_the_clean_mark_away(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    found = _identity(tmp_path, boot_id="other", clean=CleanMark(5, 1))
    running = with_run(found, directory)
    assert running.clean is None
    assert running.boot_id == boot_id()
    directory.unlock()
