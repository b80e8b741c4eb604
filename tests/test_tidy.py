"""The house style as tests: what a reviewer would otherwise have to say again and again.

Each rule is a function from source text to complaints, and is itself tested on text that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("statemachine", "cluster", "node", "clients", "ops")
TEXT_SUFFIXES = frozenset({".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".cfg", ".sh", ".service", ".json"})
SKIPPED = frozenset({".venv", ".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"})

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
LONGER_FILES = {"statemachine/commands.py": 900}
"""Tables that must be read as one. commands.py: the numbers and payloads of every command of the log."""

VAGUE_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"})
UNSAFE_MODULES = frozenset({"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"})

# Written in pieces, so that this file does not find itself.
_UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
_FOREIGN_PATHS = re.compile(
    r"(?<![\w.:/-])/(?:" + "|".join(["ho" + "me", "ro" + "ot", "wo" + "rk", "Us" + "ers"]) + r")/\w"
)
_REGISTRIES = re.compile("|".join(["py" + r"pi\.", "files.python" + "hosted", "registry.npm" + "js"]))
_SLEEP = re.compile(r"\b(?:time|asyncio)\.sl" + r"eep\((?!0\))")  # of 0: a turn for other tasks, no waiting
_SILENCED = re.compile(r"#\s*(?:no" + r"qa|type:\s*ign" + r"ore)(?P<rest>.*)$")


def _files(folders: tuple[str, ...], suffixes: frozenset[str] = frozenset({".py"})) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return sorted(path for path in found if path.is_file() and not _is_skipped(path))


def _is_skipped(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return any(part in SKIPPED or part.endswith(".egg-info") for part in parts)


def _everything() -> list[Path]:
    top = [path for path in ROOT.iterdir() if path.suffix in TEXT_SUFFIXES or path.name in {"Makefile", "run"}]
    return sorted(top) + _files((*PRODUCT, "tests"), TEXT_SUFFIXES)


def _name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _complaints(paths: list[Path], rule: Callable[[str], list[str]]) -> dict[str, list[str]]:
    assert paths, "nothing to look at"
    found = {_name_of(path): rule(path.read_text()) for path in paths}
    return {name: lines for name, lines in found.items() if lines}


def _matching(pattern: re.Pattern[str]) -> Callable[[str], list[str]]:
    def rule(source: str) -> list[str]:
        numbered = enumerate(source.splitlines(), 1)
        return [f"line {number}: {line.strip()}" for number, line in numbered if pattern.search(line)]

    return rule


unfinished = _matching(_UNFINISHED)
foreign_paths = _matching(_FOREIGN_PATHS)
registries = _matching(_REGISTRIES)
sleeps = _matching(_SLEEP)


def long_functions(source: str) -> list[str]:
    """Functions that do not fit on a screen."""
    return [
        f"line {node.lineno}: {node.name} has {lines} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def undocumented(source: str) -> list[str]:
    """The module, and its public classes and functions, that say nothing of themselves."""
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["the module has no docstring"]
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if not node.name.startswith("_") and not ast.get_docstring(node):
            found.append(f"line {node.lineno}: {node.name} has no docstring")
    return found


def unsafe_imports(source: str) -> list[str]:
    """Modules that run code out of data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found += [f"line {node.lineno}: {name}" for name in names if name.split(".")[0] in UNSAFE_MODULES]
    return found


def silenced_without_reason(source: str) -> list[str]:
    """Linter and type checker are silenced only with the code and the reason."""
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        match = _SILENCED.search(line)
        if match and not re.match(r"(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[\w, -]+\])\W+\w+\s+\w+", match["rest"]):
            found.append(f"line {number}: {line.strip()}")
    return found


def test_files_are_short() -> None:
    lengths = {_name_of(path): len(path.read_text().splitlines()) for path in _files(PRODUCT)}
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > LONGER_FILES.get(name, FILE_LINES_MAX)} == {}


def test_longer_files_are_still_there() -> None:
    assert [name for name in LONGER_FILES if not (ROOT / name).is_file()] == []


def test_functions_fit_on_a_screen() -> None:
    assert _complaints(_files(PRODUCT), long_functions) == {}


def test_modules_have_names_that_say_something() -> None:
    everywhere = _files((*PRODUCT, "tests"))
    vague = [_name_of(path) for path in everywhere if VAGUE_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)]
    assert vague == []


def test_everything_public_is_documented() -> None:
    assert _complaints(_files(PRODUCT), undocumented) == {}


def test_nothing_is_left_unfinished() -> None:
    assert _complaints(_everything(), unfinished) == {}


def test_no_path_of_one_machine_is_named() -> None:
    assert _complaints(_everything(), foreign_paths) == {}


def test_no_package_registry_is_named() -> None:
    assert _complaints(_everything(), registries) == {}


def test_tests_wait_for_events_and_never_sleep() -> None:
    assert _complaints(_files(("tests",)), sleeps) == {}


def test_nothing_runs_code_out_of_data() -> None:
    assert _complaints(_files((*PRODUCT, "tests")), unsafe_imports) == {}


def test_silenced_warnings_carry_their_reason() -> None:
    assert _complaints(_files((*PRODUCT, "tests")), silenced_without_reason) == {}


NOQA, IGNORE = "# no" + "qa", "# type: ign" + "ore"


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (unfinished, "# TO" + "DO later", "todos = []"),
        (foreign_paths, 'open("/ho' + 'me/ann/x")', 'get("/api/tasks/claim/work/x")'),
        (registries, "py" + "pi.org", "pypitem"),
        (sleeps, "await asyncio.sl" + "eep(1)", "await asyncio.sl" + "eep(0)"),
        (long_functions, "def f():\n" + "    x = 1\n" * 70, "def f():\n" + "    x = 1\n" * 69),
        (undocumented, "x = 1", '"""Doc."""\ndef _f(): ...'),
        (undocumented, '"""Doc."""\nclass A: ...', '"""Doc."""\nclass A:\n    """Doc."""'),
        (undocumented, '"""Doc."""\nasync def f(): ...', '"""Doc."""\ndef f():\n    """Doc."""'),
        (unsafe_imports, "def f():\n    import pickle", "import json"),
        (unsafe_imports, "from pickle import loads", "from json import loads"),
        (silenced_without_reason, f"x = 1  {NOQA}", f"x = 1  {NOQA}: BLE001 - the outermost edge"),
        (silenced_without_reason, f"x = 1  {NOQA}: BLE001", f"x = 1  {NOQA}: S101, E501 - two reasons"),
        (
            silenced_without_reason,
            f"x = 1  {IGNORE}[arg-type]",
            f"x = 1  {IGNORE}[arg-type]  # they lie about it",
        ),
    ],
)
def test_every_rule_notices_what_breaks_it(rule: Callable[[str], list[str]], bad: str, good: str) -> None:
    assert rule(bad)
    assert not rule(good)
