"""Small durable writes lie on zeros that were written before, and the power may go in each of
them."""

import random
from pathlib import Path

import pytest

from engine import write_queue
from engine.backends._memory import MemoryBackend
from engine.backends._pread import PreadBackend
from engine.batch import parse_header
from engine.errors import CorruptSegmentError
from engine.segment import Segment
from engine.write_queue import LONE_COUNT_MIN, WRITE_SIZE_MAX, ZEROS_SIZE_MAX, WriteQueue
from tests.engine.support import DISK, LOG, Rig, filled


def lone(rig: Rig, segment: Segment, count: int, *, size: int = 1000) -> list[bytes]:
    """So many batches, each durable before the next."""
    batches = []
    for _ in range(count):
        batches.append(rig.append(segment, size=size))
        rig.settle(segment)
    return batches


def tail(backend: MemoryBackend, segment: Segment) -> bytes:
    """What the file has behind the log's end."""
    return bytes(backend.fs.contents(LOG)[segment.size :])


def on_zeros(backend: MemoryBackend) -> tuple[Rig, Segment, list[bytes]]:
    """A segment with zeros behind its batches."""
    rig = Rig(backend)
    segment = rig.open()
    written = lone(rig, segment, LONE_COUNT_MIN * 2)
    assert tail(backend, segment)
    return rig, segment, written


# -- what lies where


def test_lone_writes_make_the_file_longer_once_in_many(backend: MemoryBackend) -> None:
    rig = Rig(backend)
    segment = rig.open()
    lone(rig, segment, 200)
    lengths = set()
    for _ in range(100):
        lone(rig, segment, 1)
        lengths.add(backend.fs.path_size(LOG))
        assert not tail(backend, segment).strip(b"\0")
    assert len(lengths) <= 3
    assert max(lengths) > segment.size


def test_a_log_is_never_more_than_half_zeros(backend: MemoryBackend) -> None:
    rig = Rig(backend)
    segment = rig.open()
    lone(rig, segment, LONE_COUNT_MIN - 1, size=10)
    assert tail(backend, segment) == b"", "a topic that is hardly used takes no room"
    for _ in range(300):
        lone(rig, segment, 1, size=500)
        assert len(tail(backend, segment)) <= min(segment.size, ZEROS_SIZE_MAX)


def test_a_large_write_takes_no_zeros_along(backend: MemoryBackend) -> None:
    rig = Rig(backend)
    segment = rig.open()
    lone(rig, segment, LONE_COUNT_MIN * 2, size=WRITE_SIZE_MAX)
    assert tail(backend, segment) == b""


@pytest.mark.parametrize("policy", ["none", "50"])
def test_writes_without_their_own_sync_get_no_zeros(backend: MemoryBackend, policy: str) -> None:
    rig = Rig(backend, policy=policy)
    segment = rig.open()
    lone(rig, segment, LONE_COUNT_MIN * 2)
    assert tail(backend, segment) == b""


def test_batches_that_waited_are_written_together_without_zeros(backend: MemoryBackend) -> None:
    rig, segment, written = on_zeros(backend)
    cuts: list[int] = []
    backend.fs.on_operation = lambda name, _: (
        cuts.append(len(tail(backend, segment))) if name == "truncate" else None
    )
    for _ in range(3):
        written += [rig.append(segment) for _ in range(5)]
        rig.settle(segment)
    assert len(cuts) == 1
    assert tail(backend, segment) == b""
    assert backend.fs.contents(LOG) == b"".join(written)


def test_zeros_that_were_in_the_way_come_back_late_and_later() -> None:
    queue = WriteQueue(0, may_use_zeros=True)
    size, position, counts = 1000, 10**6, []
    for _ in range(3):
        count = 0
        while not queue.zeros_size:
            queue.add([bytes(size)], size, 0, batch_count=1)
            queue.written(queue.take(position))
            count += 1
        counts.append(count)
        queue.zeros_are_cut()
    assert counts == [LONE_COUNT_MIN, 2 * LONE_COUNT_MIN, 4 * LONE_COUNT_MIN]


def test_a_disk_that_cannot_cut_the_zeros_fails_the_segment(backend: MemoryBackend) -> None:
    rig, segment, _ = on_zeros(backend)
    failures: list[OSError] = []
    segment.on_failed = failures.append
    backend.fail_next("truncate", 5)
    for _ in range(2):
        rig.append(segment)
    rig.until(lambda: failures)
    assert segment.failed is failures[0]
    assert rig.wal.queue_size == 0


