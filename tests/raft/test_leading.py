"""A leader that believes old words, and one that says everything again and again."""

from unittest.mock import patch

import msgspec
import pytest

from raft import commands as c
from raft import messages
from raft.commands import Applied
from raft.messages import Append, AppendReply, ChunkReply, VoteReply
from tests.raft.lab import Lab

ABC = ("a", "b", "c")


def test_an_acknowledgement_of_an_earlier_term_commits_nothing() -> None:
    """The published library committed with two copies of five: e's old words were taken for new
    ones."""
    lab = Lab("abcde")
    lab.elect("a")
    lab.held.add(("e", "a"))
    lab.cut |= {("a", name) for name in "bcd"}
    lab.append("a", 8)
    lab.run(0.3)
    lab.elect("b")
    lab.cut.clear()
    lab.run(0.5)
    lab.isolate("b")
    lab.elect("a")
    lab.cut |= {("a", "d"), ("d", "a"), ("a", "e")}
    answers = lab.ask("a", c.FormCluster("V"))
    lab.run(0.3)
    lab.held.clear()
    lab.run(0.3)
    holders = [name for name in "abcde" if any(b"V" in entry for _, _, entry in lab.log(name))]
    assert len(holders) < 3
    assert answers == []


def test_copies_of_an_earlier_terms_entry_do_not_commit_it() -> None:
    """Figure 8 of the Raft paper: such an entry can still be overruled."""
    lab = Lab("abcde")
    lab.elect("a")
    lab.cut |= {("a", name) for name in "cde"}
    lab.append("a", 1)
    lab.run(0.3)
    entry = lab.log("a")[-1]
    lab.inject("b", "a", VoteReply(lab.nodes["a"].term + 1, is_pre=False, granted=False))
    assert lab.leaders() == []
    lab.cut.clear()
    raft = lab.nodes["a"]._raft
    send = lab.nodes["a"].send

    def old_entries_only(voter: str, message: messages.AnyMessage) -> bool:
        if isinstance(message, Append):
            kept = tuple(each for each in message.entries if each[0] < message.term)
            message = msgspec.structs.replace(message, entries=kept)
        return send(voter, message)

    with patch.object(lab.nodes["a"], "send", old_entries_only):
        lab.elect("a", 1.0)
        assert raft.is_leader
        assert sum(entry in lab.log(name) for name in "abcde") >= 3
        assert raft.commit_index < entry[0]


def test_what_was_said_to_an_earlier_leader_means_nothing_to_a_later_one() -> None:
    """It named no place in the log, and there may be no snapshot to begin with either."""
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    lab.run(0.3)
    lab.inject("b", "a", AppendReply(leader.term, ok=False, index=0))
    assert leader._SyncObj__raftNextIndex[leader.peer("b")] == leader.log.last_index + 1
    lab.ask("a")
    lab.run(0.3)
    assert lab.log("b") == lab.log("a")


def test_words_of_a_node_that_is_no_member_mean_nothing() -> None:
    """One that was removed may still have an answer under way."""
    lab = Lab(ABC)
    leader = lab.elect("a")
    for message in (
        AppendReply(leader.term, ok=True, index=9),
        AppendReply(leader.term, ok=False, index=2),
        ChunkReply(leader.term, 9, 0, installed=False),
        ChunkReply(leader.term, 9, 9, installed=True),
    ):
        lab.inject("gone", "a", message)
    assert leader.is_leader


def test_a_long_wrong_tail_is_replaced_in_few_rounds() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.isolate("a")
    for _ in range(60):
        lab.ask("a")
    lab.run(0.3)
    lab.elect("b")
    lab.ask("b", c.FormCluster("b"))
    lab.cut.clear()
    lab.run(0.3)
    assert lab.nodes["a"].state.cluster_id == "b"
    assert lab.log("a") == lab.log("b")


def test_a_refusal_is_answered_with_one_message_however_much_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each message of a whole log would be refused, and bring the whole log again."""
    monkeypatch.setattr("raft.leading.BATCH_SIZE", 1)
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    lab.run(0.3)
    base_index = leader.log.last_index
    lab.held.add(("a", "b"))
    for _ in range(20):
        lab.ask("a")
    lab.run(0.3)
    before = len(lab.wires["a", "b"])
    assert before >= 20
    lab.inject("b", "a", AppendReply(leader.term, ok=False, index=base_index + 2))
    assert len(lab.wires["a", "b"]) - before == 1
    lab.held.clear()
    lab.run(0.5)
    assert lab.log("b") == lab.log("a")


def test_a_member_that_connects_before_it_said_anything_is_probed_at_the_end() -> None:
    """Its first entry is not in the log of a leader, and there may be no snapshot to send
    instead."""
    lab = Lab(ABC)
    lab.cut |= {("a", "b"), ("b", "a")}
    lab.elect("a")
    lab.nodes["a"].connected("b")
    lab.cut.clear()
    lab.run(0.3)
    assert lab.log("b") == lab.log("a")


def test_entries_are_on_their_way_while_the_leader_writes_them_and_it_counts_itself_after() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")
    lab.run(0.3)
    under_way: list[bool] = []

    def before(operation: str) -> None:
        sent = [messages.decode(data) for data in lab.wires["a", "b"]]
        under_way.append(any(isinstance(each, Append) and each.entries for each in sent))
        assert leader.commit_index < leader._raft.log.last_index, operation

    lab.disks["a"].on_operation = before
    answers = lab.ask("a")
    assert under_way == [True, True]
    assert not leader._raft.log._pending
    lab.run(0.1)
    assert [type(answer) for answer in answers] == [Applied]
