"""Clients of sessions: a register that is written, compared and set; a list appended to by who knows its end."""

from __future__ import annotations

from collections.abc import Callable

from tests.nemesis.client import MADE, STRONG, Ask, Client, Document
from tests.nemesis.history import OK
from tests.nemesis.keys import Keys

REST_S = 0.03
LIST_LIMIT = {"limit": "1000"}


def create_session(key: str) -> Ask:
    """A session named like the key."""
    return Ask("POST", "/api/sessions", {"session_id": key}, keyed=True)


def _register(document: Document) -> Document:
    metadata = document.get("metadata") or {}
    return {"value": metadata.get("value"), "revision": document.get("revision")}


def _written(value: str) -> Callable[[Document], Document]:
    """A write is answered with the session as it is then: another one may have been faster."""

    def shown(document: Document) -> Document:
        now = _register(document)
        return {MADE: now["revision"] if now["value"] == value else 0}

    return shown


async def use_register(client: Client, keys: Keys) -> None:
    """Read, write, compare and set, until the run stops."""
    last: dict[str, int] = {}
    while not client.stopping:
        key = keys.use()
        path = f"/api/sessions/{key}"
        chance, value = client.rng.random(), client.unique()
        if chance < 0.4:
            op = await client.perform("read", key, {}, Ask("GET", path, query=STRONG), _register)
            if op.outcome == OK:
                last[key] = op.value["revision"]
        elif chance < 0.6 or key not in last:
            body: Document = {"metadata": {"value": value}}
            ask = Ask("PATCH", path, body, keyed=client.rng.random() < 0.5)
            op = await client.perform("write", key, {"value": value}, ask, _written(value))
        else:
            body = {"metadata": {"value": value}, "if_revision": last[key]}
            args = {"value": value, "if_revision": last[key]}
            ask = Ask("PATCH", path, body, keyed=client.rng.random() < 0.5)
            op = await client.perform("cas", key, args, ask, _written(value))
        if op.kind != "read" and op.revision:
            last[key] = op.revision
        await client.rest(REST_S)


def _page(document: Document) -> Document:
    seqs = [event["seq"] for event in document["items"]]
    if seqs != list(range(1, len(seqs) + 1)):
        return {"values": [f"seqs with a gap: {seqs}"]}
    return {"values": [event["data"]["value"] for event in document["items"]]}


def _appended(document: Document) -> Document:
    return {name: document[name] for name in ("first_seq", "last_seq") if name in document} | {
        MADE: document.get("revision", 0)
    }


async def use_events(client: Client, keys: Keys) -> None:
    """Append with expected_seq and read everything, until the run stops."""
    last: dict[str, int] = {}
    while not client.stopping:
        key = keys.use()
        path = f"/api/sessions/{key}/events"
        if key not in last or client.rng.random() < 0.3:
            op = await client.perform("read", key, {}, Ask("GET", path, query=STRONG | LIST_LIMIT), _page)
            if op.outcome == OK:
                last[key] = len(op.value["values"])
        else:
            value = client.unique()
            body: Document = {"type": "custom.line", "data": {"value": value}, "expected_seq": last[key]}
            ask = Ask("POST", path, body, keyed=client.rng.random() < 0.5)
            args = {"value": value, "expected_seq": last[key]}
            op = await client.perform("append", key, args, ask, _appended)
            last[key] = op.value.get("last_seq", last[key])
        await client.rest(REST_S)


async def read_anywhere(client: Client, keys: Keys) -> None:
    """Stale reads, here and there: only their revisions are judged."""
    while not client.stopping:
        await client.perform("stale", "", {}, Ask("GET", f"/api/sessions/{keys.current}"))
        await client.rest(REST_S)
