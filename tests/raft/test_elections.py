"""Two leaders in a term, and a leader that lacks what is committed."""

from raft.commands import Applied
from raft.messages import Vote, VoteReply
from tests.raft.lab import Lab

ABC = ("a", "b", "c")


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
