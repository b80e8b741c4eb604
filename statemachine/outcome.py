"""What the state machine answers to a command, and the codes it may refuse with."""

from __future__ import annotations

from typing import Any

import msgspec


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error of the program
    """A command (or item) is refused: nothing of it happens.

    `code` is one of API.md's error codes, `detail` one sentence for the user, `current` what stands in the
    way.
    """

    def __init__(self, code: str, detail: str, current: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.current = current


class Refusal(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A refusal as it is stored and sent: code, sentence, and `current` (JSON-able) or None."""

    code: str
    detail: str
    current: dict[str, Any] | None = None


class Item(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of one item of a command.

    `status` is the HTTP status of the item when accepted (200 or 201); `resource_id` what it made or touched;
    `numbers` what a repeat must see again (seqs, attempt, epoch; documented per command). Either `refusal` is
    None or nothing happened.
    """

    status: int
    resource_id: str = ""
    revision: int = 0
    numbers: tuple[int, ...] = ()
    refusal: Refusal | None = None


class Made(Item, array_like=True, frozen=True):
    """An item with the record as it left it, for whoever answers on this node: what is read later may be another
    writer's already. Never stored; large bodies of a task stand elsewhere all the same (`task_record.BODIES`)."""

    record: Any = None


def record_of(item: Item) -> Any:
    """The record of a `Made`, else None."""
    return item.record if type(item) is Made else None


class Outcome(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of a command: its items in order, or one refusal of the whole.

    `revision` is the last revision the command took, or the state's revision when it took none. This is what
    an idempotency record keeps, so it is small: resources are read from the state by whoever answers.
    """

    revision: int
    items: tuple[Item, ...] = ()
    refusal: Refusal | None = None
    replayed: bool = False


def stored(outcome: Outcome) -> Outcome:
    """The outcome as an idempotency record keeps it: without records."""
    if not any(type(item) is Made for item in outcome.items):
        return outcome
    items = [
        Item(item.status, item.resource_id, item.revision, item.numbers, item.refusal) for item in outcome.items
    ]
    return msgspec.structs.replace(outcome, items=tuple(items))


def refused(revision: int, error: Refused) -> Outcome:
    """The outcome of a command that was refused whole."""
    return Outcome(revision, refusal=Refusal(error.code, error.detail, error.current))


def accepted(item: Item) -> Outcome:
    """The outcome of a command with one item."""
    return Outcome(item.revision, (item,))
