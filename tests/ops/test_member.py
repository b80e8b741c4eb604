from __future__ import annotations

import pytest

from tests.ops.command_line import Stage, on_stage

ADDRESSES = ("--peer", "127.0.0.1:7431", "--http", "127.0.0.1:7430")


def test_a_member_from_learner_to_gone() -> None:
    async def scenario(stage: Stage) -> None:
        added = await stage.document("member", "add", "n4", *ADDRESSES)
        assert (added["node_id"], added["role"], added["voter"]) == ("n4", "learner", False)
        assert (added["peer_address"], added["http_address"]) == ("127.0.0.1:7431", "127.0.0.1:7430")
        assert (await stage.document("member", "add", "n4", *ADDRESSES)) == added
        items = (await stage.document("member", "list"))["items"]
        assert [item["node_id"] for item in items] == ["fake", "n4"]
        table = (await stage.hive("member", "list")).stdout
        assert "learner" in table
        assert "127.0.0.1:7431" in table

        assert (await stage.document("member", "promote", "n4"))["voter"] is True
        moved = await stage.document("member", "update", "n4", "--peer", "127.0.0.1:9")
        assert (moved["peer_address"], moved["http_address"]) == ("127.0.0.1:9", "127.0.0.1:7430")
        for _ in range(2):
            left = await stage.document("member", "remove", "n4")
            assert [item["node_id"] for item in left["items"]] == ["fake"]

    on_stage(scenario)


def test_adding_can_wait_until_the_member_votes() -> None:
    async def scenario(stage: Stage) -> None:
        late = await stage.hive("member", "add", "n4", *ADDRESSES, "--wait-s", "0")
        assert late.status == 1
        assert "n4 has not become a voter" in late.stderr
        await stage.client.cluster.promote_member("n4")
        assert (await stage.document("member", "add", "n4", *ADDRESSES, "--wait-s", "60"))["voter"] is True

    on_stage(scenario)


def test_what_is_refused_is_one_line_with_a_way_out() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.document("member", "add", "n4", *ADDRESSES)
        other = await stage.hive("member", "add", "n4", "--peer", "127.0.0.1:1", "--http", "127.0.0.1:2")
        assert (other.status, other.stderr.count("\n")) == (1, 1)
        assert "exists" in other.stderr
        await stage.document("member", "remove", "n4")
        again = await stage.hive("member", "add", "n4", *ADDRESSES)
        assert (again.status, again.stderr.count("\n")) == (1, 1)
        assert "an id that was never used" in again.stderr
        last = await stage.hive("member", "remove", "fake")
        assert (last.status, last.stderr.count("\n")) == (1, 1)
        assert "bring more nodes up first" in last.stderr
        gone = await stage.hive("member", "promote", "n4")
        assert (gone.status, "not_found" in gone.stderr) == (1, True)

    on_stage(scenario)


@pytest.mark.parametrize("words", [("add", "n4"), ("add", "n4", "--peer", "a:1"), ("update", "n4"), ("remove",)])
def test_what_is_missing_is_a_usage_error(words: tuple[str, ...]) -> None:
    async def scenario(stage: Stage) -> None:
        assert (await stage.hive("member", *words)).status == 2

    on_stage(scenario)
