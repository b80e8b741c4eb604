"""Patterns of paths against brute force: every path over a small alphabet, matched by the plainest matcher there is."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statemachine import globs, limits

TEXTS = tuple("".join(letters) for size in (1, 2, 3) for letters in product("ab", repeat=size))
PATHS = tuple(
    path
    for count, texts in ((0, TEXTS), (1, TEXTS), (2, TEXTS), (3, ("a", "b", "ab")))
    for path in product(texts, repeat=count)
)

atoms = st.sampled_from(["a", "b", "?", "*", "[ab]", "[!a]", "[a-b]", "[b]", "\\a"])
segments = st.one_of(
    st.just("**"), st.lists(atoms, min_size=1, max_size=3).map("".join).filter(lambda text: "**" not in text)
)
patterns = st.lists(segments, min_size=1, max_size=3).map("/".join)


def text_matches(pattern: str, text: str) -> bool:
    """One segment of the alphabet `ab`, character by character."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return text_matches(pattern[1:], text) or (bool(text) and text_matches(pattern, text[1:]))
    sets = {"?": "ab", "[ab]": "ab", "[a-b]": "ab", "[!a]": "b", "[b]": "b", "\\a": "a", "a": "a", "b": "b"}
    head = next(one for one in sets if pattern.startswith(one))
    return bool(text) and text[0] in sets[head] and text_matches(pattern[len(head) :], text[1:])


def path_matches(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Segment by segment."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return path_matches(pattern[1:], path) or (bool(path) and path_matches(pattern, path[1:]))
    return bool(path) and text_matches(pattern[0], path[0]) and path_matches(pattern[1:], path[1:])


def overlap(a: str, b: str) -> bool:
    return globs.overlap(globs.parse(a), globs.parse(b))


def of(pattern: str) -> set[tuple[str, ...]]:
    parts = tuple(pattern.split("/"))
    return {path for path in PATHS if path_matches(parts, path)}


@settings(derandomize=True, deadline=None, max_examples=400)
@given(patterns, patterns)
@example("**", "a/b")
@example("a/**", "a")
@example("**/a", "a/**")
@example("*a", "b*")
@example("a*b", "?")
@example("[!a]/**/b", "b/a/?")
def test_against_every_path(a: str, b: str) -> None:
    found = overlap(a, b)
    assert found == overlap(b, a)
    if of(a) & of(b):
        assert found
    elif len(a.split("/")) + len(b.split("/")) <= 3 and "*" not in a + b:
        # Without repetition the paths at hand are all there are.
        assert not found


@settings(derandomize=True, deadline=None, max_examples=300)
@given(patterns, st.sampled_from([path for path in PATHS if path]))
def test_a_plain_path_overlaps_what_matches_it(pattern: str, path: tuple[str, ...]) -> None:
    """For a plain path brute force is exact."""
    assert overlap(pattern, "/".join(path)) == path_matches(tuple(pattern.split("/")), path)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(patterns)
def test_every_pattern_overlaps_itself_and_everything(pattern: str) -> None:
    assert overlap(pattern, pattern)
    assert overlap(pattern, "**")


DISJOINT = [
    ("src/a.py", "src/b.py"),
    ("src", "src/a.py"),
    ("src/*", "src"),
    ("src/*", "src/a/b"),
    ("*.py", "*.md"),
    ("a*c", "a*d"),
    ("x[0-4]*", "x[5-9]*"),
    ("**/a/*", "b/b"),
    ("**/test_*.py", "**/conf*.py"),
    ("a/**/b", "a/**/c"),
    ("Src/**", "src/**"),
    ("\\*", "a"),
    ("[!a-z]?", "a*"),
    ("a?", "a"),
]
OVERLAPPING = [
    ("src/**", "src"),
    ("src/**", "src/a/b.py"),
    ("**/*.py", "src/**"),
    ("a*c", "*b*"),
    ("x[0-5]", "x[5-9]"),
    ("**/a/**", "b/**/b"),
    ("*", "?"),
    ("\\*", "[*]"),
    ("[]]", "]"),
    ("[a-]", "-"),
    ("é*", "[à-ü]?"),
    ("{a,b}", "{a,b}"),
]


@pytest.mark.parametrize(("a", "b"), DISJOINT)
def test_no_path_in_common(a: str, b: str) -> None:
    assert not overlap(a, b)
    assert not overlap(b, a)


@pytest.mark.parametrize(("a", "b"), OVERLAPPING)
def test_a_path_in_common(a: str, b: str) -> None:
    assert overlap(a, b)
    assert overlap(b, a)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "empty"),
        ("/etc/passwd", "begin or end"),
        ("src/", "begin or end"),
        ("a//b", "empty segment"),
        (".", ". or .."),
        ("a/../b", ". or .."),
        ("a/\\./b", ". or .."),
        ("a/b**", "whole segment"),
        ("***", "whole segment"),
        ("a/[bc", "close each ["),
        ("a/[b/c]", "close each ["),
        ("a/[]", "close each ["),
        ("[z-a]", "empty range"),
        ("[^a]", "[!…]"),
        ("[! -\U0010ffff]", "without characters"),
        ("[! -\U0010ffff\\", "backslash"),
        ("a\\", "backslash"),
        ("a\nb", "control"),
        ("a\x7fb", "control"),
        ("a" * (limits.LOCK_PATH_BYTES_MAX + 1), "bytes"),
        ("é" * (limits.LOCK_PATH_BYTES_MAX // 2 + 1), "bytes"),
        ("a/" * limits.LOCK_SEGMENTS_MAX + "a", "segments"),
        ("*a" * (limits.LOCK_WILDCARDS_MAX + 1), "wildcards"),
    ],
)
def test_bad_patterns_are_refused(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r".*") as refused:
        globs.parse(text)
    assert wrong in str(refused.value)


def test_the_prefix_is_what_comes_before_the_first_wildcard() -> None:
    assert globs.parse("src/a\\*/b?/c").prefix == ("src", "a*")
    assert globs.parse("src/a.py").plain
    assert globs.parse("**/a").prefix == ()
