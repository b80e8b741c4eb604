"""Routes of projects, the name spaces that every resource lives in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from cluster.replica import View
from node.api import ids
from node.api.body import Body
from node.api.ids import Id
from node.api.pages import Page, page, position_of
from node.api.query import ListQuery, ReadQuery, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import NOWHERE, Request
from node.api.route import Route
from node.api.times import text
from node.api.writes import write
from statemachine import projects
from statemachine.commands import CreateProject
from statemachine.outcome import Item
from statemachine.records import Project

_KIND = "projects"


class NewProject(Body):
    """`POST /api/projects`."""

    project: Id


class ProjectView(msgspec.Struct):
    """A project."""

    project: str
    created_at: str
    revision: int
    created_revision: int


def project_view(project: Project) -> ProjectView:
    """A project as shown."""
    return ProjectView(project.name, text(project.created_at), project.revision, project.created_revision)


def _shown(view: View, item: Item) -> ProjectView | None:
    project = projects.find(view, item.resource_id)
    return None if project is None else project_view(project)


async def create_project(request: Request[WriteQuery, NewProject]) -> Reply:
    """Make a project; one that exists already is answered with 200."""
    request.project = ids.check("project", request.body.project)
    return await write(request, CreateProject(), _shown, "/api/projects/")


async def list_projects(request: Request[ListQuery, Any]) -> Reply:
    """All projects, newest first. `default` is always among them."""
    after = position_of(request, _KIND)
    with request.view() as view:
        rows = _rows(view, after, ascending=request.query.order == "asc")
        return page(request, _KIND, rows, project_view, ProjectView)


def _rows(view: View, after: int | None, *, ascending: bool) -> Iterator[tuple[int, Project]]:
    """Project numbers count from 1 in order of creation; 0 stands for a `default` that nobody used yet."""
    found = [(project.number, project) for project in projects.scan(view)]
    if projects.find(view, projects.DEFAULT_PROJECT) is None:
        found.insert(0, (0, Project(NOWHERE, projects.DEFAULT_PROJECT, 0, 0, 0)))
    for number, project in found if ascending else reversed(found):
        if after is None or (number > after if ascending else number < after):
            yield number, project


async def get_project(request: Request[Any, Any]) -> Reply:
    """One project."""
    request.project = request.parameters["project"]
    with request.view() as view:
        project = request.require_project(view)
        return json_reply(project_view(project))


ROUTES = (
    Route(
        "POST", "/api/projects", create_project, "Make a project", "projects:write",
        query=WriteQuery, body=NewProject, reply=ProjectView, statuses=(201, 200),
    ),
    Route(
        "GET", "/api/projects", list_projects, "List projects", "projects:read",
        query=ListQuery, reply=Page[ProjectView],
    ),
    Route(
        "GET", "/api/projects/{project}", get_project, "One project", "projects:read",
        query=ReadQuery, reply=ProjectView,
    ),
)  # fmt: skip
