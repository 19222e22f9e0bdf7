"""The defects of the published library, replayed: each test ends with the outcome that is safe."""

from unittest.mock import patch

import msgspec
import pytest

from raft import commands as c
from raft import messages
from raft.commands import Applied
from raft.errors import CorruptSnapshotError
from raft.members import Members
from raft.messages import (
    MESSAGE_SIZE_MAX,
    Append,
    AppendReply,
    Chunk,
    ChunkReply,
    Forward,
    Vote,
    VoteReply,
)
from raft.snapshot import SNAPSHOT_NAME
from raft.trails import CHECK_EVERY, StateDiverged
from tests.raft.lab import Lab
from tests.raft.support import topic_id

ABC = ("a", "b", "c")


# ---- terms and votes -----------------------------------------------------------------------------


def test_a_voter_that_restarts_does_not_vote_twice_in_a_term() -> None:
    lab = Lab(ABC)
    lab.cut |= {("a", "b"), ("b", "a")}
    lab.elect("a", 0.05)
    assert lab.leaders() == [("a", 1)]
    lab.kill("c", power=True)
    lab.held.add(("a", "c"))
    lab.start("c")
    lab.elect("b", 0.05)
    assert lab.nodes["c"]._raft._SyncObj__votedForNodeId == "a"
    assert lab.leaders() == [("a", 1)]


def test_terms_and_entries_survive_a_restart_of_everybody() -> None:
    lab = Lab(ABC)
    for name in ("a", "b", "c", "a"):
        lab.elect(name)
    lab.ask("a")
    lab.run(0.3)
    before = lab.next_ids()
    term = lab.nodes["a"].term
    for name in ABC:
        lab.kill(name, power=True)
    for name in ("a", "c"):
        lab.start(name)
    assert lab.elect("c").term > term
    answers = lab.ask("c")
    lab.run(0.3)
    assert isinstance(answers[0], Applied)
    lab.kill("c")
    lab.start("b")
    lab.elect("b")
    lab.elect("a")
    lab.run(0.3)
    assert set(lab.next_ids().values()) == {before["a"] + 1}


def test_an_index_and_a_term_never_name_two_entries() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.cut |= {("a", "b"), ("a", "c")}
    lab.ask("a", c.FormCluster("from a"))
    lab.run(0.3)
    seen = {(index, term): command for index, term, command in lab.log("a")}
    for name in ABC:
        lab.kill(name)
    lab.cut.clear()
    for name in ("b", "c"):
        lab.start(name)
    lab.elect("b")
    lab.ask("b", c.FormCluster("from b"))
    lab.run(0.3)
    lab.start("a")
    lab.run(0.3)
    for name in ABC:
        for index, term, command in lab.log(name):
            assert seen.setdefault((index, term), command) == command
        assert lab.nodes[name].state.cluster_id == "from b"


def test_votes_are_counted_by_voter_not_by_message() -> None:
    lab = Lab("abcde")
    lab.isolate("a")
    lab.elect("a", 0.0)
    raft = lab.nodes["a"]._raft
    for _ in range(5):
        lab.inject("b", "a", VoteReply(raft.term, is_pre=False, granted=True))
    assert not raft.is_leader
    lab.inject("nobody", "a", VoteReply(raft.term, is_pre=False, granted=True))
    assert not raft.is_leader
    lab.inject("c", "a", VoteReply(raft.term, is_pre=False, granted=True))
    assert raft.is_leader


def test_a_vote_of_an_earlier_term_is_nothing() -> None:
    lab = Lab(ABC)
    lab.isolate("a")
    lab.elect("a", 0.0)
    lab.elect("a", 0.0)
    raft = lab.nodes["a"]._raft
    lab.inject("b", "a", VoteReply(raft.term - 1, is_pre=False, granted=True))
    assert not raft.is_leader


def test_a_node_that_was_cut_off_does_not_depose_the_leader_on_its_return() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    term = lab.nodes["a"].term
    lab.isolate("c")
    raft = lab.nodes["c"]._raft
    del raft._postpone_election
    raft._election_at = lab.now
    lab.run(10.0)
    lab.cut.clear()
    lab.run(2.0)
    assert lab.leaders() == [("a", term)]
    assert lab.nodes["c"].term == term


def test_a_stale_leader_learns_of_the_new_term() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.isolate("a")
    lab.elect("b")
    lab.cut.clear()
    lab.run(0.3)
    assert [name for name, _ in lab.leaders()] == ["b"]


# ---- the log -------------------------------------------------------------------------------------


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


def test_a_candidate_who_lacks_what_is_committed_is_not_elected() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.isolate("c")
    answers = lab.ask("a")
    lab.run(0.3)
    assert [type(answer) for answer in answers] == [Applied]
    lab.cut.clear()
    lab.isolate("a")
    lab.elect("c")
    assert [name for name, _ in lab.leaders()] == ["a"]
    lab.elect("b")
    assert "b" in [name for name, _ in lab.leaders()]


