"""The small parsers at the edge: times, bodies, lenient twins, query strings, merge patches."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.api import times
from node.api.body import Body, Count, OpenObject, Parser, absent, merge_patch
from node.api.problem import Problem, from_refusal
from node.api.query import REPEATED, Query, QueryParser
from node.api.times import TIME_MS_MAX, TimeMs
from statemachine.outcome import Refusal


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01T00:00:00.5Z", 1_767_225_600_500),
        ("2026-01-01T00:00:00.123456Z", 1_767_225_600_123),
        ("2026-01-01T02:00:00+02:00", 1_767_225_600_000),
        ("2025-12-31T18:30:00.001-05:30", 1_767_225_600_001),
        ("9999-12-31T23:59:59.999Z", TIME_MS_MAX),
    ],
)
def test_times(text: str, time_ms: int) -> None:
    parsed = times.parse(text)
    assert parsed == time_ms
    assert type(parsed) is int
    assert times.parse(times.text(time_ms)) == time_ms


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", 5, None, "5"],
)
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        times.parse(text)


@given(st.integers(0, TIME_MS_MAX))
def test_times_go_out_and_come_back(time_ms: int) -> None:
    assert times.parse(times.text(time_ms)) == time_ms


class Part(Body):
    """A nested part."""

    name: str
    weight: Annotated[int, msgspec.Meta(ge=0)] = 0


class Whole(Body):
    """A body with everything that nests."""

    part: Part | None = None
    parts: list[Part] = []
    many: Annotated[list[Part], msgspec.Meta(max_length=3)] = []
    at: TimeMs | None = None
    open: OpenObject = absent()
    kind: Literal["a", "b"] = "a"


def problem_of(parser: Parser, raw: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        parser.parse(raw)
    return caught.value


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b'{"x": 1}', "x"),
        (b'{"part": {"name": "a", "x": 1}}', "part.x"),
        (b'{"part": {}}', "part.name"),
        (b'{"parts": [{"name": "a"}, {"name": 5}]}', "parts[1].name"),
        (b'{"parts": [{"name": "a", "weight": -1}]}', "parts[0].weight"),
        (b'{"many": [{}, {}, {}, {}]}', "many[0].name"),
        (b'{"at": "x"}', "at"),
        (b'{"kind": "c"}', "kind"),
        (b"5", ""),
    ],
)
def test_errors_name_their_path(raw: bytes, path: str) -> None:
    for parser in (Parser(Whole), Parser(Whole, lenient=True)):
        if parser._lenient is not None and raw.endswith((b'"x": 1}', b'"x": 1}}')):
            continue
        error = problem_of(parser, raw)
        assert (error.code, [found.path for found in error.errors]) == ("invalid_request", [path])


def test_lenient_bodies_ignore_unknown_fields_and_name_them() -> None:
    raw = (
        b'{"x": 1, "part": {"name": "a", "y": {"z": 1}}, '
        b'"parts": [{"name": "b"}, {"name": "c", "w": 0}], "open": {"v": 1}}'
    )
    value, ignored = Parser(Whole, lenient=True).parse(raw)
    assert isinstance(value, Whole)
    assert ignored == ["x", "part.y", "parts[1].w"]
    assert value.part is not None
    assert (value.part.name, [part.name for part in value.parts]) == ("a", ["b", "c"])
    assert bytes(value.open) == b'{"v": 1}'
    assert Parser(Whole, lenient=True).parse(b'{"kind": "b"}')[1] == []


def test_lenient_bodies_still_refuse_what_is_wrong() -> None:
    error = problem_of(Parser(Whole, lenient=True), b'{"x": 1, "parts": [{"name": 5, "y": 1}]}')
    assert error.errors[0].path == "parts[0].name"


class Search(Query, kw_only=True):
    """A query with everything that queries have."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    live: bool = False
    since: TimeMs | None = None
    status: tuple[Literal["a", "b"], ...] = ()
    label: Annotated[tuple[str, ...], REPEATED] = ()
    least: Count | None = None


def test_queries() -> None:
    parser = QueryParser(Search)
    assert parser.parse("") == Search()
    assert parser.parse("limit=7&live=true&status=a,b&status=a&label=x%3D1,2&label=y&least=0") == Search(
        limit=7, live=True, status=("a", "b", "a"), label=("x=1,2", "y"), least=0
    )
    assert parser.parse("since=2026-01-01T00%3A00%3A00Z&&").since == 1_767_225_600_000
    assert parser.parse("status=").status == ()
    for text in (
        "limit=0",
        "limit=",
        "live=maybe",
        "status=c",
        "since=5",
        "x=1",
        "limit=1&limit=1",
        "%ff=1",
        "a&" * 101,
    ):
        with pytest.raises(Problem):
            parser.parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
json_objects = st.dictionaries(st.text(max_size=3), json_values, max_size=4)


def merged_by_the_book(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged_by_the_book(result.get(name), value)
    return result


@given(json_objects, json_objects)
def test_merge_patches_follow_the_rfc(target: dict[str, Any], patch: dict[str, Any]) -> None:
    result = merge_patch(json.dumps(target).encode(), json.dumps(patch).encode())
    assert json.loads(result or b"null") == merged_by_the_book(target, patch)


def test_refusals_become_problems() -> None:
    refusal = Refusal("sequence_mismatch", "it is 5", {"last_seq": 5, "expires_at": 0, "list": [{"granted_at": 1_000}]})
    error = from_refusal(refusal, 7)
    document = error.document("/x")
    assert (document["status"], document["last_seq"], error.revision) == (409, 5, 7)
    assert document["current"] == {
        "last_seq": 5,
        "expires_at": "1970-01-01T00:00:00.000Z",
        "list": [{"granted_at": "1970-01-01T00:00:01.000Z"}],
    }
    assert from_refusal(Refusal("made_up", "?"), 1).code == "internal"
