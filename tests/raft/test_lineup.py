"""Members that a log, or a snapshot instead of it, names."""

from raft.members import Members
from tests.raft.lab import Lab

ABC = ("a", "b", "c")


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