def test_an_old_append_that_arrives_again_cuts_nothing_off() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    for _ in range(8):
        lab.ask("a")
    lab.run(0.3)
    before = lab.log("b")
    match_index = leader.match_index("b")
    entries = tuple((term, command) for command, _, term in leader.log[3:5])
    _, prev_index, prev_term = leader.log[2]
    lab.inject("a", "b", Append(leader.term, prev_index, prev_term, 4, entries))
    lab.inject("a", "b", Append(leader.term, prev_index, prev_term, 4, ()))
    assert lab.log("b") == before
    assert lab.log("b")[-1][0] >= match_index


def test_a_follower_commits_only_what_this_leader_showed_it() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    lab.run(0.3)
    follower = lab.nodes["b"]._raft
    index, term = leader.log.last_index, leader.term
    ghost = b"\x00ghost"
    lab.inject("a", "b", Append(term, index, term, index, ((term, ghost), (term, ghost))))
    assert follower.commit_index == index
    lab.inject("a", "b", Append(term, index, term, index + 9, ()))
    assert follower.commit_index == index


def test_a_committed_entry_is_never_truncated() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    lab.ask("a")
    lab.run(0.3)
    follower = lab.nodes["b"]
    index = follower.commit_index
    forged = Append(leader.term + 5, index - 1, leader.term, 0, ((leader.term + 5, b"\x00other"),))
    with pytest.raises(AssertionError, match="committed"):
        lab.inject("c", "b", forged)
    assert follower.commit_index == index


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
    monkeypatch.setattr("raft.core.BATCH_SIZE", 1)
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


@pytest.mark.parametrize("size", [1, 900, 65_400 - 4096, c.COMMAND_SIZE_MAX - 200])
def test_a_command_of_any_allowed_size_gets_through(size: int) -> None:
    lab = Lab(ABC)
    lab.elect("a")
    answers = lab.ask("b", c.ChangeConfig(topic_id(1), 0, {"k": "v" * size}))
    lab.run(0.5)
    assert [type(answer) for answer in answers] == [Applied]
    assert lab.log("a") == lab.log("b") == lab.log("c")


# ---- snapshots -----------------------------------------------------------------------------------


def test_a_piece_of_a_snapshot_commits_nothing() -> None:
    """A follower with a wrong tail applied that tail when the first piece of a snapshot arrived."""
    lab = Lab(ABC)
    lab.elect("a")
    lab.isolate("a")
    for _ in range(3):
        lab.ask("a", c.FormCluster("ghost"))
    lab.run(0.2)
    lab.elect("b")
    lab.ask("b", c.FormCluster("real"))
    for _ in range(20):
        lab.ask("b")
    lab.run(0.2)
    node = lab.nodes["b"]
    before = lab.nodes["a"].commit_index
    lab.inject("b", "a", Chunk(node.term, node.commit_index, 0, 10_000, b"x" * 100))
    assert lab.nodes["a"].commit_index == before
    assert lab.nodes["a"].state.cluster_id == ""
    lab.cut.clear()
    lab.run(0.5)
    assert lab.nodes["a"].state.cluster_id == "real"


def test_a_member_that_was_away_for_long_gets_the_snapshot() -> None:
    lab = Lab(ABC, compact_entries=10, trailing_entries=0)
    lab.elect("a")
    lab.isolate("c")
    for _ in range(50):
        lab.ask("a")
        lab.run(0.02)
    assert lab.nodes["a"]._raft.log.first_index > 40
    lab.cut.clear()
    lab.run(3.0)
    assert len(set(lab.next_ids().values())) == 1
    lab.kill("c", power=True)
    lab.start("c")
    lab.run(0.5)
    assert len(set(lab.next_ids().values())) == 1


def test_an_older_snapshot_is_ignored_and_an_installed_one_acknowledges_itself_only() -> None:
    lab = Lab(ABC, compact_entries=10, trailing_entries=0)
    lab.elect("a")
    for _ in range(30):
        lab.ask("a")
        lab.run(0.02)
    follower = lab.nodes["b"]
    log = lab.log("b")
    sent: list[messages.AnyMessage] = []
    with patch.object(follower, "send", lambda _voter, message: sent.append(message)):
        lab.inject("a", "b", Chunk(follower.term, 5, 0, 100, b"x" * 100))
    assert lab.log("b") == log
    assert follower._snapshots.index > 5
    assert sent == [ChunkReply(follower.term, 5, 100, installed=True)]


def test_a_matching_log_behind_a_snapshot_stays() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")
    for _ in range(10):
        lab.ask("a")
    lab.run(0.3)
    raft = lab.nodes["b"]._raft
    last = raft.log.last_index
    term = raft.log.term_at(last - 3)
    assert term is not None
    raft.installed(last - 3, term, Members(ABC))
    assert raft.log.last_index == last
    raft.installed(last + 5, leader.term, Members(ABC))
    assert (raft.log.first_index, raft.log.last_index) == (last + 5, last + 5)
    assert raft.commit_index == last + 5


