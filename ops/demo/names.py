"""Which names a module imports, uses, defines and exports."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_BLOCKS = (ast.If, ast.Try, ast.TryStar, ast.With, ast.For, ast.While)


def imported_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names bound by imports with their lines; `import a.b` binds `a`. Re-exports (`import a as a`) are left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if alias.name not in {"*", alias.asname}:
                    yield alias.asname or alias.name.split(".")[0], node.lineno


def used_names(tree: ast.Module) -> set[str]:
    """Names that are read anywhere, also in annotations that are written as strings."""
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used.add(node.id)
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if annotation is not None:
                used |= _names_in_strings(annotation)
    return used


def _names_in_strings(annotation: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                expression = ast.parse(node.value, mode="eval")
            except (SyntaxError, ValueError):
                continue
            names |= {inner.id for inner in ast.walk(expression) if isinstance(inner, ast.Name)}
    return names


def exported_names(tree: ast.Module) -> dict[str, int]:
    """The strings in `__all__` with their lines."""
    exported: dict[str, int] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets) and isinstance(
            value, ast.List | ast.Tuple
        ):
            for item in value.elts:
                if isinstance(item, ast.Constant) and isinstance(item.value, str):
                    exported[item.value] = item.lineno
    return exported


def module_names(tree: ast.Module) -> set[str]:
    """Names bound at module level, also under `if`, `try` and `with`; `*` stands for a star import."""
    names: set[str] = set()
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        statement = pending.pop()
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in statement.names}
        else:
            if isinstance(statement, _BLOCKS):
                pending += _inner_statements(statement)
            names |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return names


def _inner_statements(block: ast.stmt) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(block):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, ast.ExceptHandler):
            yield from child.body
