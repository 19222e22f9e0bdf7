"""Join through any node, leave, replace a lost disk; and what must not happen meanwhile."""

from collections.abc import Callable

import pytest

from raft.errors import OutcomeUnknown, RaftError, Stopped
from raft.members import MemberChange, Members
from raft.membership import CONFIRM_S
from raft.messages import Append, MemberReply, MemberRequest
from raft.node import RaftNode
from tests.raft.lab import Lab

ABC = ("a", "b", "c")


class Growing(Lab):
    """A lab to which nodes can be added."""

    def join(self, name: str) -> RaftNode:
        self.add(name)
        node = self.start(name, joins=True)
        for other in self.nodes:
            if other != name:
                self.nodes[other].connected(name)
        return node


def outcome() -> tuple[list[RaftError | None], Callable[[RaftError | None], None]]:
    heard: list[RaftError | None] = []
    return heard, heard.append


def test_a_newcomer_learns_and_then_votes() -> None:
    lab = Growing(ABC)
    lab.elect("a")
    lab.ask("a")
    node = lab.join("d")
    heard, on_done = outcome()
    node.change_members(joins="d", on_done=on_done)
    lab.run(2.0)
    assert heard == [None]
    assert lab.nodes["b"].members == Members(("a", "b", "c", "d"))
    assert node.state.next_producer_id == lab.nodes["a"].state.next_producer_id
    assert node.members == lab.nodes["a"].members


def test_a_newcomer_that_never_registers_makes_no_majority_harder() -> None:
    """Its id is taken, or its disk dies on the first day: nobody would ever take its vote away."""
    allowed: set[str] = set()
    lab = Growing(ABC, may_vote=lambda state, voter: voter in allowed)
    leader = lab.elect("a")
    node = lab.join("d")
    heard, on_done = outcome()
    node.change_members(joins="d", on_done=on_done)
    lab.run(2.0)
    assert heard == [None]
    assert leader.members == Members(ABC, ("d",))
    asked = lab.ask("d")
    lab.run(0.3)
    assert len(asked) == 1, "a learner's commands count: it registers by one"
    allowed.add("d")
    lab.run(1.0)
    assert leader.members == Members((*ABC, "d"))


def test_a_newcomer_that_has_gone_again_makes_no_majority_harder() -> None:
    allowed: set[str] = set()
    lab = Growing(ABC, may_vote=lambda state, voter: voter in allowed)
    leader = lab.elect("a")
    heard, on_done = outcome()
    lab.join("d").change_members(joins="d", on_done=on_done)
    lab.run(2.0)
    assert heard == [None]
    lab.kill("d")
    leader.disconnected("d")
    allowed.add("d")
    lab.run(1.0)
    assert leader.members == Members(ABC, ("d",))


def test_a_newcomer_that_has_acknowledged_nothing_makes_no_majority_harder() -> None:
    lab = Growing(ABC)
    leader = lab.elect("a")
    lab.join("d")
    lab.cut.add(("d", "a"))
    heard, on_done = outcome()
    lab.nodes["b"].change_members(joins="d", on_done=on_done)
    lab.run(2.0)
    assert heard == [None]
    assert leader.members == Members(ABC, ("d",))
    lab.cut.clear()
    lab.run(1.0)
    assert leader.members == Members((*ABC, "d"))


def test_a_newcomer_may_knock_anywhere_and_a_wish_may_be_repeated() -> None:
    lab = Growing(ABC)
    lab.elect("a")
    lab.join("d")
    heard, on_done = outcome()
    for _ in range(2):
        lab.nodes["b"].change_members(joins="d", on_done=on_done)
    lab.run(2.0)
    assert heard == [None, None]
    assert lab.nodes["c"].members.voters == ("a", "b", "c", "d")


def test_who_was_not_let_in_never_leads() -> None:
    lab = Growing(ABC)
    node = lab.join("d")
    lab.run(5.0)
    assert not node.is_leader
    assert node.term == 0


def test_a_voter_whose_disk_is_gone_is_replaced_under_a_new_id() -> None:
    lab = Growing(ABC)
    lab.elect("a")
    lab.kill("c")
    node = lab.join("c2")
    heard, on_done = outcome()
    node.change_members(joins="c2", leaves="c", on_done=on_done)
    lab.run(2.0)
    assert heard == [None]
    assert lab.nodes["a"].members == Members(("a", "b", "c2"))


def test_a_leader_that_leaves_hands_over_first() -> None:
    lab = Growing(ABC)
    leader = lab.elect("a")
    heard, on_done = outcome()
    leader.change_members(leaves="a", on_done=on_done)
    lab.run(3.0)
    assert heard == [None]
    assert lab.nodes["b"].members == lab.nodes["c"].members == Members(("b", "c"))
    assert not leader.is_leader


