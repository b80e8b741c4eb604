"""PATCH of a task: a merge patch, whose open objects are merged here."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster.replica import View
from node.api.body import merge_patch, open_object
from node.api.problem import Problem, too_large
from node.api.query import WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.task_bodies import TaskPatch, check_labels, labels_of, priority_number
from node.api.task_views import shown_item
from node.api.writes import gone, propose, refusal_of, replay_headers
from statemachine import limits, projects, task_record
from statemachine.commands import UpdateTask
from statemachine.outcome import Outcome
from statemachine.task_record import Task

MERGE_TRIES_MAX = 8
_PLAIN_FIELDS = ("priority", "deadline", "not_before", "queue")
_MERGED_FIELDS = ("labels", "metadata")


async def patch_task(request: Request[WriteQuery, TaskPatch]) -> Reply:
    """Change priority, labels, metadata, deadline, not_before or queue of a task."""
    patch = request.body
    values: dict[str, Any] = {
        name: getattr(patch, name) for name in _PLAIN_FIELDS if getattr(patch, name) is not msgspec.UNSET
    }
    if "priority" in values:
        values["priority"] = priority_number(values["priority"])
    outcome = await _update(request, values)
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    item = outcome.items[0]
    with request.view() as view:
        body = shown_item(request, view, item)
    if body is None:
        return json_reply(gone(item), 200, replay_headers(outcome))
    if outcome.replayed:
        body.revision = item.revision
    return json_reply(body, 200, replay_headers(outcome))


async def _update(request: Request[WriteQuery, TaskPatch], values: dict[str, Any]) -> Outcome:
    """Merge here, write on condition that nobody wrote meanwhile, and begin again if somebody did.

    Every try has a place of its own under the Idempotency-Key: a repeat walks through the same refusals to the same
    end.
    """
    patch, task_id = request.body, request.parameters["task_id"]
    patches = {
        "labels": labels_of(patch.labels, "labels"),
        "metadata": open_object(patch.metadata, "metadata", "metadata_bytes_max", limits.METADATA_BYTES_MAX),
    }
    merged_names = [name for name in _MERGED_FIELDS if bytes(getattr(patch, name))]
    fields = (*values, *merged_names)
    for attempt in range(MERGE_TRIES_MAX):
        revision = patch.if_revision
        merged: dict[str, Any] = {}
        if merged_names:
            with request.view() as view:
                task = _find(request, view, task_id)
                merged = {name: _merge(view, task, name, patches[name]) for name in merged_names}
            if revision is None and task is not None:
                revision = task.revision
        command = UpdateTask(task_id, fields, if_revision=revision, **values, **merged)
        outcome = (await propose(request, command, first_position=attempt))[0]
        if patch.if_revision is not None or not merged_names or not _was_overtaken(outcome):
            return outcome
    raise Problem("conflict", f"task {task_id!r} is changed too often; try again", revision=request.revision)


def _find(request: Request[Any, Any], view: View, task_id: str) -> Task | None:
    project = projects.find(view, request.project)
    return None if project is None else task_record.find(view, project.number, task_id)


def _merge(view: View, task: Task | None, name: str, patch: bytes | None) -> bytes | None:
    if patch is None:
        return None
    old = None
    if task is not None:
        old = task.labels if name == "labels" else task_record.json_body(view, task, name)
    merged = merge_patch(old, patch)
    if merged is not None and len(merged) > limits.METADATA_BYTES_MAX:
        raise too_large("metadata_bytes_max", limits.METADATA_BYTES_MAX, name)
    if merged is not None and name == "labels":
        check_labels(merged, name)
    return merged


def _was_overtaken(outcome: Outcome) -> bool:
    """Whether somebody else wrote first; the same for the first run and for its repeats."""
    refusal = outcome.refusal
    if refusal is None or refusal.code != "conflict":
        return False
    return refusal.current is not None and "revision" in refusal.current
