"""A member that is behind the log: what a snapshot brings it, and what it must not take away."""

from unittest.mock import patch

import pytest

from raft import commands as c
from raft import messages
from raft.errors import CorruptSnapshotError
from raft.members import Members
from raft.messages import Chunk, ChunkReply
from raft.snapshot import SNAPSHOT_NAME
from tests.raft.lab import Lab

ABC = ("a", "b", "c")


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
