from __future__ import annotations

import textwrap

import pytest

from ops.demo.lint import LINE_CHARACTERS_MAX, lint
from ops.demo.source import parse_source


def codes(text: str, path: str = "a.py") -> list[tuple[int, str]]:
    found = lint(parse_source(path, textwrap.dedent(text).encode()))
    return [(finding.line, finding.code) for finding in found]


FINDINGS = [
    ("import os\n", [(1, "unused-import")]),
    ("import os.path as p\nfrom a import b, c\nprint(c)\n", [(1, "unused-import"), (2, "unused-import")]),
    ("try:\n    f()\nexcept:\n    pass\n", [(3, "bare-except")]),
    ("def f(a=[]): ...\n", [(1, "mutable-default")]),
    ("def f(*, a={}): ...\n", [(1, "mutable-default")]),
    ("g = lambda a=[]: a\n", [(1, "mutable-default")]),
    ("__all__ = ['f', 'g']\ndef f(): ...\n", [(1, "undefined-export")]),
    ("def f(list): ...\n", [(1, "shadowed-builtin")]),
    ("class id: ...\n", [(1, "shadowed-builtin")]),
    ("x = 1\nif x == None: ...\n", [(2, "none-comparison")]),
    ("def f():\n    return 1\n    g()\n", [(3, "unreachable-code")]),
    ("while True:\n    break\n    g()\n", [(3, "unreachable-code")]),
    ("d = {'a': 1, 'b': 2, 'a': 3}\n", [(1, "duplicate-key")]),
    ("x = '" + "y" * LINE_CHARACTERS_MAX + "'\n", [(1, "line-too-long")]),
    ("def f(:\n", [(0, "syntax-error")]),
]

CLEAN = [
    "import os\nprint(os.sep)\n",
    "import a.b\na.b.c()\n",
    "from __future__ import annotations\n",
    "import os as os\n",
    "import os\ndef f(x: 'os.PathLike[str]') -> 'os.PathLike[str]': ...\n",
    "import os\n__all__ = ['os']\n",
    "try:\n    f()\nexcept Exception:\n    pass\n",
    "def f(a=(), b=None): ...\n",
    "from a import *\n__all__ = ['f']\n",
    "if True:\n    def f(): ...\nelse:\n    f = 1\n__all__ = ['f']\n",
    "try:\n    import a\nexcept ImportError:\n    a = None\n__all__ = ['a']\nprint(a)\n",
    "class A:\n    def list(self): ...\n",
    "x = 1\nif x is None: ...\n",
    "def f():\n    if g():\n        return 1\n    return 2\n",
    "d = {1: 'a', True: 'b', 1.0: 'c'}\n",
    "x = '" + "y" * (LINE_CHARACTERS_MAX - 6) + "'\n",
]


@pytest.mark.parametrize(("text", "expected"), FINDINGS)
def test_findings(text: str, expected: list[tuple[int, str]]) -> None:
    assert codes(text) == expected


@pytest.mark.parametrize("text", CLEAN)
def test_no_false_alarm(text: str) -> None:
    assert codes(text) == []


def test_imports_of_a_package_are_its_face() -> None:
    assert codes("from a import b\n", "p/__init__.py") == []


def test_findings_are_ordered_by_line() -> None:
    found = codes("import os\ntry:\n    f()\nexcept:\n    pass\nimport re\n")
    assert found == [(1, "unused-import"), (4, "bare-except"), (6, "unused-import")]
