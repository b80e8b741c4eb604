"""What every command that talks to a cluster shares: which cluster, which project, and how to print."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from hive_client import Client
from hive_client.models import Page, Record

from ops.edge import UsageError, guarded
from ops.output import print_fields, print_json, print_table

ENDPOINTS_VARIABLE = "HIVE_ENDPOINTS"

EndpointsOption = Annotated[
    str | None,
    typer.Option("--endpoints", envvar=ENDPOINTS_VARIABLE, help="Nodes, comma-separated. [default: 127.0.0.1:7400]"),
]
ProjectOption = Annotated[str | None, typer.Option("--project", envvar="HIVE_PROJECT", help="[default: default]")]
TimeoutOption = Annotated[float, typer.Option("--timeout-s", min=0.001, max=86_400, help="For one call, with retries.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class Globals:
    """Options given before the command's name; the same options after it win."""

    endpoints: str | None = None
    project: str | None = None
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Hive:
    """An open client and the way this command prints."""

    client: Client
    as_json: bool
    timeout_s: float

    def show(self, record: Record, names: Sequence[str]) -> None:
        """One resource: as the server sent it, or the named fields."""
        if self.as_json:
            print_json(record.raw)
        else:
            print_fields({name: record.raw.get(name) for name in names})

    def show_all(self, items: Sequence[Record], next_cursor: str | None, columns: Mapping[str, str]) -> None:
        """A list: as the API's page, or a table; `columns` maps heading to field."""
        if self.as_json:
            print_json({"items": [item.raw for item in items], "next_cursor": next_cursor})
            return
        print_table(list(columns), ([item.raw.get(name) for name in columns.values()] for item in items))
        if next_cursor is not None:
            typer.echo(f"more: --cursor {next_cursor} (or --all)", err=True)

    def show_page(self, page: Page[Any], columns: Mapping[str, str]) -> None:
        self.show_all(page.items, page.next_cursor, columns)


Body = Callable[..., Coroutine[Any, Any, None]]


def connected(function: Body) -> Callable[..., None]:
    """An async function of a `Hive` as a command that also has --endpoints, --project, --timeout-s and --json."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    @functools.wraps(function)
    def command(
        ctx: typer.Context,
        endpoints: str | None,
        project: str | None,
        timeout_s: float | None,
        as_json: bool,
        **own_values: Any,
    ) -> None:
        given = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
        timeout_s = timeout_s or given.timeout_s
        client = open_client(endpoints or given.endpoints, project or given.project, timeout_s)

        async def call() -> None:
            async with client:
                await function(Hive(client, as_json, timeout_s), **own_values)

        asyncio.run(call())

    shared = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        _keyword("endpoints", EndpointsOption, None),
        _keyword("project", ProjectOption, None),
        _keyword("timeout_s", Annotated[float | None, typer.Option("--timeout-s", min=0.001, max=86_400)], None),
        _keyword("as_json", JsonOption, False),
    ]
    # Typer reads the signature: the command's own parameters, then those that all commands share.
    parameters = [shared[0], *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *shared[1:]]
    outer = guarded(command)
    outer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
    outer.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return outer


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def open_client(endpoints: str | None, project: str | None, timeout_s: float) -> Client:
    """A client for these options. Raises UsageError for what is not an endpoint."""
    try:
        return Client(endpoints, project=project or "default", timeout_s=timeout_s)
    except ValueError as error:
        raise UsageError(str(error)) from error