def test_a_voter_that_leaves_while_another_is_dead_does_not_take_the_majority_along() -> None:
    lab = Growing(ABC)
    leader = lab.elect("a")
    lab.kill("c")
    lab.run(1.5)
    heard, on_done = outcome()
    leader.change_members(leaves="b", on_done=on_done, timeout_s=20.0)
    lab.run(2.0)
    asked = lab.ask("b")
    lab.run(0.5)
    assert len(asked) == 1 and not heard, "the two that live still decide"
    lab.start("c")
    lab.run(5.0)
    assert heard == [None]
    assert leader.members == Members(("a", "c"))


def test_without_a_majority_nobody_is_told_that_it_is_done() -> None:
    lab = Growing(ABC)
    lab.elect("a")
    lab.isolate("a")
    heard, on_done = outcome()
    lab.nodes["a"].change_members(leaves="c", on_done=on_done, timeout_s=1.0)
    lab.run(1.2)
    assert [type(each) for each in heard] == [OutcomeUnknown]
    lab.elect("b")
    lab.cut.clear()
    lab.run(0.5)
    assert lab.nodes["a"].members == Members(ABC)


def test_nobody_is_told_that_a_voter_has_left_by_a_node_that_never_saw_it_join() -> None:
    """Whoever believes it takes the machine away, and perhaps the majority with it."""
    lab = Growing(ABC)
    lab.elect("a")
    lab.isolate("c")
    heard, on_done = outcome()
    lab.join("d").change_members(joins="d", on_done=on_done)
    lab.run(2.0)
    assert heard == [None]
    behind, on_behind = outcome()
    lab.nodes["c"].change_members(leaves="d", on_done=on_behind, timeout_s=1.0)
    lab.run(1.2)
    assert [type(each) for each in behind] == [OutcomeUnknown]
    assert lab.nodes["a"].members == Members((*ABC, "d"))


def test_nobody_is_told_that_a_voter_has_left_by_a_leader_that_was_deposed_before_it_joined() -> (
    None
):
    lab = Growing(ABC)
    deposed = lab.elect("a")
    lab.run(0.5)
    lab.isolate("a")
    lab.elect("b")
    node = lab.join("d")
    lab.cut |= {("a", "d"), ("d", "a")}
    heard, on_done = outcome()
    node.change_members(joins="d", on_done=on_done)
    lab.run(0.6)
    assert heard == [None]
    behind, on_behind = outcome()
    deposed.change_members(leaves="d", on_done=on_behind, timeout_s=1.0)
    lab.run(1.2)
    assert [type(each) for each in behind] == [OutcomeUnknown]
    assert "d" in lab.nodes["b"].members


@pytest.mark.parametrize("case", ["answered", "forgotten", "another's", "of an earlier reign"])
def test_nobody_is_told_that_a_voter_has_left_because_somebody_asked_before_it_joined(
    case: str,
) -> None:
    """What was proven then says nothing of now: the leader was deposed since, and does not know."""
    lab = Growing(ABC)
    deposed = lab.elect("a")
    lab.run(0.3)
    asked_at = lab.now
    if case == "another's":
        lab.inject("c", "a", MemberRequest(MemberChange("", "d")))
        lab.run(0.15)
    else:
        timeout_s = 10.0 if case == "answered" else 0.05
        first, on_first = outcome()
        deposed.change_members(leaves="d", on_done=on_first, timeout_s=timeout_s)
        lab.run(0.15)
        assert (first == [None]) == (case == "answered")
    if case == "of an earlier reign":
        lab.elect("b", 0.05)
        lab.elect("a", 0.05)
        assert deposed.is_leader
    lab.isolate("a")
    lab.elect("b", 0.05)
    node = lab.join("d")
    lab.cut |= {("a", "d"), ("d", "a")}
    heard, on_done = outcome()
    node.change_members(joins="d", on_done=on_done)
    while not heard:
        lab.run(0.01)
    if case == "forgotten":
        lab.run(asked_at + CONFIRM_S + 0.1 - lab.now)
    else:
        assert lab.now < asked_at + CONFIRM_S
    behind, on_behind = outcome()
    deposed.change_members(leaves="d", on_done=on_behind, timeout_s=0.3)
    lab.run(0.5)
    assert [type(each) for each in behind] == [OutcomeUnknown]
    assert deposed.is_leader
    assert "d" in lab.nodes["b"].members


def test_an_answer_settles_only_the_wish_it_speaks_of() -> None:
    lab = Growing(ABC)
    lab.isolate("b")
    heard, on_done = outcome()
    lab.nodes["b"].change_members(leaves="c", on_done=on_done)
    lab.run(0.1)
    lab.inject("a", "b", MemberReply(MemberChange("d", "")))
    assert heard == []
    lab.inject("a", "b", MemberReply(MemberChange("", "c")))
    assert heard == [None]