# -- after a restart


def test_a_start_takes_the_zeros_up_and_reports_nothing_torn(backend: MemoryBackend) -> None:
    rig, segment, written = on_zeros(backend)
    for clone in (backend.kill_clone(), backend.crash_clone("none")):
        again = Rig(clone)
        found = again.recover()
        assert (found.end, found.torn_size) == (segment.end, 0)
        length = clone.fs.path_size(LOG)
        more = lone(again, found, 5)
        assert clone.fs.path_size(LOG) == length
        assert again.read(found, 0) == b"".join(written + more)


def test_another_policy_goes_on_without_the_zeros(backend: MemoryBackend) -> None:
    rig, segment, written = on_zeros(backend)
    killed = backend.kill_clone()
    again = Rig(killed, policy="none")
    found = again.recover()
    more = lone(again, found, 3)
    assert killed.fs.contents(LOG) == b"".join(written + more)


def test_a_sealed_log_has_no_zeros(backend: MemoryBackend) -> None:
    rig, segment, written = on_zeros(backend)
    clone = backend.kill_clone()
    for disk, one in ((backend, segment), (clone, None)):
        owner = rig if one else Rig(clone)
        assert owner.seal(one or owner.recover()) is None
        assert disk.fs.contents(LOG) == b"".join(written)
        assert Rig(disk.crash_clone("none")).log.adopt(1, 0, segment.end).end == segment.end


def test_zeros_do_not_hide_that_acknowledged_records_are_gone(backend: MemoryBackend) -> None:
    rig = Rig(backend)
    segment, batches = filled(rig, 5)
    segment._ack_mark_size = -(2**30)
    segment.note_acked(5)
    rig.wal.close()
    log = backend.fs.contents(LOG)
    log[-len(batches[-1]) :] = bytes(len(batches[-1]))
    with pytest.raises(CorruptSegmentError, match="below offset 5 were acknowledged"):
        Rig(backend.kill_clone()).recover()


def test_a_log_that_was_closed_has_no_zeros(backend: MemoryBackend) -> None:
    rig, segment, written = on_zeros(backend)
    rig.wal.close()
    assert backend.fs.contents(LOG) == b"".join(written)


# -- power cuts


@pytest.mark.parametrize("seed", range(20))
def test_power_cut_in_any_write_leaves_what_was_acknowledged_and_a_log_that_opens(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sectors of a write onto zeros survive in any combination: no log may look damaged."""
    monkeypatch.setattr(write_queue, "LONE_COUNT_MIN", 1)
    rng = random.Random(seed)
    backend = MemoryBackend()
    disks: list[tuple[MemoryBackend, int]] = []

    def cut(operation: str, path: Path) -> None:
        if path == LOG and operation == "sync":
            acked = segment.durable_offset
            disks.extend((backend.crash_clone("random", rng), acked) for _ in range(4))

    rig = Rig(backend)
    segment = rig.open()
    lone(rig, segment, 4, size=3000)
    backend.fs.on_operation = cut
    on_zeros = 0
    for _ in range(50):
        for _ in range(rng.choice([1] * 12 + [2, 5])):
            rig.append(segment, size=rng.choice([10, 300, 2000, 9000]))
        rig.settle(segment)
        on_zeros += bool(tail(backend, segment))
    assert on_zeros >= 5, "the fewest of the twenty seeds"
    whole = bytes(backend.fs.contents(LOG))
    for disk, acked in disks:
        again = Rig(disk)
        found = again.recover()
        assert found.end_offset >= acked, seed
        if found.size:
            assert again.read(found, 0) == whole[: found.size]
        more = lone(again, found, 3)
        assert Rig(disk.crash_clone("none")).recover().end_offset == found.end_offset
        assert parse_header(more[-1]).next_offset == found.end_offset


def test_logs_of_a_real_disk_lie_on_zeros(tmp_path: Path) -> None:
    backend = PreadBackend(reason="test")
    rig = Rig(backend, tmp_path)
    segment = rig.open()
    written = lone(rig, segment, LONE_COUNT_MIN * 2)
    path = tmp_path / LOG.relative_to(DISK)
    data = path.read_bytes()
    assert data[: segment.size] == b"".join(written)
    assert len(data) > segment.size
    written += [rig.append(segment) for _ in range(4)]
    rig.settle(segment)
    assert path.read_bytes() == b"".join(written)
    rig.wal.close()
    backend.close()
