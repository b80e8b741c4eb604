"""Findings in one Python file. Each check is a function from a source to findings; the table says which there are."""

from __future__ import annotations

import ast
import builtins
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from ops.demo.names import exported_names, imported_names, module_names, used_names
from ops.demo.source import Source

LINE_CHARACTERS_MAX = 120
_MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_"))


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """What is wrong in which line (from 1; 0: in the file as a whole); `code` names the check."""

    line: int
    code: str
    message: str


def lint(source: Source) -> tuple[Finding, ...]:
    """All findings, by line. A file that does not parse has one finding beside those of its lines."""
    findings = list(_long_lines(source))
    if source.tree is None:
        findings.append(Finding(0, "syntax-error", source.error))
    else:
        for check in CHECKS:
            findings.extend(check(source.path, source.tree))
    return tuple(sorted(findings))


def _long_lines(source: Source) -> Iterator[Finding]:
    for number, line in enumerate(source.text.splitlines(), start=1):
        if len(line) > LINE_CHARACTERS_MAX:
            yield Finding(number, "line-too-long", f"{len(line)} characters, more than {LINE_CHARACTERS_MAX}")


def _unused_imports(path: str, tree: ast.Module) -> Iterator[Finding]:
    if path.endswith("__init__.py"):
        return  # imports there are the package's face
    used = used_names(tree) | set(exported_names(tree))
    for name, line in imported_names(tree):
        if name not in used:
            yield Finding(line, "unused-import", f"{name} is imported and not used")


def _undefined_exports(_path: str, tree: ast.Module) -> Iterator[Finding]:
    defined = module_names(tree)
    if "*" in defined or "__getattr__" in defined:
        return  # anything may be defined
    for name, line in exported_names(tree).items():
        if name not in defined:
            yield Finding(line, "undefined-export", f"__all__ names {name}, which is not defined")


def _bare_excepts(_path: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield Finding(node.lineno, "bare-except", "catches SystemExit and KeyboardInterrupt too")


def _mutable_defaults(_path: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if isinstance(default, _MUTABLE):
                    yield Finding(default.lineno, "mutable-default", "one object is shared by all calls")


def _shadowed_builtins(_path: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.arg in _BUILTINS:
            yield Finding(node.lineno, "shadowed-builtin", f"the argument {node.arg} hides a builtin")
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name in _BUILTINS:
            yield Finding(statement.lineno, "shadowed-builtin", f"the definition of {statement.name} hides a builtin")


def _none_comparisons(_path: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for operator, right in zip(node.ops, node.comparators, strict=True):
                if isinstance(operator, ast.Eq | ast.NotEq) and isinstance(right, ast.Constant) and right.value is None:
                    yield Finding(node.lineno, "none-comparison", "compare with None by identity")


def _unreachable(_path: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if not isinstance(statements, list):
                continue
            for before, after in pairwise(statements):
                if isinstance(before, _LEAVING):
                    yield Finding(after.lineno, "unreachable-code", "nothing leads here")
                    break


def _duplicate_keys(_path: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            # By type too: 1 and True are equal to Python and two keys to the reader.
            keys = Counter((type(k.value), k.value) for k in node.keys if isinstance(k, ast.Constant))
            for (_, value), count in keys.items():
                if count > 1:
                    yield Finding(node.lineno, "duplicate-key", f"{value!r} is given {count} times")


CHECKS: tuple[Callable[[str, ast.Module], Iterator[Finding]], ...] = (
    _unused_imports,
    _undefined_exports,
    _bare_excepts,
    _mutable_defaults,
    _shadowed_builtins,
    _none_comparisons,
    _unreachable,
    _duplicate_keys,
)
