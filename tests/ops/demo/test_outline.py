from __future__ import annotations

import ast
import textwrap

import pytest

from ops.demo.outline import outline


def complexity_of(body: str) -> int:
    tree = ast.parse("def f(a, b, c):\n" + textwrap.indent(textwrap.dedent(body), "    "))
    return outline(tree).functions[0].complexity


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 1", 1),
        ("if a:\n    return 1\nreturn 2", 2),
        ("if a:\n    return 1\nelif b:\n    return 2\nelse:\n    return 3", 3),
        ("for x in a:\n    pass\nelse:\n    pass", 2),
        ("while a:\n    pass", 2),
        ("try:\n    pass\nexcept ValueError:\n    pass\nexcept OSError:\n    pass\nfinally:\n    pass", 3),
        ("return a and b and c", 3),
        ("return a if b else c", 2),
        ("return [x for x in a if x if b]", 4),
        ("assert a", 2),
        ("with a:\n    pass", 1),
        ("match a:\n    case 1:\n        pass\n    case 2:\n        pass\n    case _:\n        pass", 3),
        ("match a:\n    case x if b:\n        pass", 2),
        ("def g():\n    if a:\n        pass\nreturn g", 1),
        ("return lambda x: x or a", 2),
    ],
)
def test_complexity_counts_the_forks(body: str, expected: int) -> None:
    assert complexity_of(body) == expected


def test_names_are_qualified_and_in_the_order_of_the_text() -> None:
    text = """
    class A:
        def one(self): ...
        class B:
            async def two(self):
                def inner(): ...
    def three():
        if True:
            def four(): ...
    """
    found = outline(ast.parse(textwrap.dedent(text)))
    assert found.classes == ("A", "A.B")
    assert [f.name for f in found.functions] == ["A.one", "A.B.two", "A.B.two.inner", "three", "three.four"]
    assert [f.line for f in found.functions] == [3, 5, 6, 7, 9]


def test_deep_nesting_does_not_overflow() -> None:
    # The parser itself allows about 100 levels of blocks; expressions go deeper.
    tree = ast.parse("def f(a):\n    return " + " + ".join(["a"] * 900))
    assert outline(tree).functions[0].complexity == 1
