from __future__ import annotations

from tests.ops.command_line import Stage, on_stage


def test_create_append_and_read_back() -> None:
    async def scenario(stage: Stage) -> None:
        made = await stage.document("session", "create", "--session-id", "s1", "--title", "T", "--metadata", '{"a": 1}')
        assert (made["session_id"], made["title"], made["metadata"]) == ("s1", "T", {"a": 1})
        first = await stage.document("session", "append", "s1", "custom.note", "--data", '{"n": 1}', "--actor", "me")
        assert (first["first_seq"], first["last_seq"]) == (1, 1)
        await stage.document("session", "append", "s1", "custom.other", "--expected-seq", "1")
        events = (await stage.document("session", "events", "s1"))["items"]
        assert [(e["seq"], e["type"]) for e in events] == [(1, "custom.note"), (2, "custom.other")]
        assert (events[0]["data"], events[0]["actor"]) == ({"n": 1}, "me")
        only = (await stage.document("session", "events", "s1", "--types", "custom.other"))["items"]
        assert [e["seq"] for e in only] == [2]
        later = (await stage.document("session", "events", "s1", "--after-seq", "1", "--all"))["items"]
        assert [e["seq"] for e in later] == [2]
        assert (await stage.document("session", "get", "s1"))["last_seq"] == 2
        assert [s["session_id"] for s in (await stage.document("session", "list"))["items"]] == ["s1"]
        assert [s["session_id"] for s in (await stage.document("session", "list", "--all"))["items"]] == ["s1"]

    on_stage(scenario)


def test_an_append_after_somebody_elses_is_refused() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.sessions.create(session_id="s1")
        await stage.client.sessions.append("s1", type="custom.note")
        printed = await stage.hive("session", "append", "s1", "custom.note", "--expected-seq", "0")
        assert printed.status == 1
        assert "sequence_mismatch" in printed.stderr
        assert len((await stage.client.sessions.events("s1")).items) == 1

    on_stage(scenario)


def test_tail_prints_one_event_a_line() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.sessions.create(session_id="s1")
        for number in range(3):
            await stage.client.sessions.append("s1", type="custom.note", data={"n": number})
        printed = await stage.hive("session", "tail", "s1", "--after-seq", "1", "--count", "2", "--json")
        assert [line["seq"] for line in printed.lines] == [2, 3]
        text = (await stage.hive("session", "tail", "s1", "--count", "3")).stdout
        assert text.count("\n") == 3
        assert '{"n": 2}' in text

    on_stage(scenario)
