"""Replicated settings over HTTP: what is shown, what can be set, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from node.duties.settings import DutySettings
from statemachine.settings import SETTINGS
from tests.node.fleet_http import FleetNode, with_fleet

LOAD = "placement.weight.load"


async def shown(node: FleetNode) -> dict[str, Any]:
    answer = await node.get("/api/settings")
    assert answer.status == 200, answer
    return {one["name"]: one for one in answer.json["items"]}


def test_every_setting_is_shown_with_its_default_and_range() -> None:
    async def step(node: FleetNode) -> None:
        answer = await node.get("/api/settings")
        assert answer.json["revision"] == 0
        found = await shown(node)
        assert found.keys() == SETTINGS.keys()
        assert found["offer_timeout_ms"] == {
            "name": "offer_timeout_ms", "value": 700, "default": 700, "is_set": False, "unit": "ms", "least": 100,
            "most": 3_600_000, "meaning": SETTINGS["offer_timeout_ms"].meaning,
        }  # fmt: skip
        assert [found[LOAD][name] for name in ("value", "unit", "least", "most")] == [0.25, "ratio", 0, 1]
        assert found["placement.reference_cost_usd"]["value"] == 0.1

    with_fleet(step, DutySettings(offer_timeout_ms=700))


def test_set_reset_and_only_if_nobody_was_quicker() -> None:
    async def step(node: FleetNode) -> None:
        patch = {LOAD: 0.5, "avoid_ms": 0, "placement.reference_cost_usd": 0.25, "if_revision": 0}
        answer = await node.ask("PATCH", "/api/settings", patch)
        assert answer.status == 200, answer
        first = answer.json["revision"]
        found = await shown(node)
        assert [found[name]["value"] for name in (LOAD, "avoid_ms", "placement.reference_cost_usd")] == [0.5, 0, 0.25]
        assert (found[LOAD]["is_set"], found[LOAD]["default"]) == (True, 0.25)
        late = await node.ask("PATCH", "/api/settings", {LOAD: 1, "if_revision": 0})
        assert (late.status, late.json["code"], late.json["current"]) == (409, "conflict", {"revision": first})
        same = await node.ask("PATCH", "/api/settings", {LOAD: 0.5})
        assert (same.status, same.json["revision"]) == (200, first)
        reset = await node.ask("PATCH", "/api/settings", {LOAD: None, "if_revision": first})
        assert (reset.status, (await shown(node))[LOAD]["is_set"]) == (200, False)
        assert (await shown(node))["avoid_ms"]["is_set"]

    with_fleet(step)


def test_watchers_of_every_project_hear_what_was_set() -> None:
    async def step(node: FleetNode) -> None:
        await node.ask("PATCH", "/api/settings", {LOAD: 0.5})
        answer = await node.get("/api/changes?from_revision=1&topics=settings&data=full")
        assert answer.status == 200, answer
        (message,) = answer.json["items"]
        (change,) = message["changes"]
        assert (change["type"], change["resource_id"]) == ("settings.updated", "settings")
        assert change["data"]["fields"] == [LOAD]

    with_fleet(step)


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"no.such": 1}, "no.such"),
        ({LOAD: 1.5}, LOAD),
        ({LOAD: -0.1}, LOAD),
        ({LOAD: "much"}, LOAD),
        ({"avoid_ms": 1.5}, "avoid_ms"),
        ({"offer_timeout_ms": 99}, "offer_timeout_ms"),
        ({"avoid_ms": 1, "provider_cooling_ms": 600_001}, "provider_cooling_ms"),
        ({"placement.reference_cost_usd": 0}, "placement.reference_cost_usd"),
        ({"if_revision": -1}, "if_revision"),
    ],
)
def test_bad_input_names_the_field_and_changes_nothing(patch: dict[str, Any], path: str) -> None:
    async def step(node: FleetNode) -> None:
        answer = await node.ask("PATCH", "/api/settings", patch)
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")
        assert [error["path"] for error in answer.json["errors"]] == [path]
        assert (await node.get("/api/settings")).json["revision"] == 0

    with_fleet(step)


def test_a_repeat_under_its_key_is_the_first_answer() -> None:
    async def step(node: FleetNode) -> None:
        key = {"Idempotency-Key": "k"}
        first = await node.ask("PATCH", "/api/settings", {"avoid_ms": 1}, headers=key)
        await node.ask("PATCH", "/api/settings", {"avoid_ms": 2})
        again = await node.ask("PATCH", "/api/settings", {"avoid_ms": 1}, headers=key)
        assert (again.status, again.json["revision"]) == (200, first.json["revision"])
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (await shown(node))["avoid_ms"]["value"] == 2

    with_fleet(step)


def test_an_offer_by_hand_lasts_as_long_as_it_is_set() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.ask("PATCH", "/api/settings", {"offer_timeout_ms": 250})
        await node.submit("t1")
        assert (await node.ask("PUT", "/api/tasks/t1/assign", {"agent_id": "a1"})).status == 200
        assert (await node.beat("a1", epoch))["offers"][0]["offer_expires_in_ms"] == 250

    with_fleet(step)
