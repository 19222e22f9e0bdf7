"""Snapshots at work: one at a time, labelled by what is in them, and never backwards."""

import random
from collections.abc import Callable

from raft import snapshot
from raft.members import Members
from raft.messages import BATCH_SIZE, Chunk, ChunkReply
from raft.snapshot import Snapshot
from raft.snapshotter import Snapshotter
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
