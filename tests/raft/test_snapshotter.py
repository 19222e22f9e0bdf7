"""Snapshots at work: one at a time, labelled by what is in them, and never backwards."""

import random
from collections.abc import Callable

import pytest

from raft import snapshot
from raft.errors import CorruptSnapshotError
from raft.journal import Journal
from raft.members import Members
from raft.messages import BATCH_SIZE, Chunk, ChunkReply
from raft.snapshot import SNAPSHOT_NAME, Snapshot
from raft.snapshotter import Snapshotter, open_journal
from raft.state import EMPTY
from tests.sim.raft.disk import SimDisk


class Bench:
    """A snapshotter whose other thread and whose queue the test runs by hand."""

    def __init__(self) -> None:
        self.disk = SimDisk(random.Random(1))
        self.threads: list[Callable[[], None]] = []
        self.queue: list[Callable[[], None]] = []
        self.snapshots = Snapshotter(self.disk, self._spawn, self.queue.append)
        self.installed: list[Snapshot] = []

    def _spawn(self, work: Callable[[], None]) -> Callable[[], None]:
        self.threads.append(work)
        return lambda: None

    def run(self) -> None:
        while self.threads:
            self.threads.pop()()
        while self.queue:
            self.queue.pop(0)()

    def take(self, index: int) -> None:
        self.snapshots.take(taken(index), lambda: None)

    def receive(self, index: int, *, applied_index: int = 0) -> ChunkReply:
        data = b"".join(snapshot.encode(taken(index)))
        assert len(data) < BATCH_SIZE
        chunk = Chunk(1, index, 0, len(data), data)
        return self.snapshots.received("a", chunk, applied_index, self.installed.append)


def taken(index: int) -> Snapshot:
    return Snapshot(index, 1, Members(("a",)), EMPTY)


def test_what_is_sent_is_labelled_by_what_it_is() -> None:
    """The file may have been replaced by the other thread before this one heard of it."""
    bench = Bench()
    bench.take(5)
    bench.run()
    bench.take(9)
    bench.threads.pop()()
    chunk = bench.snapshots.next_chunk("b", 1, 0.0)
    assert bench.snapshots.index == 5
    assert chunk is not None
    assert chunk.index == snapshot.index_of(chunk.data, "test") == 9


def test_a_snapshot_that_arrived_while_ours_is_written_waits() -> None:
    bench = Bench()
    bench.take(5)
    assert bench.receive(9) == ChunkReply(1, 9, len(b"".join(snapshot.encode(taken(9)))), False)
    assert len(bench.threads) == 1
    bench.run()
    assert bench.snapshots.index == 5
    bench.receive(9)
    bench.run()
    assert [each.index for each in bench.installed] == [9]
    assert bench.snapshots.index == 9


def test_a_snapshot_that_is_no_news_is_answered_as_installed() -> None:
    bench = Bench()
    bench.take(5)
    bench.run()
    assert bench.receive(5).installed
    assert bench.receive(7, applied_index=8).installed
    assert bench.threads == []


def test_a_damaged_one_is_dropped_and_asked_for_again() -> None:
    bench = Bench()
    chunk = Chunk(1, 9, 0, 100, bytes(100))
    bench.snapshots.received("a", chunk, 0, bench.installed.append)
    bench.run()
    assert bench.installed == []
    assert not bench.snapshots.is_busy
    bench.receive(9)
    bench.run()
    assert [each.index for each in bench.installed] == [9]


def test_a_damaged_one_leaves_our_own_where_it_is() -> None:
    """Or the next start would find no state at all, and refuse."""
    bench = Bench()
    bench.take(5)
    bench.run()
    ours = bench.disk.read(SNAPSHOT_NAME)
    chunk = Chunk(1, 9, 0, 100, bytes(100))
    bench.snapshots.received("a", chunk, 0, bench.installed.append)
    bench.run()
    assert bench.disk.read(SNAPSHOT_NAME) == ours
    assert bench.snapshots.index == 5


# ---- a crash between the snapshot and the journal ------------------------------------------------


def journal_of(last_index: int, commit_index: int) -> SimDisk:
    """Entries 2 to `last_index`, of term 1."""
    disk = SimDisk(random.Random(1))
    journal = Journal(disk)
    for index in range(2, last_index + 1):
        journal.add(b"\x00", index, 1)
    journal.setRaftCommitIndex(commit_index)
    journal.sync()
    journal.flush()
    return disk


def snapshot_of(index: int, term: int) -> Snapshot:
    return Snapshot(index, term, Members(("a",)), EMPTY)


def test_entries_that_a_snapshot_has_overruled_do_not_come_back_after_a_crash() -> None:
    disk = journal_of(6, 2)
    journal = open_journal(disk, snapshot_of(4, 3))
    assert (journal.first_index, journal.last_index, journal.term_at(4)) == (4, 4, 3)
    assert Journal(disk).last_index == 4


def test_what_a_snapshot_holds_is_committed_after_a_crash_and_what_lies_behind_it_stays() -> None:
    journal = open_journal(journal_of(6, 2), snapshot_of(4, 1))
    assert (journal.getRaftCommitIndex(), journal.last_index) == (4, 6)


def test_a_snapshot_that_contradicts_what_was_committed_is_refused() -> None:
    with pytest.raises(CorruptSnapshotError, match="has committed another one"):
        open_journal(journal_of(6, 5), snapshot_of(4, 3))
