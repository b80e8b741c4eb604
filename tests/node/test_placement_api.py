"""Placement over HTTP: labels as capabilities, what an agent's attempts taught, and what `explain` says of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, with_fleet


async def agent(node: FleetNode, agent_id: str = "a1") -> Any:
    answer = await node.get(f"/api/agents/{agent_id}")
    assert answer.status == 200, answer
    return answer.json


def test_a_label_counts_as_a_capability() -> None:
    async def step(node: FleetNode) -> None:
        labels = {"gpu": "a100", "spot": True, "rank": 3, "none": None, "list": [1], "long": "x" * 254}
        epoch = await node.register("a1", labels=labels, capabilities=[{"name": "rank=3", "proficiency": 0.2}])
        assert [one["name"] for one in (await agent(node))["capabilities"]] == ["rank=3"]
        wanted = {"gpu=a100": 1.0, "spot=true": 0.5, "rank=3": 0.2}
        for name, least in wanted.items():
            await node.submit(f"t-{name[:3]}", requires=[{"name": name, "min_proficiency": least}])
            assert [one["agent_id"] for one in (await node.get(f"/api/agents?capability={name}")).json["items"]] == [
                "a1"
            ]
            (grant,) = await node.claim("a1", epoch)
            await node.verb("complete", grant["task_id"], "a1", 1)
        for number, need in enumerate(("gpu=h100", "none=null", "list=[1]", "gpu")):
            await node.submit(f"n{number}", requires=[{"name": need}])
        await node.submit("better", requires=[{"name": "rank=3", "min_proficiency": 0.3}])
        assert await node.claim("a1", epoch) == []
        explained = (await node.get("/api/tasks/n0/explain")).json
        assert explained["agents"]["filtered"] == {"capability": 1}
        await node.register("a1", labels={"gpu": "h100"})
        (grant,) = await node.claim("a1", epoch)
        assert grant["task_id"] == "n0", "the labels of the last registration"

    with_fleet(step)


def test_what_was_learned_is_shown_and_can_be_forgotten() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", capabilities=[{"name": "py"}])
        fresh = await agent(node)
        assert (fresh["learned_proficiency"], fresh["learned"], fresh["average_cost_usd"]) == (None, [], None)
        await node.submit("t1", requires=[{"name": "py"}])
        await node.claim("a1", epoch)
        await node.verb("complete", "t1", "a1", 1, usage={"cost_usd": 0.5})
        await node.submit("t2", type="report")
        await node.claim("a1", epoch)
        await node.verb("fail", "t2", "a1", 1, retryable=False, usage={"cost_usd": 0.1})
        taught = await agent(node)
        assert taught["learned"] == [
            {"name": "py", "proficiency": 1.0, "attempts": 1},
            {"name": "report", "proficiency": 0.875, "attempts": 1},
        ]
        assert (taught["learned_proficiency"], taught["average_cost_usd"]) == (0.875, 0.45)
        one = await node.post("/api/agents/a1/learned/reset", {"names": ["report", "never"]})
        assert [learned["name"] for learned in one.json["learned"]] == ["py"]
        assert one.json["revision"] > taught["revision"]
        every = await node.post("/api/agents/a1/learned/reset", {})
        assert (every.json["learned_proficiency"], every.json["learned"], every.json["completed"]) == (None, [], 1)
        again = await node.post("/api/agents/a1/learned/reset", {})
        assert (again.status, again.json["revision"]) == (200, every.json["revision"])

    with_fleet(step)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"names": []}, "names"),
        ({"names": [""]}, "names[0]"),
        ({"names": "py"}, "names"),
        ({"names": [str(n) for n in range(33)]}, "names"),
        ({"name": "py"}, "name"),
    ],
)
def test_a_bad_reset_names_the_field(body: dict[str, Any], path: str) -> None:
    async def step(node: FleetNode) -> None:
        await node.register("a1")
        answer = await node.post("/api/agents/a1/learned/reset", body)
        assert (answer.status, answer.json["errors"][0]["path"]) == (400, path)
        assert (await node.post("/api/agents/nobody/learned/reset", {})).status == 404

    with_fleet(step)


def test_explain_has_every_part_and_every_filter() -> None:
    async def step(node: FleetNode) -> None:
        for name, labels in (("a1", {"provider": "acme"}), ("a2", {})):
            await node.register(name, labels=labels)
        await node.submit("t1")
        await node.ask("PUT", "/api/tasks/t1/assign", {"agent_id": "a1"})
        await node.submit("t2")
        candidates = (await node.get("/api/tasks/t2/explain")).json["agents"]["candidates"]
        assert [found["agent_id"] for found in candidates] == ["a2"]
        assert candidates[0]["parts"] == {
            "proficiency": 1.0, "load": 1.0, "affinity": 0.0, "success": 1.0, "cost": 0.5, "listening": 0.0,
        }  # fmt: skip
        assert candidates[0]["score"] == pytest.approx(0.75)
        await node.verb("fail", "t1", "a1", 1, reason="rate_limited")
        await node.post("/api/agents/a2/drain", {})
        explained = (await node.get("/api/tasks/t2/explain")).json
        assert explained["agents"]["filtered"] == {"cooling": 1, "draining": 1}
        assert [reason["code"] for reason in explained["reasons"]] == ["all_draining", "provider_cooling"]

    with_fleet(step)
