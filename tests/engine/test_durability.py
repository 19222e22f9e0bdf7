"""Group commit: few syncs for many appends, and never an acknowledgement before its sync."""

from collections import Counter
from pathlib import Path

import pytest

from engine.backends._memory import MemoryBackend
from engine.durability import FsyncPolicy
from engine.errors import QueueFullError
from tests.engine.support import Rig, make_batch


class Counting(MemoryBackend):
    """Counts what reaches the disk, and the submissions that had anything in them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.submit_count = 0
        super().__init__(on_operation=self._count)

    def _count(self, operation: str, path: Path) -> None:
        if path.suffix == ".log":
            self.counts[operation] += 1

    def submit(self) -> None:
        self.submit_count += bool(self._queued)
        super().submit()


@pytest.mark.parametrize(
    ("text", "is_each", "interval_ms"),
    [("each", True, 0), ("none", False, None), ("1", False, 1), ("60000", False, 60000)],
)
def test_policy_texts(text: str, is_each: bool, interval_ms: int | None) -> None:
    policy = FsyncPolicy.parse(text)
    assert (policy.is_each, policy.interval_ms, str(policy)) == (is_each, interval_ms, text)


@pytest.mark.parametrize("text", ["", "0", "-1", "60001", "1.5", "10ms", "EACH", "\u0663"])
def test_policy_that_cannot_be_meant_names_the_valid_ones(text: str) -> None:
    with pytest.raises(ValueError, match="each, none, or milliseconds"):
        FsyncPolicy.parse(text)


def test_appends_during_a_sync_share_the_next_one() -> None:
    backend = Counting()
    rig = Rig(backend)
    segment = rig.open()
    rig.append(segment)
    rig.settle(segment)
    assert (backend.counts["write"], backend.counts["sync"]) == (1, 1)
    rig.append(segment)
    rig.wal.flush()
    for _ in range(100):
        rig.append(segment)
    rig.wal.flush()
    rig.wal.flush()
    rig.settle(segment)
    assert (backend.counts["write"], backend.counts["sync"]) == (3, 3)


def test_many_dirty_segments_are_one_submission() -> None:
    backend = Counting()
    rig = Rig(backend)
    segments = [rig.open(sid, sid * 100) for sid in range(1, 21)]
    for segment in segments:
        rig.append(segment)
        rig.settle(segment)
    before = backend.submit_count
    for segment in segments:
        rig.append(segment)
    rig.wal.flush()
    rig.wal.reap()
    assert all(segment.durable_offset == segment.end_offset for segment in segments)
    assert backend.submit_count == before + 1


def test_wake_is_called_once_until_flush() -> None:
    rig = Rig(MemoryBackend())
    segment = rig.open()
    for _ in range(5):
        rig.append(segment)
    assert rig.wake_count == 1
    rig.settle(segment)
    rig.append(segment)
    woken = rig.wake_count
    rig.wal.flush()
    rig.append(segment)
    assert rig.wake_count == woken + 1
    rig.append(segment)
    assert rig.wake_count == woken + 1


def test_nothing_is_durable_before_its_sync_under_each() -> None:
    backend = Counting()
    rig = Rig(backend)
    segment = rig.open()
    durable: list[int] = []

    def check(end_offset: int) -> None:
        durable.append(end_offset)
        survivor = backend.crash_clone("none")
        again = Rig(survivor).recover()
        assert again.end_offset >= end_offset

    segment.on_durable = check
    for i in range(20):
        rig.append(segment, count=1 + i % 3)
        if i % 4 == 0:
            rig.wal.flush()
            rig.wal.reap()
    rig.settle(segment)
    assert durable == sorted(durable)
    assert durable[-1] == segment.end_offset


def test_written_is_durable_under_none_and_nothing_is_synced() -> None:
    backend = Counting()
    rig = Rig(backend, policy="none")
    segment = rig.open()
    rig.append(segment)
    rig.settle(segment)
    syncs = backend.counts["sync"]
    for _ in range(10):
        rig.append(segment)
        rig.settle(segment)
        rig.wal.sync_due()
    assert backend.counts["sync"] == syncs


def test_interval_syncs_what_was_written_and_only_that() -> None:
    backend = Counting()
    rig = Rig(backend, policy="50")
    segment, idle = rig.open(), rig.open(2, 100)
    for each in (segment, idle):
        rig.append(each)
        rig.settle(each)
    rig.wal.sync_due()
    rig.wal.reap()
    syncs = backend.counts["sync"]
    for _ in range(10):
        rig.append(segment)
        rig.settle(segment)
    assert backend.counts["sync"] == syncs
    rig.wal.sync_due()
    rig.wal.reap()
    assert backend.counts["sync"] == syncs + 1
    rig.wal.sync_due()
    rig.wal.reap()
    assert backend.counts["sync"] == syncs + 1
    assert Rig(backend.crash_clone("none")).recover().end_offset == segment.end_offset


def test_interval_reaches_a_segment_that_is_always_busy() -> None:
    backend = Counting()
    rig = Rig(backend, policy="50")
    segment = rig.open()
    rig.append(segment)
    rig.settle(segment)
    for _ in range(5):
        rig.append(segment)
        rig.wal.flush()
        rig.append(segment)
        rig.wal.sync_due()
        rig.wal.reap()
    rig.wal.flush()
    rig.wal.reap()
    assert Rig(backend.crash_clone("none")).recover().end_offset > 5


def test_disk_that_does_not_keep_up_pushes_back() -> None:
    rig = Rig(MemoryBackend(), write_queue_size_max=1000)
    segment, other = rig.open(), rig.open(2, 100)
    header, batch = make_batch(0, size=5000)
    segment.append([(header, [batch])])
    with pytest.raises(QueueFullError, match="wait for the disk"):
        rig.append(segment)
    with pytest.raises(QueueFullError):
        rig.append(other)
    assert segment.end_offset == 1
    rig.settle(segment)
    assert rig.wal.queue_size == 0
    rig.append(segment)
    rig.append(other)
    rig.settle(segment)
    rig.settle(other)