def test_a_snapshot_names_the_members_but_for_a_later_change_in_a_log_that_stays() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    lab.run(0.3)
    raft, index = lab.nodes["b"]._raft, leader.log.last_index
    assert leader.change_members(Members(("a", "b")))
    lab.run(0.3)
    raft.installed(index, leader.term, Members(ABC))
    assert raft.members == Members(("a", "b"))
    raft.installed(index + 9, leader.term, Members(("a", "b", "x")))
    assert raft.members == Members(("a", "b", "x"))


def test_a_change_of_members_goes_with_the_log_that_contradicts_a_snapshot() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")._raft
    lab.run(0.3)
    lab.isolate("a")
    lab.append("a", 1)
    assert leader.change_members(Members(("a", "b")))
    leader.installed(leader.log.last_index - 1, leader.term + 1, Members(("b", "c", "x")))
    assert leader.members == Members(("b", "c", "x"))


def test_a_torn_snapshot_is_no_empty_state() -> None:
    lab = Lab(ABC, compact_entries=5)
    lab.elect("a")
    for _ in range(20):
        lab.ask("a")
    lab.run(0.3)
    lab.kill("b")
    data = lab.disks["b"].read(SNAPSHOT_NAME)
    assert data is not None
    lab.disks["b"].write(SNAPSHOT_NAME, data[: len(data) // 2])
    with pytest.raises(CorruptSnapshotError):
        lab.start("b")


# ---- commands ------------------------------------------------------------------------------------


def test_a_callback_that_raises_does_not_run_the_command_again() -> None:
    lab = Lab(ABC)
    lab.elect("a")

    def fail(_outcome: object) -> None:
        raise RuntimeError("a bug of the caller")

    before = lab.next_ids()["a"]
    lab.nodes["a"].submit(c.AllocateProducerIds(1), fail)
    lab.run(1.0)
    assert set(lab.next_ids().values()) == {before + 1}


def test_a_lost_forward_is_repeated_and_runs_once() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    before = lab.next_ids()["a"]
    lab.cut.add(("b", "a"))
    answers = lab.ask("b")
    lab.run(0.5)
    assert answers == []
    lab.cut.clear()
    lab.run(2.0)
    assert [type(answer) for answer in answers] == [Applied]
    assert set(lab.next_ids().values()) == {before + 1}


def test_the_answer_comes_even_if_a_snapshot_jumped_over_the_command() -> None:
    lab = Lab(ABC, compact_entries=5, trailing_entries=0)
    lab.elect("a")
    lab.cut |= {("a", "b"), ("b", "c"), ("c", "b")}
    answers = lab.ask("b")
    lab.run(0.2)
    for _ in range(20):
        lab.ask("a")
        lab.run(0.02)
    lab.cut.clear()
    lab.run(3.0)
    assert [type(answer) for answer in answers] == [Applied]


def test_nothing_leaves_before_it_is_durable() -> None:
    """Whatever a node says, a power cut right after must not make it a lie."""
    lab = Lab(ABC)
    lab.elect("a")
    for name in ABC:
        node = lab.nodes[name]
        send = node.send

        def checked(voter: str, message: object, send: object = send, name: str = name) -> bool:
            result = send(voter, message)  # type: ignore[operator]
            journal = lab.nodes[name]._raft.log
            assert not journal._vote_is_pending
            assert isinstance(message, Append) or not journal._pending
            if isinstance(message, AppendReply) and message.ok:
                lab_disk = lab.disks[name].after_power_cut()
                assert lab_disk.read("journal") is not None
            return bool(result)

        node.send = checked  # type: ignore[method-assign]
    for _ in range(10):
        lab.ask("b")
        lab.run(0.05)


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


def test_leadership_is_handed_over_at_once_when_asked() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.ask("a")
    lab.run(0.3)
    lab.nodes["a"].transfer()
    lab.run(0.1)
    assert [name for name, _ in lab.leaders()] in (["b"], ["c"])


def test_a_request_for_votes_does_not_disturb_those_who_hear_a_leader() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    term = lab.nodes["b"].term
    lab.run(0.2)
    lab.inject("c", "b", Vote(term + 9, 10**6, 10**6, is_pre=False, is_transfer=False))
    assert lab.nodes["b"].term == term


# ---- what a node makes of nonsense ---------------------------------------------------------------


def test_a_node_whose_state_is_not_the_leaders_stops() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    for _ in range(3):
        lab.ask("a")
    lab.run(0.3)
    victim = lab.nodes["b"]
    victim.state = msgspec.structs.replace(victim.state, trail=victim.state.trail ^ 1)
    with pytest.raises(StateDiverged, match="leader a"):
        for _ in range(2 * CHECK_EVERY):
            lab.ask("a")
            lab.run(0.02)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\x93\xa6append", bytes(MESSAGE_SIZE_MAX + 1)], ids=len
)
def test_an_unreadable_message_harms_nobody(data: bytes) -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.nodes["a"].receive("b", data)
    lab.nodes["a"].receive("b", messages.encode(Forward((b"\xc1 no command",))))
    answers = lab.ask("a")
    lab.run(0.3)
    assert [type(answer) for answer in answers] == [Applied]
    assert all(entry[:1] != b"\x00" or c.decode(entry[1:]) for _, _, entry in lab.log("c"))
