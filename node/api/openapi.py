"""The OpenAPI 3.1 document, made from the route table and the types that parse the requests."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from node.api import problem
from node.api.body import NoBody
from node.api.ids import Id
from node.api.query import Query, WriteQuery
from node.api.reply import encode
from node.api.route import Route
from node.api.times import TimeMs

_COMPONENTS = "#/components/schemas/"
_WRITE_HEADERS: tuple[tuple[str, str], ...] = (
    ("Idempotency-Key", "1 to 128 characters: the write happens once, however often it is repeated under this key"),
    ("Idempotency-Ttl-Ms", "how long the key is remembered; 24 hours unless shortened"),
    ("Hive-Fence", "task/<id>/<attempt>, agent/<id>/<epoch> or lock/<id>/<token>: refused when no longer current"),
)
_REPLY_HEADERS: tuple[tuple[str, str], ...] = (
    ("Hive-Revision", "the revision that the answer reflects"),
    ("Hive-Cluster", "the cluster's id"),
    ("Hive-Group", "the Raft group"),
    ("Hive-Node", "the node that answered"),
    ("Hive-Run", "changes with every start of the node"),
    ("Hive-Leader", "who leads, empty if unknown"),
    ("Hive-Lag-Ms", "how old the node's state may be"),
    ("Hive-Consistency", "the consistency given"),
    ("Hive-Request-Id", "the request's id"),
)


class FieldProblem(msgspec.Struct):
    """What is wrong where."""

    path: str
    message: str


class ProblemDocument(msgspec.Struct):
    """RFC 9457; further members depend on the code."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retry: typing.Literal["no", "safe", "same_key"]
    errors: list[FieldProblem] | None = None
    current: Any = None
    retry_after_ms: int | None = None


@lru_cache(maxsize=2)
def document_of(routes: Sequence[Route], version: str) -> bytes:
    """The document's JSON."""
    types: list[Any] = [ProblemDocument]
    for route in routes:
        types.extend(kind for kind in (route.body, route.reply) if kind is not None and kind is not NoBody)
    unique = list({repr(kind): kind for kind in types}.values())
    schemas, components = msgspec.json.schema_components(
        unique, schema_hook=schema_of, ref_template=_COMPONENTS + "{name}"
    )
    by_type = {repr(kind): schema for kind, schema in zip(unique, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Hive",
                "version": version,
                "description": "Coordination store for fleets of AI coding agents. /api/v1 is an alias of /api.",
            },
            "paths": paths,
            "components": {
                "schemas": components,
                "responses": {"Problem": _problem_response(by_type)},
                "headers": {name: {"description": what, "schema": {"type": "string"}} for name, what in _REPLY_HEADERS},
            },
        }
    )


def schema_of(kind: type[Any]) -> dict[str, Any]:
    """Schemas of types of ours."""
    if kind is TimeMs:
        return {"type": "string", "format": "date-time"}
    if issubclass(kind, msgspec.Raw):
        return {}
    raise NotImplementedError(f"{kind.__name__} has no schema")


def _operation(route: Route, by_type: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.handler.__name__}_{route.path.strip('/').replace('/', '_')}".translate(_PLAIN),
        "summary": route.summary,
        "x-permission": route.permission,
        "parameters": [*_path_parameters(route), *_query_parameters(route.query), *_header_parameters(route)],
        "responses": {str(status): _success(route, by_type) for status in route.statuses}
        | {"default": {"$ref": "#/components/responses/Problem"}},
    }
    if route.method not in ("GET", "DELETE") or route.body is not NoBody:
        operation["requestBody"] = {
            "required": route.body is not NoBody and any(f.required for f in msgspec.structs.fields(route.body)),
            "content": {"application/json": {"schema": by_type.get(repr(route.body), {"type": "object"})}},
        }
    return operation


_PLAIN = str.maketrans({"{": None, "}": None, "-": "_", ".": "_"})


def _success(route: Route, by_type: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "string"} if route.reply is None else by_type[repr(route.reply)]
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name, _ in _REPLY_HEADERS}
    return {"description": route.summary, "headers": headers, "content": {route.content_type: {"schema": schema}}}


def _problem_response(by_type: dict[str, Any]) -> dict[str, Any]:
    codes = ", ".join(f"{kind.status} {code}" for code, kind in problem.KINDS.items())
    return {
        "description": f"A problem document. Codes: {codes}",
        "content": {problem.CONTENT_TYPE: {"schema": by_type[repr(ProblemDocument)]}},
    }


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = [segment[1:-1] for segment in route.path.split("/") if segment.startswith("{")]
    schema = msgspec.json.schema(Id)
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    headers: list[tuple[str, str]] = [] if route.plain else [("Hive-Project", "the project; `default` if absent")]
    if issubclass(route.query, WriteQuery):
        headers.extend(_WRITE_HEADERS)
    return [
        {"name": name, "in": "header", "required": False, "description": what, "schema": {"type": "string"}}
        for name, what in headers
    ]


def _query_parameters(kind: type[Query]) -> list[dict[str, Any]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    parameters = []
    for field in msgspec.structs.fields(kind):
        hint = hints[field.name]
        schema = msgspec.json.schema(Annotated[hint, msgspec.Meta()], schema_hook=schema_of)
        # An optional parameter is left out, never null.
        variants = [variant for variant in schema.pop("anyOf", []) if variant != {"type": "null"}]
        schema.pop("default", None)
        schema = variants[0] if len(variants) == 1 else schema | ({"anyOf": variants} if variants else {})
        description = schema.pop("description", "")
        if field.default is not msgspec.NODEFAULT and field.default not in (None, ()):
            schema["default"] = field.default
        parameter: dict[str, Any] = {"name": field.encode_name, "in": "query", "required": False, "schema": schema}
        if description:
            parameter["description"] = description
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        parameters.append(parameter)
    return parameters
