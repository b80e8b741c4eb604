"""Batches: many items in one request, each answered for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cluster.replica import View
from node.api.problem import FieldError, Problem, from_refusal
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.writes import replay_headers
from statemachine import limits
from statemachine.outcome import Item, Outcome, Refusal


class BatchItem(msgspec.Struct, omit_defaults=True):
    """What became of one item: its HTTP status and id; a refused one has the members of its problem document."""

    status: int
    id: str
    revision: int = 0
    body: msgspec.Struct | None = None
    code: str | None = None
    detail: str | None = None
    title: str | None = None
    retry: str | None = None
    errors: Any = None
    current: Any = None


class BatchReply(msgspec.Struct):
    """All items in the order of the request; `revision` is the last one the batch took."""

    revision: int
    items: list[BatchItem]
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET


def check_count(count: int, path: str = "items") -> None:
    """Refuse empty batches, and those over 1,000 items."""
    if count == 0:
        raise Problem("invalid_request", f"{path}: must not be empty", errors=(FieldError(path, "must not be empty"),))
    if count > limits.BATCH_ITEMS_MAX:
        raise Problem(
            "too_large",
            f"{path}: a batch may have {limits.BATCH_ITEMS_MAX} items, this one has {count}",
            errors=(FieldError(path, f"more than {limits.BATCH_ITEMS_MAX} items"),),
            limit_name="batch_items_max",
            limit_bytes=limits.BATCH_REQUEST_BYTES_MAX,
            limit_items=limits.BATCH_ITEMS_MAX,
        )


def batch_reply(
    request: Request[Any, Any],
    outcome: Outcome,
    ids: Sequence[str],
    render: Callable[[View, Item], Any] | None = None,
) -> Reply:
    """The reply to a command of many items; `ids` name the items, `render` makes bodies (for `return=full`)."""
    if render is None:
        items = [_batch_item(item, wanted) for item, wanted in zip(outcome.items, ids, strict=True)]
    else:
        with request.view() as view:
            items = [_batch_item(item, wanted) for item, wanted in zip(outcome.items, ids, strict=True)]
            for item, shown in zip(outcome.items, items, strict=True):
                if item.refusal is None:
                    shown.body = render(view, item)
    reply = BatchReply(outcome.revision, items, request.warnings or msgspec.UNSET)
    return json_reply(reply, 200, replay_headers(outcome))


def _batch_item(item: Item, wanted: str) -> BatchItem:
    if item.refusal is not None:
        return refused_batch_item(item.refusal, wanted)
    return BatchItem(item.status, item.resource_id or wanted, item.revision)


def refused_batch_item(refusal: Refusal, wanted: str) -> BatchItem:
    """A refused item, in the words of its problem."""
    problem = from_refusal(refusal, 0)
    kind, current, errors = problem.kind, problem.current, None
    if current is not None and "errors" in current:
        errors, current = current["errors"], None
    return BatchItem(
        kind.status,
        wanted,
        code=problem.code,
        detail=problem.detail,
        title=kind.title,
        retry=kind.retry,
        errors=errors,
        current=current,
    )