def test_who_waits_for_a_change_is_told_when_the_node_stops() -> None:
    lab = Growing(ABC)
    lab.isolate("b")
    heard, on_done = outcome()
    lab.nodes["b"].change_members(leaves="c", on_done=on_done)
    lab.run(0.1)
    lab.nodes["b"].stop()
    assert [type(each) for each in heard] == [Stopped]


def test_leadership_goes_to_somebody_who_is_there_and_has_the_log() -> None:
    lab = Growing(ABC)
    leader = lab.elect("a")
    lab.run(0.3)
    lab.cut.add(("a", "c"))
    lab.ask("a")
    lab.run(0.3)
    leader.transfer()
    lab.run(0.2)
    assert [name for name, _ in lab.leaders()] == ["b"], "c lacks an entry"
    lab.cut.clear()
    lab.run(0.3)
    lab.kill("c")
    lab.nodes["b"].disconnected("c")
    lab.nodes["b"].transfer()
    lab.run(0.2)
    assert [name for name, _ in lab.leaders()] == ["a"], "c is dead"


def test_a_change_waits_for_the_one_before_it() -> None:
    lab = Growing(ABC)
    leader = lab.elect("a")
    lab.cut |= {("a", "b"), ("a", "c")}
    assert leader._raft.change_members(Members(("a", "b")))
    assert not leader._raft.change_members(Members(("a",)))


def test_only_a_leader_changes_members_and_only_one_voter_at_a_time() -> None:
    lab = Growing(ABC)
    leader = lab.elect("a")
    lab.run(0.3)
    before = lab.log("b")
    assert not lab.nodes["b"]._raft.change_members(Members(("a", "b")))
    assert not leader._raft.change_members(Members(("a",)))
    assert not leader._raft.change_members(Members(("a", "x", "y", "c")))
    assert lab.log("a") == lab.log("b") == before


def test_who_comes_after_five_voters_learns_and_votes_when_one_of_them_goes() -> None:
    lab = Growing("abcde")
    leader = lab.elect("a")
    for name in "fg":
        lab.join(name).change_members(joins=name, on_done=lambda _error: None)
    lab.run(2.0)
    assert leader.members == Members(tuple("abcde"), ("f", "g"))
    lab.ask("g")
    lab.run(0.3)
    assert lab.nodes["f"].state == lab.nodes["g"].state == leader.state
    heard, on_done = outcome()
    lab.nodes["c"].change_members(leaves="e", on_done=on_done)
    lab.run(2.0)
    assert heard == [None]
    assert len(leader.members.voters) == 5
    assert len(leader.members.learners) == 1


def test_a_new_leader_changes_nobody_before_its_own_term_is_committed() -> None:
    """Until then it may not know of a change that its predecessor committed."""
    lab = Growing("abcd")
    lab.elect("a")
    lab.run(0.3)
    raft = lab.elect("b", 0.0)._raft
    while not raft.is_leader:
        lab.run(0.01)
    assert raft.commit_index < raft.log.last_index
    assert not raft.change_members(Members(("a", "b", "c")))
    lab.run(0.3)
    assert raft.change_members(Members(("a", "b", "c")))


def test_a_change_whose_entry_was_overruled_counts_no_more() -> None:
    """At once. The first entry of every term names the members again, and a change is made only
    behind a committed one of its own term; so this is the second lock of that door, and the scene
    has to pick the first."""
    lab = Growing("abcd")
    lab.elect("b")
    lab.run(0.3)
    term = lab.nodes["b"].term
    index, prev_term, _ = lab.log("a")[-1]
    raft = lab.elect("a")._raft
    lab.run(0.3)
    lab.isolate("a")
    assert raft.change_members(Members(("a", "b", "c")))
    assert raft.members == Members(("a", "b", "c"))
    raft._SyncObj__raftCommitIndex = raft.log._commit_index = index
    late = Append(raft.term + 1, index, prev_term, 0, ((term, b"\x00regular"),))
    lab.inject("b", "a", late)
    assert raft.members == Members(("a", "b", "c", "d"))


def test_members_survive_a_restart_with_and_without_a_snapshot() -> None:
    for compact_entries in (5, 4096):
        lab = Growing(ABC, compact_entries=compact_entries, trailing_entries=0)
        lab.elect("a")
        node = lab.join("d")
        heard, on_done = outcome()
        node.change_members(joins="d", on_done=on_done)
        lab.run(2.0)
        for _ in range(20):
            lab.ask("a")
        lab.run(0.5)
        assert heard == [None]
        for name in ("a", "d"):
            lab.kill(name, power=True)
            assert lab.start(name).members == Members(("a", "b", "c", "d"))
