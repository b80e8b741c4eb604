"""Which names users may give: one rule for the ids of projects, sessions, tasks and agents, and for queues
and groups."""

from __future__ import annotations

import re

from statemachine import limits

_ALPHABET = re.compile(r"[A-Za-z0-9._:-]+", re.ASCII)

VERBS = frozenset(
    {
        "accept",
        "assign",
        "batch",
        "cancel",
        "claim",
        "complete",
        "drain",
        "explain",
        "export",
        "fail",
        "heartbeat",
        "import",
        "progress",
        "release",
        "renew",
        "replay",
        "resume",
        "retry",
        "search",
        "wait",
    }
)
"""Words that stand where an id stands in some route, now or by reservation: as an id they could not be
addressed."""


def check_id(text: str) -> str | None:
    """What is wrong with an id, as the end of a sentence that begins with its field; None when it is good."""
    if wrong := check_name(text):
        return wrong
    if text in VERBS:
        return f"must not be {text!r}, which is a verb of the API"
    return None


def check_name(text: str) -> str | None:
    """As `check_id`, for names whose routes have no verbs: queues and groups may be called `search`."""
    if not text:
        return "must not be empty"
    if len(text) > limits.ID_BYTES_MAX:
        return f"must be at most {limits.ID_BYTES_MAX} characters"
    if _ALPHABET.fullmatch(text) is None:
        return "may hold only letters, digits and . _ : -"
    if text in {".", ".."}:
        return "must not be . or .."
    return None
