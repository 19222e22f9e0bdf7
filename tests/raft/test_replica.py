"""One scene for each rule of the protocol: what a user would lose without it.

`tests/sim/raft/test_faults.py` takes the rules away one by one, and sees that these notice."""

from collections.abc import Callable

import pytest

from raft import commands as c
from raft import messages, snapshot
from raft.commands import Applied
from raft.errors import CorruptJournalError, NoLeader, RaftError
from raft.journal import JOURNAL_NAME, Journal
from raft.members import Members
from raft.messages import Append, AppendReply, TimeoutNow, Vote, VoteReply
from raft.snapshot import Snapshot
from raft.state import EMPTY
from tests.raft.lab import Lab
from tests.sim.raft.disk import PowerCut, SimDisk

ABC = ("a", "b", "c")


# ---- durability ----------------------------------------------------------------------------------


def test_what_is_answered_is_durable_at_that_moment() -> None:
    lab = Lab("a")
    for _ in range(10):
        at_answer: list[SimDisk] = []
        lab.nodes["a"].submit(
            c.AllocateProducerIds(1),
            lambda _answer, found=at_answer: found.append(lab.disks["a"].after_power_cut()),  # type: ignore[misc]
        )
        lab.run(0.1)
        before = lab.next_ids()
        lab.kill("a")
        (lab.disks["a"],) = at_answer
        lab.start("a")
        assert lab.next_ids() == before


def test_snapshots_and_trimmed_logs_survive_power_cuts() -> None:
    lab = Lab("a", compact_entries=3, trailing_entries=0)
    for _ in range(20):
        answers = lab.ask("a")
        before = lab.next_ids()
        lab.kill("a", power=True)
        lab.start("a")
        assert [type(answer) for answer in answers] == [Applied]
        assert lab.next_ids() == before


def test_a_power_cut_takes_nothing_that_a_restart_has_read_back() -> None:
    """The process was killed before a sync that it owed; the next one votes and acknowledges by
    what it found."""
    lab = Lab("a")
    lab.ask("a")

    def die(operation: str) -> None:
        if operation == f"sync {JOURNAL_NAME}":
            raise PowerCut

    lab.disks["a"].on_operation = die
    with pytest.raises(PowerCut):
        lab.ask("a")
    lab.kill("a")
    found = lab.start("a")._journal[:]
    for _ in range(20):
        assert Journal(lab.disks["a"].after_power_cut())[:] == found


def test_a_torn_last_write_is_cut_off_before_anything_follows_it() -> None:
    lab = Lab("a")
    lab.ask("a")
    lab.kill("a")
    data = lab.disks["a"].read(JOURNAL_NAME)
    assert data is not None
    lab.disks["a"].write(JOURNAL_NAME, data + b"\x30\x00\x00\x00 and no more")
    lab.start("a")
    lab.ask("a")
    before = lab.next_ids()
    lab.kill("a")
    lab.start("a")
    assert lab.next_ids() == before


