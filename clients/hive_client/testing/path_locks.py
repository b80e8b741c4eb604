"""Locks on paths in the fake: which tasks hold some, and whose are in whose way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from hive_client.testing.problems import invalid
from hive_client.testing.task_state import TaskState

_ANY = ((0x20, 0x2E), (0x30, 0x10FFFF))
"""What ``?`` stands for."""

Ranges = tuple[tuple[int, int], ...]
Token = Ranges | None
"""One character of these, or None: any number of any."""


def hindrance(task: TaskState, others: Iterable[TaskState]) -> dict[str, Any] | None:
    """The reason of ``explain`` if others of the project hold what the task needs."""
    if not task.fields["locks"] or _holds(task):
        return None
    holders = [other for other in others if other is not task and other.fields["locks"] and _holds(other)]
    for lock in task.fields["locks"]:
        held_by = [
            {**_whole(held), "task_id": other.task_id, "agent_id": other.agent_id}
            for other in holders
            for held in other.fields["locks"]
            if (_whole(held)["exclusive"] or _whole(lock)["exclusive"]) and overlap(lock["path"], held["path"])
        ]
        if held_by:
            message = f"the lock on {lock['path']!r} is held by {held_by[0]['task_id']}"
            return {"code": "lock_held", "message": message, "data": {**_whole(lock), "held_by": held_by}}
    return None


def _holds(task: TaskState) -> bool:
    """From the grant until the task lets go of all, also while it waits and until it is started again."""
    return task.holder or (task.wait is not None and not task.ended)


def _whole(lock: dict[str, Any]) -> dict[str, Any]:
    return {"path": lock["path"], "exclusive": lock.get("exclusive", True)}


def checked(locks: Any, path: str) -> list[dict[str, Any]]:
    """Locks as a task shows them; refuses what the server would."""
    if not isinstance(locks, list) or len(locks) > 32:
        raise invalid(f"{path}locks", "must be a list of at most 32")
    for position, lock in enumerate(locks):
        where = f"{path}locks[{position}]"
        if not isinstance(lock, dict) or not isinstance(lock.get("path"), str) or lock.keys() - {"path", "exclusive"}:
            raise invalid(where, "must have a path, and may say exclusive")
        if not isinstance(lock.get("exclusive", True), bool):
            raise invalid(f"{where}.exclusive", "must be true or false")
        parts = lock["path"].split("/")
        if any(part in {"", ".", ".."} or ("**" in part and part != "**") for part in parts):
            raise invalid(f"{where}.path", "must be segments between slashes, with ** only as a whole one")
        for part in parts:
            try:
                _tokens(part)
            except (IndexError, ValueError):
                raise invalid(f"{where}.path", "must close each [ within its segment") from None
    return [_whole(lock) for lock in locks]


def overlap(a: str, b: str) -> bool:
    """Whether some path matches both patterns."""

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(mine) or j == len(theirs):
            return all(part == "**" for part in (*mine[i:], *theirs[j:]))
        if mine[i] == "**":
            return meet(i + 1, j) or meet(i, j + 1)
        if theirs[j] == "**":
            return meet(i, j + 1) or meet(i + 1, j)
        return _texts_meet(_tokens(mine[i]), _tokens(theirs[j])) and meet(i + 1, j + 1)

    mine, theirs = a.split("/"), b.split("/")
    return meet(0, 0)


def _texts_meet(a: Sequence[Token], b: Sequence[Token]) -> bool:
    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(a) or j == len(b):
            return all(token is None for token in (*a[i:], *b[j:]))
        mine, theirs = a[i], b[j]
        if mine is None:
            return meet(i + 1, j) or meet(i, j + 1)
        if theirs is None:
            return meet(i, j + 1) or meet(i + 1, j)
        return any(max(x, v) <= min(y, w) for x, y in mine for v, w in theirs) and meet(i + 1, j + 1)

    return meet(0, 0)


@cache
def _tokens(part: str) -> tuple[Token, ...]:
    tokens: list[Token] = []
    place = 0
    while place < len(part):
        character, place = part[place], place + 1
        if character == "*":
            tokens.append(None)
        elif character == "?":
            tokens.append(_ANY)
        elif character == "[":
            end = part.index("]", place + 1 + (part[place] == "!"))
            tokens.append(_set(part[place:end]))
            place = end + 1
        else:
            if character == "\\":
                character, place = part[place], place + 1
            tokens.append(((ord(character), ord(character)),))
    return tuple(tokens)


def _set(text: str) -> Ranges:
    negated = text.startswith("!")
    text, ranges = text[negated:], []
    while text:
        size = 3 if len(text) > 2 and text[1] == "-" else 1
        ranges.append((ord(text[0]), ord(text[size - 1])))
        text = text[size:]
    if not negated:
        return tuple(ranges)
    left, begin = [], 0
    for low, high in sorted(ranges):
        left.append((begin, low - 1))
        begin = max(begin, high + 1)
    return tuple((low, high) for low, high in (*left, (begin, 0x10FFFF)) if low <= high)
