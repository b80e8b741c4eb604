"""JSON that is valid and that no reader takes: it is kept as it was sent, and stops nobody."""

from __future__ import annotations

import pytest

from tests.node.fleet_http import FleetNode, with_fleet

STRANGE = "1e999"
"""A number beyond any that a program calculates with."""


def test_labels_that_hold_strange_numbers_stop_no_leader() -> None:
    async def step(node: FleetNode) -> None:
        labels = f'"labels":{{"repository":{STRANGE},"branch":{STRANGE},"provider":{STRANGE}}}'
        agent = await node.ask("POST", "/api/agents", data=f'{{"agent_id":"a1","instance_id":"i",{labels}}}')
        assert agent.status == 201
        task = await node.ask("POST", "/api/tasks", data=f'{{"task_id":"t1",{labels}}}')
        assert task.status == 201
        assert STRANGE in (await node.ask("GET", "/api/tasks/t1")).raw.decode()
        assert (await node.get("/api/tasks/t1/explain")).status == 200
        for listing in ("tasks?label=", "agents?label="):
            listed = await node.get(f"/api/{listing}repository={STRANGE}")
            assert (listed.status, STRANGE in listed.raw.decode()) == (200, True)
        assert [grant["task_id"] for grant in await node.claim("a1", agent.json["epoch"])] == ["t1"]
        assert (await node.verb("complete", "t1", "a1", 1)).status == 200
        assert node.leadership.believable

    with_fleet(step)


@pytest.mark.parametrize(
    ("patch", "whole"),
    [
        (f'{{"b":{STRANGE}}}', f'{{"a":{{"x":{STRANGE},"y":1.0}},"b":{STRANGE}}}'),
        ('{"a":{"x":null},"b":null}', '{"a":{"y":1.0}}'),
        ('{"a":[null]}', '{"a":[null]}'),
        ('{"a":{"y":{"z":{"null":null,"n":1}}}}', f'{{"a":{{"x":{STRANGE},"y":{{"z":{{"n":1}}}}}}}}'),
    ],
)
def test_a_merge_keeps_numbers_as_they_were_sent(patch: str, whole: str) -> None:
    async def step(node: FleetNode) -> None:
        metadata = f'{{"a":{{"x":{STRANGE},"y":1.0}}}}'
        made = await node.ask("POST", "/api/tasks", data=f'{{"task_id":"t1","metadata":{metadata}}}')
        assert made.status == 201
        merged = await node.ask("PATCH", "/api/tasks/t1", data=f'{{"metadata":{patch}}}')
        assert merged.status == 200
        assert f'"metadata":{whole}' in merged.raw.decode()

    with_fleet(step)


def test_a_patch_that_is_nested_too_deeply_is_refused() -> None:
    async def step(node: FleetNode) -> None:
        await node.submit("t1")
        deep = '{"a":' * 5_000 + "1" + "}" * 5_000
        refused = await node.ask("PATCH", "/api/tasks/t1", data=f'{{"metadata":{deep}}}')
        assert (refused.status, refused.json["code"]) == (400, "invalid_request")
        assert "nested" in refused.json["detail"]

    with_fleet(step)
