"""What a Python file defines: its classes, its functions, and how complex each function is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert)


@dataclass(frozen=True, slots=True)
class FunctionOutline:
    """`name` is qualified (`Class.method`); `complexity` is McCabe's number, 1 for straight code."""

    name: str
    line: int
    complexity: int


@dataclass(frozen=True, slots=True)
class Outline:
    """A module's classes and functions at any depth, in the order of the text."""

    classes: tuple[str, ...]
    functions: tuple[FunctionOutline, ...]


def outline(tree: ast.Module) -> Outline:
    """All classes and functions of a module at any depth, in the order of the text."""
    classes: list[str] = []
    functions: list[FunctionOutline] = []
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        node, prefix = pending.pop()
        inner = prefix
        if isinstance(node, _SCOPES):
            name = prefix + node.name
            inner = name + "."
            if isinstance(node, ast.ClassDef):
                classes.append(name)
            else:
                functions.append(FunctionOutline(name, node.lineno, complexity(node)))
        pending.extend((child, inner) for child in reversed(list(ast.iter_child_nodes(node))))
    return Outline(tuple(classes), tuple(functions))


def complexity(function: Function) -> int:
    """One plus the number of places where the path can fork; functions inside count for themselves."""
    return 1 + sum(_forks(node) for node in _own_nodes(function))


def _forks(node: ast.AST) -> int:
    if isinstance(node, _BRANCHES):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.match_case):
        irrefutable = isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None and node.guard is None
        return 0 if irrefutable else 1
    return 0


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, _SCOPES):
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))