def test_a_journal_with_a_flipped_bit_is_refused() -> None:
    lab = Lab("a")
    for _ in range(3):
        lab.ask("a")
    lab.kill("a")
    data = bytearray(lab.disks["a"].read(JOURNAL_NAME) or b"")
    data[len(data) // 2] ^= 1
    lab.disks["a"].write(JOURNAL_NAME, bytes(data))
    with pytest.raises(CorruptJournalError):
        lab.start("a")


def test_a_log_is_whole_until_its_snapshot_is_durable() -> None:
    lab = Lab("a", compact_entries=5, trailing_entries=0, spawn=_never)
    for _ in range(20):
        lab.ask("a")
    before = lab.next_ids()
    lab.kill("a")
    lab.start("a")
    assert lab.next_ids() == before


def test_a_voter_knows_its_vote_after_any_number_of_restarts() -> None:
    lab = Lab(ABC)
    lab.elect("a", 0.05)
    term = lab.nodes["a"].term
    for _ in range(30):
        lab.kill("c", power=True)
        raft = lab.start("c")._raft
        assert (raft.term, raft._SyncObj__votedForNodeId) == (term, "a")


def test_a_term_is_durable_before_its_entries_leave() -> None:
    """Else the same leader, back from a power cut, writes others into the same term."""
    lab = Lab(ABC)
    node = lab.nodes["a"]
    node._raft.log.setCurrentTerm(7, "a")
    node.send("b", Append(7, 1, 0, 1, ()))
    lab.kill("a", power=True)
    raft = lab.start("a")._raft
    assert (raft.term, raft._SyncObj__votedForNodeId) == (7, "a")


# ---- snapshots -----------------------------------------------------------------------------------


def test_who_left_counts_no_more_after_a_restart_from_a_snapshot() -> None:
    lab = Lab(ABC, compact_entries=5, trailing_entries=0)
    leader = lab.elect("a")
    lab.run(0.3)
    assert leader._raft.change_members(Members(("a", "b")))
    lab.run(0.3)
    for _ in range(20):
        lab.ask("a")
        lab.run(0.02)
    lab.kill("a", power=True)
    assert lab.start("a").members == Members(("a", "b"))


def test_a_snapshot_names_the_members_of_its_own_entry() -> None:
    """A later change may still be overruled; whoever starts from the snapshot would not know."""
    lab = Lab(ABC)
    leader = lab.elect("a")
    lab.run(0.3)
    lab.isolate("a")
    assert leader._raft.change_members(Members(("a", "b")))
    leader.take_snapshot()
    taken = snapshot.load(lab.disks["a"])
    assert taken is not None
    assert taken.members == Members(ABC)


def test_a_snapshot_that_the_log_has_overtaken_takes_nothing_back() -> None:
    """It takes a while to make it durable, and the log goes on meanwhile."""
    lab = Lab(ABC)
    lab.elect("a")
    lab.ask("a")
    lab.run(0.3)
    node = lab.nodes["b"]
    raft, before = node._raft, node.state
    early = Snapshot(raft.applied_index - 1, raft.term, raft.members, EMPTY)
    node._installed(early)
    assert node.state is before


def test_a_snapshot_of_many_pieces_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raft.transfer.BATCH_SIZE", 50)
    lab = Lab(ABC, compact_entries=10, trailing_entries=0)
    lab.elect("a")
    lab.isolate("c")
    for _ in range(30):
        lab.ask("a")
        lab.run(0.02)
    lab.cut.clear()
    lab.run(3.0)
    assert len(set(lab.next_ids().values())) == 1


# ---- messages ------------------------------------------------------------------------------------


def test_entries_of_a_deposed_leader_are_not_taken() -> None:
    lab = Lab(ABC)
    old = lab.elect("a")
    last = lab.log("a")[-1]
    term = old.term
    lab.elect("b")
    lab.run(0.3)
    before = lab.log("c")
    lab.inject("a", "c", Append(term, last[0], last[1], 0, ((term, b"\x00late"),)))
    assert lab.log("c") == before
    assert lab.nodes["c"].leader == "b"


def test_a_leader_that_reaches_nobody_commits_nothing() -> None:
    lab = Lab(ABC)
    leader = lab.elect("a")
    commit_index = leader.commit_index
    lab.isolate("a")
    answers = lab.ask("a")
    lab.run(0.5)
    assert answers == []
    assert leader.commit_index == commit_index


def test_entries_are_taken_only_behind_those_the_leader_has_there() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.isolate("a")
    for _ in range(5):
        lab.ask("a", c.FormCluster("ghost"))
    lab.elect("b")
    lab.ask("b", c.FormCluster("real"))
    lab.ask("b")
    lab.run(0.3)
    node, log = lab.nodes["b"], lab.log("b")
    (_, prev_term, _), (index, term, command) = log[-2:]
    commit_index = lab.nodes["a"].commit_index
    lab.inject("b", "a", Append(node.term, index - 1, prev_term, index, ((term, command),)))
    assert lab.nodes["a"].commit_index == commit_index
    assert lab.nodes["a"].state.cluster_id == ""


def test_a_log_that_contradicts_a_snapshot_goes() -> None:
    lab = Lab(ABC, compact_entries=10, trailing_entries=0)
    lab.elect("a")
    lab.isolate("a")
    lab.append("a", 40)
    lab.elect("b")
    for _ in range(25):
        lab.ask("b")
        lab.run(0.02)
    lab.cut.clear()
    lab.run(3.0)
    assert lab.nodes["a"].state == lab.nodes["b"].state
    assert lab.log("a") == lab.log("b")


def test_a_deposed_leader_is_told_of_the_new_term() -> None:
    lab = Lab(ABC)
    term = lab.elect("a").term
    lab.elect("b")
    lab.held.add(("c", "a"))
    lab.inject("a", "c", Append(term, 1, 0, 0, ()))
    reply = messages.decode(lab.wires["c", "a"][-1])
    assert isinstance(reply, AppendReply)
    assert (reply.ok, reply.term) == (False, lab.nodes["b"].term)


def test_entries_from_before_the_beginning_of_a_log_are_agreed_to() -> None:
    """They are in the snapshot that it begins after; what it has behind them stays."""
    lab = Lab(ABC, compact_entries=10, trailing_entries=0)
    lab.elect("a")
    for _ in range(30):
        lab.ask("a")
        lab.run(0.02)
    follower = lab.nodes["b"]
    before, term = lab.log("b"), follower.term
    assert follower._raft.log.first_index > 8
    lab.held.add(("b", "a"))
    entries = ((term, b"\x00old"),) * 3
    lab.inject("a", "b", Append(term, 4, term, 7, entries))
    assert messages.decode(lab.wires["b", "a"][-1]) == AppendReply(term, ok=True, index=7)
    assert lab.log("b") == before


# ---- elections -----------------------------------------------------------------------------------


def test_a_voter_has_one_vote_in_a_term() -> None:
    lab = Lab(ABC)
    lab.isolate("a")
    lab.isolate("b")
    raft = lab.nodes["c"]._raft
    granted = []
    for name in ("a", "b", "a"):
        lab.cut.clear()
        lab.inject(name, "c", Vote(raft.term or 1, 1, 0, is_pre=False, is_transfer=True))
        granted.append(_last_vote(lab, "c", name).granted)
    assert granted == [True, False, True]


def test_a_term_that_is_over_gets_no_more_votes() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    term = lab.nodes["a"].term
    lab.elect("b")
    last = lab.log("b")[-1]
    lab.held |= {("c", "a")}
    lab.inject("a", "c", Vote(term, last[0], last[1], is_pre=False, is_transfer=True))
    assert not _last_vote(lab, "c", "a").granted


def test_votes_of_several_terms_do_not_add_up() -> None:
    lab = Lab("abcde")
    lab.isolate("a")
    for voter in "bc":
        lab.elect("a", 0.0)
        raft = lab.nodes["a"]._raft
        lab.inject(voter, "a", VoteReply(raft.term, is_pre=False, granted=True))
        assert not raft.is_leader


def test_a_long_log_of_an_old_term_is_not_up_to_date() -> None:
    lab = Lab(ABC)
    term = lab.elect("a").term
    lab.elect("b")
    lab.run(0.3)
    lab.held.add(("c", "a"))
    lab.inject("a", "c", Vote(term + 9, 10**6, term, is_pre=False, is_transfer=True))
    assert not _last_vote(lab, "c", "a").granted


def test_a_leader_forgets_what_the_others_had_when_it_led_before() -> None:
    """Somebody else may have overruled it since."""
    lab = Lab(ABC)
    raft = lab.elect("a")._raft
    lab.ask("a")
    lab.run(0.3)
    assert raft.match_index("b") == raft.match_index("c") > 1
    lab.elect("b")
    lab.elect("a", 0.0)
    while not raft.is_leader:
        lab.run(0.01)
    assert raft.match_index("b") == raft.match_index("c") == 0


def test_half_of_the_voters_elect_nobody() -> None:
    lab = Lab("abcd")
    lab.cut |= {(one, other) for one in "ab" for other in "cd"}
    lab.cut |= {(other, one) for one, other in lab.cut}
    lab.elect("a")
    lab.elect("c")
    assert lab.leaders() == []


def test_of_a_new_term_nobody_is_known_to_lead() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.run(0.3)
    follower = lab.nodes["b"]
    assert follower.leader == "a"
    lab.inject("c", "b", VoteReply(follower.term + 1, is_pre=False, granted=False))
    assert follower.leader is None


def test_only_the_leader_asks_somebody_to_take_over() -> None:
    lab = Lab(ABC)
    term = lab.elect("a").term
    lab.run(0.3)
    lab.inject("c", "b", TimeoutNow(term))
    lab.run(0.3)
    assert lab.leaders() == [("a", term)]


def test_who_loses_its_vote_before_it_can_stand_does_not_stand() -> None:
    """A leader asked it to take over, and then let it go."""
    lab = Lab("abcd")
    leader = lab.elect("a")
    lab.run(0.3)
    term = leader.term
    node = lab.nodes["b"]
    assert leader._raft.change_members(Members(("a", "c", "d")))
    entries = tuple((term, command) for command, _, _ in leader._raft.log[-1:])
    index, prev_term, _ = lab.log("b")[-1]
    node.receive("a", messages.encode(TimeoutNow(term)))
    node.receive("a", messages.encode(Append(term, index, prev_term, index, entries)))
    node.tick()
    assert not node._raft.is_voter
    assert node.term == term
    lab.run(1.0)
    assert lab.leaders() == [("a", term)]


# ---- answers -------------------------------------------------------------------------------------


def test_an_answer_goes_to_the_process_whose_command_it_is() -> None:
    """Every process numbers its commands from one on."""
    lab = Lab(ABC)
    lab.elect("a")
    lab.cut |= {("b", "a"), ("b", "c")}
    answers = lab.ask("b", c.FormCluster("b"))
    assert lab.nodes["b"]._proposals._sequence == 1
    lab.ask("a")
    lab.run(0.3)
    assert lab.next_ids()["b"] == lab.next_ids()["a"]
    assert answers == []


def test_a_command_whose_answer_was_slow_runs_once() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    before = lab.next_ids()["a"]
    lab.held.add(("a", "b"))
    answers = lab.ask("b")
    lab.run(1.5)
    lab.held.clear()
    lab.run(1.0)
    assert [type(answer) for answer in answers] == [Applied]
    assert set(lab.next_ids().values()) == {before + 1}


def test_nobody_is_told_that_a_command_is_void_which_may_still_take_effect() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    before = lab.next_ids()["a"]
    lab.cut |= {("a", "c"), ("c", "a"), ("b", "a")}
    answers: list[Applied | RaftError] = []
    lab.nodes["a"].submit(c.AllocateProducerIds(1), answers.append, timeout_s=0.5)
    lab.run(1.2)
    assert not any(isinstance(answer, NoLeader) for answer in answers)
    lab.cut.clear()
    lab.isolate("a")
    lab.elect("b")
    lab.run(0.3)
    assert lab.nodes["c"].state.next_producer_id == before + 1


def test_a_barrier_shows_what_others_were_answered_before_it() -> None:
    lab = Lab(ABC)
    lab.elect("a")
    lab.run(0.3)
    lab.isolate("b")
    answered = lab.ask("a")
    lab.run(0.2)
    assert [type(answer) for answer in answered] == [Applied]
    barrier = lab.ask("b", c.Barrier())
    lab.run(0.2)
    assert barrier == []
    lab.cut.clear()
    lab.run(2.0)
    assert [type(answer) for answer in barrier] == [Applied]
    assert len(set(lab.next_ids().values())) == 1


def _never(_work: Callable[[], None]) -> Callable[[], None]:
    return lambda: None


def _last_vote(lab: Lab, voter: str, candidate: str) -> VoteReply:
    replies = [messages.decode(data) for data in lab.wires[voter, candidate]]
    return [reply for reply in replies if isinstance(reply, VoteReply)][-1]
