"""Which Python files a tree holds, and one of them parsed."""

from __future__ import annotations

import ast
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# A larger file is generated data; it would hold one agent for seconds and shows nothing.
FILE_BYTES_MAX = 4 << 20
# Python 3.11 counts the parser's depth once for all threads: two that parse at the same time fail with SystemError.
_PARSER = threading.Lock()
SKIPPED_DIRECTORIES = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True, slots=True)
class SourceTree:
    """Paths relative to `root`, sorted; `skipped` were too large, or have a name that is not text."""

    root: Path
    paths: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One file. `tree` is None when it does not parse; then `error` says where and why."""

    path: str
    text: str
    tree: ast.Module | None
    error: str = ""


def find_sources(root: Path) -> SourceTree:
    """All `*.py` files under `root`, without hidden directories, caches and virtual environments."""
    if root.is_file():
        return SourceTree(root.parent, (root.name,), ())
    paths: list[str] = []
    skipped: list[str] = []
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        (paths if _fit(path, name) else skipped).append(name)
    return SourceTree(root, tuple(sorted(paths)), tuple(sorted(skipped)))


def _walk(root: Path) -> Iterator[Path]:
    for folder, directories, files in os.walk(root):
        directories[:] = sorted(name for name in directories if _wanted(Path(folder, name)))
        for name in files:
            path = Path(folder, name)
            # A link may lead out of the tree, or to a file that is there already.
            if name.endswith(".py") and path.is_file() and not path.is_symlink():
                yield path


def _wanted(directory: Path) -> bool:
    name = directory.name
    return not name.startswith(".") and name not in SKIPPED_DIRECTORIES and not (directory / "pyvenv.cfg").exists()


def _fit(path: Path, name: str) -> bool:
    try:
        name.encode()
        return path.stat().st_size <= FILE_BYTES_MAX
    except (UnicodeEncodeError, OSError):
        return False


def parse_source(path: str, content: bytes) -> Source:
    """Never raises: a file that Python cannot read is a finding, not a failure of the agent."""
    text = content.decode("utf-8", errors="replace")
    try:
        with _PARSER:
            return Source(path, text, ast.parse(content, filename=path))
    except SyntaxError as error:
        return Source(path, text, None, f"line {error.lineno or 0}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        # Null bytes, or nesting deeper than the parser's stack.
        return Source(path, text, None, f"line 0: {error or type(error).__name__}")
