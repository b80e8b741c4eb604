"""The members table: who may become what, and that an id is never used twice."""

from __future__ import annotations

import msgspec
import pytest

from statemachine import commands, machine, members
from statemachine.audit import audit
from statemachine.commands import (
    AddMember,
    Command,
    Founder,
    FoundMembers,
    PinJournal,
    PromoteMember,
    RemoveMember,
    UpdateMember,
)
from statemachine.entry import Frame, Header, check_batch, decode_entry, encode_batch, encode_entry, encode_frame
from statemachine.outcome import Outcome
from statemachine.store import MemoryStore


class _State:
    def __init__(self, *founders: str) -> None:
        self.store = MemoryStore()
        self._sequence = 0
        self.apply(FoundMembers(tuple(Founder(node_id, f"peer-{node_id}") for node_id in founders)))

    def apply(self, command: Command) -> Outcome:
        self._sequence += 1
        header, batches = decode_entry(encode_entry(Header(1_000, 1), [_batch(command, self._sequence)]))
        applied = machine.apply(self.store, header, batches)
        self.store.apply(applied.writes)
        assert applied.changes == ()
        return applied.outcomes[0][0]

    def refused(self, command: Command) -> str:
        before = dict(self.store.scan(b"m", b"n"))
        refusal = self.apply(command).refusal
        assert refusal is not None
        assert dict(self.store.scan(b"m", b"n")) == before
        return refusal.code

    def done(self, command: Command) -> int:
        outcome = self.apply(command)
        assert outcome.refusal is None
        return outcome.items[0].status

    def roles(self) -> dict[str, str]:
        return {member.node_id: member.role for member in members.scan(self.store)}


def _batch(command: Command, sequence: int) -> bytes:
    number, payload = commands.NUMBERS[type(command)], msgspec.Raw(commands.encode(command))
    return encode_batch(
        7, sequence, [encode_frame(Frame(number, 1, "", "system:cluster", "", None, None, 0, 0, payload))]
    )


def test_the_founders_vote_and_are_named_once() -> None:
    state = _State("n1", "n2")
    assert state.roles() == {"n1": "voter", "n2": "voter"}
    state.done(FoundMembers((Founder("n9", "elsewhere"),)))
    assert state.roles() == {"n1": "voter", "n2": "voter"}


def test_a_member_learns_first_and_votes_once_its_journal_is_known() -> None:
    state = _State("n1")
    assert state.done(AddMember("n2", "p", "h")) == 201
    assert state.refused(PromoteMember("n2")) == "not_caught_up"
    state.done(PinJournal("n2", b"j" * 16, "ignored"))
    state.done(PromoteMember("n2"))
    state.done(PromoteMember("n2"))
    member = members.get(state.store, "n2")
    assert member == members.Member("n2", "p", "h", "voter", b"j" * 16)


def test_adding_again_is_harmless_and_another_address_is_not() -> None:
    state = _State("n1")
    state.done(AddMember("n2", "p", "h"))
    assert state.done(AddMember("n2", "p", "h")) == 200
    outcome = state.apply(AddMember("n2", "p", "other"))
    assert outcome.refusal is not None
    assert outcome.refusal.code == "exists"
    assert outcome.refusal.current == {"node_id": "n2", "peer_address": "p", "http_address": "h", "role": "learner"}


def test_an_id_is_never_used_twice() -> None:
    state = _State("n1", "n2")
    state.done(RemoveMember("n2"))
    assert state.roles() == {"n1": "voter", "n2": "leaving"}
    assert state.refused(PromoteMember("n2")) == "not_found"
    for _ in range(2):
        assert state.done(RemoveMember("n2")) == 200
    assert state.refused(AddMember("n2", "p", "h")) == "id_used"
    for command in (PromoteMember("n2"), UpdateMember("n2", "x"), PinJournal("n2", b"j" * 16, "")):
        assert state.refused(command) == "not_found"
    assert state.roles() == {"n1": "voter", "n2": "removed"}


def test_the_last_voter_stays() -> None:
    state = _State("n1")
    state.done(AddMember("n2", "p", "h"))
    assert state.refused(RemoveMember("n1")) == "quorum_at_risk"
    assert state.refused(RemoveMember("n9")) == "not_found"


def test_a_journal_is_pinned_once() -> None:
    state = _State("n1")
    state.done(PinJournal("n1", b"j" * 16, "http"))
    state.done(PinJournal("n1", b"j" * 16, "http"))
    assert state.refused(PinJournal("n1", b"k" * 16, "http")) == "conflict"
    member = members.get(state.store, "n1")
    assert member is not None
    assert (member.journal_id, member.http_address) == (b"j" * 16, "http")


def test_addresses_change_one_by_one() -> None:
    state = _State("n1")
    state.done(UpdateMember("n1", peer_address="there"))
    state.done(UpdateMember("n1", http_address="web"))
    member = members.get(state.store, "n1")
    assert member is not None
    assert (member.peer_address, member.http_address) == ("there", "web")
    assert state.refused(UpdateMember("n1", "x" * 301)) == "invalid_request"


@pytest.mark.parametrize("node_id", ["", "a b", "x" * 129, "claim"])
def test_ids_are_names(node_id: str) -> None:
    assert _State("n1").refused(AddMember(node_id, "p", "h")) == "invalid_request"


def test_there_is_an_end_to_members() -> None:
    state = _State(*(f"n{number}" for number in range(32)))
    assert state.refused(AddMember("one-more", "p", "h")) == "queue_full"


def test_nobody_else_may_bring_such_commands_into_the_log() -> None:
    """The leader has to know an entry that changes the membership, and makes it itself."""
    fault = check_batch(_batch(RemoveMember("n1"), 1))
    assert fault is not None
    assert "membership" in fault


def test_the_audit_sees_a_table_without_a_voter_and_rows_out_of_place() -> None:
    state = _State("n1", "n2")
    assert audit(state.store) == []
    row = state.store.get(b"mn1\0")
    state.store.apply([(b"mn9\0", row)])
    assert audit(state.store) == ["member n1 stands under key b'n9\\x00'"]
    state.store.apply([(b"mn9\0", None), (b"mn1\0", None), (b"mn2\0", None)])
    state.done(FoundMembers(()))
    state.done(AddMember("n3", "p", "h"))
    assert audit(state.store) == ["there are members, and nobody votes"]
