"""The key space: order of bytes is order of numbers, prefixes end where they should, the register is
complete."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import statemachine
from statemachine import keys, limits


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_bytewise_order_is_numeric_order(a: int, b: int) -> None:
    assert (keys.u64(a) < keys.u64(b)) == (a < b)
    assert keys.from_u64(keys.u64(a)) == a


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=6).map(lambda tail: b"K" + tail), st.binary(max_size=6), st.binary(max_size=8))
def test_end_of_a_prefix_parts_what_begins_with_it_from_what_comes_after(
    prefix: bytes, tail: bytes, other: bytes
) -> None:
    end = keys.end_of(prefix)
    assert prefix <= prefix + tail < end
    if other >= prefix and not other.startswith(prefix):
        assert other >= end


def test_no_name_is_the_beginning_of_another() -> None:
    assert not keys.name("ab").startswith(keys.name("a"))
    assert keys.end_of(keys.name("a")) <= keys.name("ab")


def test_order_numbers_grow_with_revision_and_position_and_fit_eight_bytes() -> None:
    numbers = [keys.order_number(revision, position) for revision in (1, 2, 2**53) for position in (0, 1, 1_023)]
    assert numbers == sorted(set(numbers))
    assert keys.from_u64(keys.u64(numbers[-1])) == numbers[-1]
    assert limits.BATCH_ITEMS_MAX <= 1_024


def test_the_longest_id_fits_a_key() -> None:
    longest = b"j" + keys.u32(1) + keys.name("x" * limits.ID_BYTES_MAX) + keys.u64(1) * 3
    assert len(longest) <= limits.KEY_BYTES_MAX


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Exception, match="format requires"):
        keys.u32(2**32)


def test_every_table_in_the_code_is_in_the_register() -> None:
    """A table is a literal of one letter that begins a key; two nouns under one letter would overwrite each
    other."""
    used: set[bytes] = set()
    package = Path(statemachine.__file__).parent
    for path in sorted(package.glob("*.py")):
        if path.name == "keys.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes) and len(node.value) == 1:
                used |= {node.value} if node.value.isalpha() else set()
    assert {b"J", b"j", b"E", b"e", b"C", b"I"} <= used
    assert used <= set(keys.TABLES)
    assert all(len(table) == 1 for table in keys.TABLES)
    assert len(set(keys.TABLES.values())) == len(keys.TABLES)
