"""One segment copy: its promise, its end, its bytes, and what it does when the disk refuses."""

import errno
import random
import struct

import pytest
from crc32c import crc32c

from engine.backends._memory import MemoryBackend
from engine.batch import BatchHeader, check_batch, parse_header
from engine.errors import CorruptSegmentError, FormatVersionError, SegmentClosedError
from engine.format import unpack_meta
from engine.segment import Segment
from tests.engine.support import DIRECTORY, DISK, EPOCH, LOG, META, Rig, filled, make_batch


def test_idle_segment_has_no_file(rig: Rig, backend: MemoryBackend) -> None:
    segment = rig.open()
    rig.wal.flush()
    rig.wal.reap()
    assert backend.fs.listdir(DISK) == []
    assert (segment.end_offset, segment.size, segment.digest, segment.max_timestamp) == (
        0,
        0,
        0,
        -1,
    )


def test_file_is_the_batches_back_to_back(rig: Rig, backend: MemoryBackend) -> None:
    segment, batches = filled(rig, count=5)
    assert backend.fs.contents(LOG) == b"".join(batches)
    assert segment.size == segment.durable_size == len(b"".join(batches))
    assert segment.max_timestamp == 1000


def test_end_includes_what_is_queued_and_durable_does_not(rig: Rig) -> None:
    segment = rig.open()
    rig.append(segment, count=3)
    assert (segment.end_offset, segment.durable_offset, segment.durable_size) == (3, 0, 0)
    rig.settle(segment)
    assert (segment.durable_offset, segment.durable_size) == (3, segment.size)


def test_batch_in_the_wrong_place_is_our_bug(rig: Rig) -> None:
    segment = rig.open()
    for header, batch in (make_batch(1), make_batch(0, epoch=EPOCH + 1)):
        with pytest.raises(AssertionError):
            segment.append([(header, [batch])])
    header, batch = make_batch(0)
    with pytest.raises(AssertionError):
        segment.append([(header._replace(base_offset=0), [batch, b"more"])])
    assert segment.end_offset == 0


def test_batches_appended_together_are_a_log_like_any_other() -> None:
    """Its end, its index, its times, and what a restart and a reader find."""
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    made, offset = [], 0
    for _ in range(300):
        kind = {"count": choose.randint(1, 4), "size": choose.randrange(2000)}
        header, batch = make_batch(offset, timestamp=choose.randrange(10**6), **kind)
        made.append((header, [batch]))
        offset = header.next_offset
    backends = MemoryBackend(), MemoryBackend()
    (apart, one), (together, other) = [(rig, rig.open()) for rig in map(Rig, backends)]
    while made:
        run = [made.pop(0) for _ in range(min(len(made), choose.randint(1, 20)))]
        assert [one.append([batch]) for batch in run][-1] == other.append(run), seed
    assert one.end == other.end, seed
    for rig, segment in ((apart, one), (together, other)):
        rig.settle(segment)
        assert rig.seal(segment) is None
    for path in (LOG, LOG.with_suffix(".index"), LOG.with_suffix(".timeindex")):
        assert backends[0].fs.contents(path) == backends[1].fs.contents(path) != b"", (seed, path)
    offsets = choose.sample(range(offset), 50)
    assert [apart.read(one, at, size_max=1) for at in offsets] == [
        together.read(other, at, size_max=1) for at in offsets
    ], seed
    assert Rig(backends[1].crash_clone("none")).recover().end == one.end, seed


