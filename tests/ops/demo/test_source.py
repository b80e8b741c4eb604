from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops.demo import source
from ops.demo.source import find_sources, parse_source


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")


def test_finds_python_files_sorted_and_skips_what_is_not_the_users(tmp_path: Path) -> None:
    write(tmp_path, "b.py", "a/c.py", "a/d.txt", ".git/e.py", "__pycache__/f.py", "env/pyvenv.cfg", "env/lib/g.py")
    assert find_sources(tmp_path).paths == ("a/c.py", "b.py")


def test_links_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "in/a.py", "out/b.py")
    (tmp_path / "in" / "link.py").symlink_to(tmp_path / "out" / "b.py")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert find_sources(tmp_path / "in").paths == ("a.py",)


def test_one_file_is_a_tree_too(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b.py")
    tree = find_sources(tmp_path / "a.py")
    assert (tree.root, tree.paths) == (tmp_path, ("a.py",))


def test_large_files_are_skipped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.py")
    (tmp_path / "large.py").write_text("x = 1\n" * 10)
    monkeypatch.setattr(source, "FILE_BYTES_MAX", 10)
    tree = find_sources(tmp_path)
    assert (tree.paths, tree.skipped) == (("a.py",), ("large.py",))


@pytest.mark.parametrize(
    "content", [b"def f(:\n", b"x = '\x00'\n", b"# coding: nonsense\n", b"(" * 5000, b"\xff\xfe = 1\n"]
)
def test_what_does_not_parse_is_said_not_raised(content: bytes) -> None:
    parsed = parse_source("a.py", content)
    assert parsed.tree is None
    assert parsed.error.startswith("line ")


def test_the_declared_encoding_counts() -> None:
    assert parse_source("a.py", "# coding: latin-1\nx = 'é'\n".encode("latin-1")).tree is not None


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Collections all the time, in each of which another thread gets its turn: the parser is left in the middle."""
    threshold = gc.get_threshold()

    def give_way(_phase: str, _info: dict[str, int]) -> None:
        time.sleep(0)

    gc.callbacks.append(give_way)
    gc.set_threshold(50)
    yield
    gc.set_threshold(*threshold)
    gc.callbacks.remove(give_way)


@pytest.mark.usefixtures("eager_collector")
def test_many_threads_may_parse_at_once() -> None:
    content = (("x = [" + "[[1, 2], (3, {4: 5})], " * 20 + "]\n") * 5).encode()
    with ThreadPoolExecutor(4) as threads:
        parsed = list(threads.map(lambda n: parse_source(f"{n}.py", content), range(32)))
    assert all(source.tree is not None for source in parsed)
