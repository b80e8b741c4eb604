"""The OpenAPI document is the route table, and says of every route what there is to say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from node.api.body import Body, NoBody
from node.api.openapi import document_of
from node.api.query import Query, WriteQuery
from node.api.reply import Reply
from node.api.request import Request
from node.api.reserved import RESERVED
from node.api.route import Route, Router
from node.api.routes import ROUTES, make_router
from statemachine import names
from tests.node.harness import Node, with_node


def document() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(document_of(ROUTES, "0.1.0"))
    return parsed


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = document()["paths"]
    return [
        (method.upper(), path, operation) for path, methods in paths.items() for method, operation in methods.items()
    ]


def test_it_lists_exactly_the_route_table() -> None:
    assert sorted((method, path) for method, path, _ in operations()) == sorted(
        (route.method, route.path) for route in ROUTES
    )


def test_it_is_served_as_it_is_made() -> None:
    async def test(node: Node) -> None:
        served = await node.get("/api/openapi.json")
        assert served.headers["Content-Type"] == "application/json"
        assert served.json == document()
        assert served.json["openapi"].startswith("3.1.")

    with_node(test)


def test_every_operation_is_complete() -> None:
    seen: set[str] = set()
    for method, path, operation in operations():
        assert operation["summary"], path
        assert "x-permission" in operation
        assert operation["operationId"] not in seen
        seen.add(operation["operationId"])
        parameters = {(parameter["in"], parameter["name"]) for parameter in operation["parameters"]}
        assert len(parameters) == len(operation["parameters"])
        for segment in path.split("/"):
            if segment.startswith("{"):
                assert ("path", segment[1:-1]) in parameters
        for status, response in operation["responses"].items():
            assert response.get("$ref") == "#/components/responses/Problem" or response["content"], (
                method,
                path,
                status,
            )
        assert any(status.startswith("2") for status in operation["responses"])
        if method in ("POST", "PATCH", "PUT"):
            assert "requestBody" in operation


def test_every_reference_leads_somewhere() -> None:
    whole = document()

    def check(value: Any) -> int:
        if isinstance(value, dict):
            found = sum(check(item) for item in value.values())
            if isinstance(reference := value.get("$ref"), str):
                target: Any = whole
                for part in reference.removeprefix("#/").split("/"):
                    target = target[part]
                return found + 1
            return found
        return sum(check(item) for item in value) if isinstance(value, list) else 0

    assert check(whole) > len(ROUTES)


def test_parameters_are_never_null_and_keep_their_limits() -> None:
    listed = document()["paths"]["/api/sessions"]["get"]["parameters"]
    by_name = {parameter["name"]: parameter for parameter in listed}
    assert by_name["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert by_name["min_revision"]["schema"]["type"] == "integer"
    assert by_name["updated_since"]["schema"] == {"type": "string", "format": "date-time"}
    assert by_name["status"]["explode"] is False
    assert "null" not in json.dumps([parameter["schema"] for parameter in listed])


def test_routes_that_write_take_write_queries_and_bodies_refuse_unknown_fields() -> None:
    for route in ROUTES:
        assert issubclass(route.query, Query)
        if route.method == "GET":
            assert route.body is NoBody
        else:
            assert issubclass(route.query, WriteQuery), route.path
            assert route.body.__struct_config__.forbid_unknown_fields, route.path


def test_verbs_of_routes_are_no_ids() -> None:
    """Where a word stands in the place of an id, it is a verb, and `names.check_id` refuses it."""
    beside: dict[str, set[str]] = {}
    for path in [route.path for route in ROUTES] + [path for _, path, _ in RESERVED]:
        parent, _, last = path.rpartition("/")
        beside.setdefault(parent, set()).add(last)
    for parent, children in beside.items():
        if any(child.startswith("{") for child in children):
            words = {child for child in children if not child.startswith("{") and child != "**"}
            assert words <= names.VERBS, (parent, words - names.VERBS)


async def _nothing(_: Request[Any, Any]) -> Reply:
    return Reply(b"")


def test_the_router() -> None:
    routes = (
        Route("GET", "/api/things/{thing_id}", _nothing, "one", ""),
        Route("POST", "/api/things/batch", _nothing, "batch", ""),
        Route("GET", "/api/things/{thing_id}/parts/{part_id}", _nothing, "part", ""),
    )
    router = Router(routes)
    assert router.find("GET", "/api/things/t1") == (routes[0], {"thing_id": "t1"})
    assert router.find("HEAD", "/api/v1/things/t%3A1") == (routes[0], {"thing_id": "t:1"})
    assert router.find("POST", "/api/things/batch") == (routes[1], {})
    assert router.find("GET", "/api/things/t1/parts/p1") == (routes[2], {"thing_id": "t1", "part_id": "p1"})
    with pytest.raises(AssertionError, match="two routes"):
        Router((routes[0], routes[0]))
    with pytest.raises(AssertionError, match="is called"):
        Router((routes[0], Route("GET", "/api/things/{other}/x", _nothing, "", "")))


def test_every_route_can_be_found() -> None:
    router = make_router()
    for route in ROUTES:
        path = "/".join("x1" if segment.startswith("{") else segment for segment in route.path.split("/"))
        assert router.find(route.method, path)[0] is route


class Strict(Body):
    """A body."""

    x: int = 0


def test_a_document_can_be_made_of_any_table() -> None:
    routes = (Route("POST", "/a", _nothing, "a", "", query=WriteQuery, body=Strict, reply=Strict, statuses=(200, 201)),)
    made = json.loads(document_of(routes, "9"))
    assert set(made["paths"]["/a"]["post"]["responses"]) == {"200", "201", "default"}
    assert made["components"]["schemas"]["Strict"]["additionalProperties"] is False