def test_batches_that_do_not_all_fit_are_all_refused(
    rig: Rig, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = rig.open()
    good = rig.append(segment)
    end = segment.end
    monkeypatch.setattr("engine.segment.POSITION_MAX", segment.size * 3)
    run = [make_batch(offset) for offset in (1, 2, 3)]
    with pytest.raises(SegmentClosedError, match="full"):
        segment.append([(header, [batch]) for header, batch in run])
    assert segment.end == end
    rig.settle(segment)
    assert backend.fs.contents(LOG) == good


def test_batches_that_claim_billions_of_records_do_not_break_the_log(
    rig: Rig, backend: MemoryBackend
) -> None:
    """Nobody counts what is compressed, so a client may claim what it likes. Offsets that no index
    can hold are refused before anything is queued."""
    segment = rig.open()
    good = rig.append(segment, size=5000)
    _, batch = make_batch(1)
    struct.pack_into(">i", batch, 23, 2**31 - 3)
    struct.pack_into(">i", batch, 57, 2**31 - 2)
    struct.pack_into(">I", batch, 17, crc32c(memoryview(batch)[21:]))
    header = parse_header(batch)
    check_batch(batch, header)
    segment.append([(header, [batch])])
    for _ in range(3):
        with pytest.raises(SegmentClosedError, match="full"):
            rig.append(segment, size=5000)
    rig.settle(segment)
    assert rig.read(segment, 0) == good + bytes(batch)
    found = Rig(backend.crash_clone("none")).recover()
    assert found.end == segment.end


@pytest.mark.parametrize(("operation", "code"), [("write", "ENOSPC"), ("sync", "EIO")])
def test_refused_append_fails_the_segment_for_good(
    rig: Rig, backend: MemoryBackend, operation: str, code: str
) -> None:
    segment, batches = filled(rig)
    errors: list[OSError] = []
    segment.on_failed = errors.append
    backend.fail_next(operation, getattr(errno, code), path=".log")
    rig.append(segment)
    rig.until(lambda: errors)
    assert segment.failed is errors[0]
    assert segment.durable_offset == 10, "what failed is never called durable"
    with pytest.raises(SegmentClosedError, match="failed"):
        rig.append(segment)
    rig.wal.flush()
    rig.wal.reap()
    assert len(errors) == 1
    assert rig.wal.queue_size == 0
    assert rig.promise(segment, 8) is errors[0]
    assert rig.seal(segment) is errors[0]
    assert rig.read(segment, 3, end=4) == batches[3], "reading goes on"


def test_failed_sync_is_not_repeated(rig: Rig, backend: MemoryBackend) -> None:
    """The kernel may have dropped the pages: a second sync would succeed and lie."""
    segment, _ = filled(rig)
    backend.fail_next("sync", errno.EIO, path=".log")
    rig.append(segment)
    syncs: list[str] = []
    backend.fs.on_operation = lambda operation, path: syncs.append(operation)
    rig.until(lambda: segment.failed)
    rig.wal.close()
    assert syncs.count("sync") == 1


OPERATIONS = ("open", "mkdir", "rename", "unlink", "rmdir", "listdir", "truncate", "write", "sync")


@pytest.mark.parametrize("operation", [*OPERATIONS, "sync_dir"])
@pytest.mark.parametrize("life", ["create", "promise", "seal", "cut", "drop"])
def test_disk_refuses_at_every_step_of_a_life(operation: str, life: str) -> None:
    """Whatever step fails: the caller learns it, and a restart finds all that was acknowledged."""
    for after in range(30):
        backend = MemoryBackend()
        rig = Rig(backend)
        segment = rig.open()
        if life != "create":
            for _ in range(3):
                rig.append(segment)
            rig.settle(segment)
        acked = segment.durable_offset
        backend.fail_next(operation, errno.EIO, after=after)
        outcome = _live(rig, segment, life)
        is_unused = bool(backend.fs.faults)
        backend.fs.faults.clear()
        assert is_unused or isinstance(outcome, OSError), (life, operation, after)
        acked = 1 if life == "cut" else max(acked, segment.durable_offset)
        rig.wal.close()
        for mode in ("none", "all"):
            again = Rig(backend.crash_clone(mode))
            stored = again.wal.stored()
            if life == "drop" and outcome is None:
                assert stored == []
            if stored or life != "drop":
                assert again.recover().end_offset >= acked, "whole or gone"
        if is_unused:
            return
    raise AssertionError("more than 30 operations in one life")


def _live(rig: Rig, segment: Segment, life: str) -> object:
    match life:
        case "create":
            rig.append(segment)
            rig.until(lambda: segment.failed or segment.durable_offset == 1)
            return segment.failed
        case "promise":
            return rig.promise(segment, 8)
        case "seal":
            return rig.seal(segment)
        case "cut":
            header, _ = make_batch(0)
            middle = Rig(MemoryBackend())
            model = middle.open()
            middle.append(model)
            assert model.end_offset == header.next_offset
            return rig.seal(segment, model.end)
        case _:
            return rig.result(lambda done: rig.log.drop(1, done))


def test_ack_mark_is_written_lazily_and_never_above_what_is_synced(backend: MemoryBackend) -> None:
    rig = Rig(backend)
    segment = rig.open()
    for _ in range(30):
        rig.append(segment, size=100_000)
        rig.settle(segment)
        segment.note_acked(segment.durable_offset)
        rig.wal.reap()
    mark = unpack_meta(bytes(backend.fs.contents(META)))[0].ack_mark
    assert 20 <= mark <= 30
    assert unpack_meta(bytes(backend.fs.contents(META)))[0].counter < 6


def test_ack_mark_does_not_refuse_what_an_interval_had_not_synced(backend: MemoryBackend) -> None:
    rig = Rig(backend, policy="50")
    segment = rig.open()
    for _ in range(2):
        rig.append(segment, size=2_000_000)
        rig.settle(segment)
        rig.wal.sync_due()
        rig.wal.reap()
        rig.append(segment, size=2_000_000)
        rig.settle(segment)
        segment.note_acked(segment.durable_offset)
        rig.wal.reap()
    assert unpack_meta(bytes(backend.fs.contents(META)))[0].ack_mark > 0
    assert rig.recover_of_clone().end_offset == 3


def test_ack_mark_never_tears_the_last_whole_slot(backend: MemoryBackend) -> None:
    """Marks are written without a sync, so they must not touch the slot that was synced last."""
    rig = Rig(backend)
    segment = rig.open()
    for _ in range(60):
        rig.append(segment, size=100_000)
        rig.settle(segment)
        segment.note_acked(segment.durable_offset)
        rig.wal.reap()
    for seed in range(50):
        clone = backend.crash_clone("random", random.Random(seed))
        unpack_meta(bytes(clone.fs.contents(META)))
    rig.promise(segment, 8)
    for seed in range(50):
        clone = backend.crash_clone("random", random.Random(seed))
        assert unpack_meta(bytes(clone.fs.contents(META)))[0].promised_epoch == 8


def test_meta_of_another_segment_is_refused(rig: Rig, backend: MemoryBackend) -> None:
    filled(rig)
    with pytest.raises(CorruptSegmentError, match="epoch 7, not 0, 8"):
        Rig(backend.kill_clone()).log.recover(1, 0, EPOCH + 1, id)


def test_meta_of_a_newer_program_is_refused(rig: Rig, backend: MemoryBackend) -> None:
    filled(rig)
    data = backend.fs.contents(DIRECTORY / "1" / "meta")
    data[5] = 9
    data[4092:4096] = crc32c(bytes(data[:4092])).to_bytes(4)
    with pytest.raises(FormatVersionError, match="version 9"):
        Rig(backend.kill_clone()).recover()


def test_visit_sees_every_header_in_order(rig: Rig, backend: MemoryBackend) -> None:
    segment, _ = filled(rig, count=20, size=5)
    seen: list[BatchHeader] = []
    again = Rig(backend.kill_clone()).recover(visit=seen.append)
    assert [header.base_offset for header in seen] == list(range(20))
    assert again.end == segment.end
