"""The architecture as tests: who may import whom, who owns which package, and what purity means for
`statemachine/`.

Each rule is a function from source text to complaints, and is itself tested on text that breaks it.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FOLDERS = {
    "statemachine": "statemachine",
    "cluster": "cluster",
    "node": "node",
    "ops": "ops",
    "hive_client": "clients/hive_client",
}
"""Import package -> where it lives."""

MAY_IMPORT = {
    "statemachine": {"statemachine"},
    "cluster": {"cluster", "statemachine"},
    "node": {"node", "cluster", "statemachine"},
    "ops": {"ops", "hive_client", "cluster", "statemachine"},
    "hive_client": {"hive_client"},
}

OWNERS = {
    "aiohttp": ("clients/hive_client/",),
    "chromadb": ("node/search",),
    "cronsim": ("node/recurrence",),
    "httptools": ("node/http/",),
    "lmdb": ("cluster/",),
    "msgpack": ("cluster/",),
    "msgspec": ("statemachine/", "cluster/", "node/", "ops/"),
    "prometheus_client": ("node/metrics",),
    "psutil": ("node/", "ops/"),
    "pysyncobj": ("cluster/",),
    "rich": ("ops/",),
    "typer": ("ops/",),
    "uvloop": ("node/", "ops/"),
    "yarl": ("clients/hive_client/",),  # comes with aiohttp: its type for addresses
}
"""Third-party package -> the paths that may import it. A package that is not here may not be imported at
all."""

PURE_MODULES = frozenset(
    {"__future__", "abc", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq"}
    | {"itertools", "operator", "re", "struct", "typing", "msgspec", "statemachine"}
)
"""All that `statemachine/` may import: nothing of it knows a clock, chance, a thread, a file or a socket."""

IMPURE_CALLS = frozenset({"eval", "exec", "float", "hash", "id", "input", "open", "print", "round", "vars"})
"""Built-ins whose answer differs between processes or platforms, or that reach outside."""

IMPURE_METHODS = frozenset({"casefold", "lower", "swapcase", "title", "upper"})
"""Tables of letters differ between versions of Python."""


def _sources(package: str) -> list[Path]:
    return sorted((ROOT / FOLDERS[package]).rglob("*.py"))


def _name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(source: str) -> Iterator[tuple[int, str]]:
    """(line, top-level package) of every import, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]


def wrong_directions(package: str, source: str) -> list[str]:
    """Imports of our own packages that go the wrong way."""
    return [
        f"line {line}: {package} may not import {name}"
        for line, name in _imports(source)
        if name in FOLDERS and name not in MAY_IMPORT[package]
    ]


def wrong_owners(path: str, source: str) -> list[str]:
    """Third-party packages imported by who does not own them."""
    return [
        f"line {line}: {name} belongs to {', '.join(OWNERS.get(name, ('nobody',)))}"
        for line, name in _imports(source)
        if name not in sys.stdlib_module_names and name not in FOLDERS and not path.startswith(OWNERS.get(name, ()))
    ]


def impurities(source: str) -> list[str]:
    """What makes a function's answer depend on more than its arguments, or on the platform."""
    found = [f"line {line}: import of {name}" for line, name in _imports(source) if name not in PURE_MODULES]
    tree = ast.parse(source)
    put_in_order = set(_sorted_at_once(tree))
    for node in ast.walk(tree):
        if node not in put_in_order and (wrong := _impurity_of(node)):
            place = node.iter if isinstance(node, ast.comprehension) else node
            found.append(f"line {getattr(place, 'lineno', '?')}: {wrong}")
    return found


def _sorted_at_once(tree: ast.Module) -> Iterator[ast.comprehension]:
    """The loops of `sorted(... for ... in ...)`: whatever order they run in does not show."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sorted":
            for argument in node.args:
                if isinstance(argument, ast.GeneratorExp):
                    yield from argument.generators


def _impurity_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
        return "a float; use integers (micro-dollars, ten-thousandths)"
    if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
        return "a division that makes a float; use //"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
        return f"a call of {node.func.id}()"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in IMPURE_METHODS:
        return f"a call of .{node.func.attr}()"
    if isinstance(node, ast.For | ast.comprehension) and _is_set(node.iter):
        return "an iteration over a set, whose order is chance"
    return None


def _is_set(node: ast.expr) -> bool:
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"set", "frozenset"}
    return named or isinstance(node, ast.Set | ast.SetComp)


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_go_one_way(package: str) -> None:
    sources = _sources(package)
    assert sources
    wrong = {_name_of(path): wrong_directions(package, path.read_text()) for path in sources}
    assert {name: lines for name, lines in wrong.items() if lines} == {}


@pytest.mark.parametrize("package", FOLDERS)
def test_third_party_packages_have_one_owner(package: str) -> None:
    wrong = {_name_of(path): wrong_owners(_name_of(path), path.read_text()) for path in _sources(package)}
    assert {name: lines for name, lines in wrong.items() if lines} == {}


def test_the_state_machine_is_pure() -> None:
    wrong = {_name_of(path): impurities(path.read_text()) for path in _sources("statemachine")}
    assert {name: lines for name, lines in wrong.items() if lines} == {}


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("statemachine", "import cluster.replica"),
        ("cluster", "from node.config import Settings"),
        ("ops", "def f():\n    from node import main"),
        ("hive_client", "from statemachine.names import check_id"),
        ("node", "import hive_client"),
    ],
)
def test_a_wrong_direction_is_noticed(package: str, source: str) -> None:
    assert wrong_directions(package, source)
    assert not wrong_directions(package, f"import {package}.something\nfrom . import other")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("node/main.py", "import httptools"),
        ("ops/doctor.py", "import lmdb"),
        ("node/server.py", "from pysyncobj import SyncObj"),
        ("clients/hive_client/client.py", "import msgspec"),
        ("cluster/replica.py", "import requests"),
    ],
)
def test_a_wrong_owner_is_noticed(path: str, source: str) -> None:
    assert wrong_owners(path, source)
    assert not wrong_owners("node/http/connection.py", "import json\nimport httptools")


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from random import randint",
        "import os.path",
        "def f():\n    import logging",
        "x = 0.5",
        "x = a / b",
        "x /= 2",
        "x = float(1)",
        "x = hash('a')",
        "print(1)",
        "x = name.lower()",
        "for x in {1, 2}: pass",
        "y = [x for x in set(names)]",
        "y = [x for x in {n for n in names}]",
    ],
)
def test_an_impurity_is_noticed(source: str) -> None:
    assert impurities(source)
    good = "import struct\nx = 7 // 2\nfor y in sorted({1, 2}): pass\nz = sorted(n + 1 for n in {1, 2})"
    assert not impurities(good)


@pytest.mark.parametrize(("project", "folders"), [(".", set(FOLDERS) - {"hive_client"}), ("clients", {"hive_client"})])
def test_every_package_is_in_the_distribution(project: str, folders: set[str]) -> None:
    here = ROOT / project
    listed = tomllib.loads((here / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(here).parts) for name in folders for path in (here / name).rglob("__init__.py")
    }
    assert sorted(listed) == sorted(found)
