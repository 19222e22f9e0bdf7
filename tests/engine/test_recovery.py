"""After the power went: nothing acknowledged is lost, a torn tail is cut, corruption is refused."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.backends._memory import MemoryBackend
from engine.backends._posix import PosixFs
from engine.errors import CorruptSegmentError
from engine.format import SegmentEnd
from engine.recovery import CHUNK_SIZE, scan_log, truncate_at
from tests.engine.support import DISK, EPOCH, TOPIC_ID, Rig, make_batch

SEGMENT = DISK / f"orders-{TOPIC_ID.hex()}" / "1"
LOG = SEGMENT / f"{0:020}.log"


def stored_log(
    count: int, *, size: int = 20, mark: bool = False
) -> tuple[MemoryBackend, list[bytes]]:
    """A disk with one open segment of `count` batches; `mark`: all but one known as
    acknowledged."""
    backend = MemoryBackend()
    rig = Rig(backend)
    segment = rig.open()
    batches = [rig.append(segment, size=size) for _ in range(count)]
    rig.settle(segment)
    if mark:
        segment._ack_mark_size = -(2**30)
        segment.note_acked(count - 1)
    rig.wal.close()
    return backend, batches


def recovered(backend: MemoryBackend) -> tuple[int, int, list[int]]:
    """(end offset, bytes cut, offsets visited)."""
    visited: list[int] = []
    segment = Rig(backend).recover(visit=lambda header: visited.append(header.base_offset))
    return segment.end_offset, segment.torn_size, visited


# -- a torn tail


def test_tail_torn_at_every_byte_is_cut_to_the_last_whole_batch() -> None:
    backend, batches = stored_log(4)
    whole = bytes(backend.fs.contents(LOG))
    ends = [sum(map(len, batches[: i + 1])) for i in range(4)]
    for size in range(len(whole) + 1):
        clone = backend.kill_clone()
        clone.fs.truncate(clone.fs.open(LOG), size)
        survivors = sum(end <= size for end in ends)
        kept = ends[survivors - 1] if survivors else 0
        # A header begins with zeros: so few bytes of it are no sign of anything torn.
        torn = whole[kept:size].strip(b"\0")
        cut_size = size - kept if torn else 0
        assert recovered(clone) == (survivors, cut_size, list(range(survivors)))
        assert clone.fs.contents(LOG) == whole[: size - cut_size]
        assert recovered(clone.crash_clone("none")) == (survivors, 0, list(range(survivors)))


@pytest.mark.parametrize("filler", [b"\0\1", b"\xff", b"Walrus"])
def test_tail_of_rubbish_is_cut(filler: bytes) -> None:
    backend, _ = stored_log(3)
    for size in (2, 12, 60, 61, 62, 5000):
        clone = backend.kill_clone()
        rubbish = (filler * size)[:size]
        clone.fs.contents(LOG).extend(rubbish)
        assert recovered(clone) == (3, size, [0, 1, 2])


def test_appending_goes_on_after_a_cut() -> None:
    """A replica takes up its copy again where the cut was made."""
    backend, batches = stored_log(3)
    del backend.fs.contents(LOG)[-5:]
    rig = Rig(backend)
    segment = rig.recover()
    again = rig.append(segment)
    rig.settle(segment)
    assert again == batches[2]
    assert Rig(backend.crash_clone("none")).recover().end_offset == 3


def test_what_a_killed_process_wrote_is_synced_before_it_counts() -> None:
    backend = MemoryBackend()
    rig = Rig(backend, policy="none")
    segment = rig.open()
    for _ in range(5):
        rig.append(segment)
    rig.settle(segment)
    killed = backend.kill_clone()
    assert Rig(killed.crash_clone("none")).recover().end_offset == 0
    assert Rig(killed).recover().durable_offset == 5
    assert Rig(killed.crash_clone("none")).recover().end_offset == 5


def test_a_power_cut_takes_nothing_that_a_restart_has_read_back() -> None:
    """A process is killed between a write, or a rename, and its sync; the next one answers by what
    it finds in the page cache, and then the power goes."""
    backend = MemoryBackend()
    killed: list[MemoryBackend] = []
    backend.fs.on_operation = lambda *_: killed.append(backend.kill_clone())
    rig = Rig(backend)
    segment = rig.open()
    rig.append(segment)
    rig.settle(segment)
    rig.promise(segment, 8)
    backend.fs.on_operation = lambda *_: None
    assert len(killed) > 10
    for clone in killed:
        found = Rig(clone).recover()
        left = Rig(clone.crash_clone("none")).recover()
        assert (left.end_offset, left.promised_epoch, left.head()) == (
            found.end_offset,
            found.promised_epoch,
            found.head(),
        )


# -- corruption


def flips(batch: bytes) -> dict[str, int]:
    """A byte of each kind in a batch."""
    return {
        "base offset": 7,
        "length": 11,
        "epoch": 15,
        "magic": 16,
        "crc": 20,
        "attributes": 22,
        "record count": 60,
        "first record": 61,
        "last byte": len(batch) - 1,
    }


@pytest.mark.parametrize("what", flips(b""))
def test_corruption_in_the_middle_is_refused_and_named(what: str) -> None:
    backend, batches = stored_log(5)
    start = len(batches[0]) + len(batches[1])
    backend.fs.contents(LOG)[start + flips(batches[2])[what]] ^= 0x04
    before = bytes(backend.fs.contents(LOG))
    with pytest.raises(CorruptSegmentError) as caught:
        recovered(backend)
    assert caught.value.position == start
    text = str(caught.value)
    assert str(LOG) in text
    assert f"byte {start}" in text
    assert f"walrus truncate {LOG} {start}" in text
    assert f"a valid batch follows at {start + len(batches[2])}" in text
    assert backend.fs.contents(LOG) == before, "refusing changes nothing"


def test_hole_in_the_middle_is_refused() -> None:
    backend, batches = stored_log(400, size=1000)
    hole = len(b"".join(batches[:3])) + 10
    backend.fs.contents(LOG)[hole : hole + 4096] = bytes(4096)
    with pytest.raises(CorruptSegmentError, match="a valid batch follows"):
        recovered(backend)


def test_valid_batch_across_the_edge_of_a_chunk_is_found() -> None:
    """The search for a batch behind the damage reads in chunks: none may hide between two."""
    for shift in range(-70, 20, 9):
        backend, batches = stored_log(1)
        log = backend.fs.contents(LOG)
        bad = len(batches[0])
        log.extend(b"\x55" * (CHUNK_SIZE + shift))
        log.extend(make_batch(1)[1])
        with pytest.raises(CorruptSegmentError) as caught:
            recovered(backend)
        assert caught.value.position == bad


def test_batch_that_a_record_carries_does_not_count_as_valid_behind_a_torn_tail() -> None:
    """A mirrored log holds batches inside records; they are of other offsets or epochs."""
    backend, _ = stored_log(3)
    inner = bytes(make_batch(0)[1]) + bytes(make_batch(5, epoch=EPOCH + 1)[1])
    backend.fs.contents(LOG).extend(b"torn" + inner)
    assert recovered(backend) == (3, 4 + len(inner), [0, 1, 2])


def test_acknowledged_record_that_is_gone_is_refused() -> None:
    backend, batches = stored_log(5, mark=True)
    whole = len(b"".join(batches))
    clone = backend.kill_clone()
    del clone.fs.contents(LOG)[whole - 1 :]
    assert recovered(clone)[0] == 4, "the last one was not known as acknowledged"
    clone = backend.kill_clone()
    del clone.fs.contents(LOG)[len(b"".join(batches[:3])) :]
    with pytest.raises(CorruptSegmentError, match="below offset 4 were acknowledged"):
        recovered(clone)


def test_order_and_epoch_are_checked_since_the_crc_does_not_cover_them() -> None:
    for wrong in (make_batch(2)[1], make_batch(4)[1], make_batch(3, epoch=EPOCH - 1)[1]):
        backend, _ = stored_log(3)
        backend.fs.contents(LOG).extend(wrong)
        assert recovered(backend)[:2] == (3, len(wrong))


def test_batch_larger_than_a_chunk() -> None:
    backend, batches = stored_log(3, size=CHUNK_SIZE + 1000)
    assert recovered(backend) == (3, 0, [0, 1, 2])
    del backend.fs.contents(LOG)[-1:]
    assert recovered(backend)[:2] == (2, len(batches[2]) - 1)


def test_scan_of_a_prefix_stops_there() -> None:
    backend, batches = stored_log(5)
    file = backend.fs.open(LOG)
    size = len(batches[0]) * 2
    scan = scan_log(backend.fs, file, base_offset=0, epoch=EPOCH, visit=lambda *_: None, size=size)
    assert (scan.end.end_offset, scan.end.size, scan.torn_size) == (2, size, 0)


# -- the operator's remedy


def test_truncation_by_hand_saves_what_it_cuts(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(bytes(range(100)))
    saved = truncate_at(path, 30, fs=PosixFs())
    assert saved == tmp_path / "x.log.30.cut"
    assert path.read_bytes() == bytes(range(30))
    assert saved.read_bytes() == bytes(range(30, 100))
    with pytest.raises(ValueError, match="nothing to cut"):
        truncate_at(path, 30, fs=PosixFs())
    path.write_bytes(bytes(101))
    with pytest.raises(ValueError, match="move it away"):
        truncate_at(path, 30, fs=PosixFs())
    assert len(path.read_bytes()) == 101


def test_segment_opens_after_the_remedy_was_applied() -> None:
    backend, batches = stored_log(5, mark=True)
    start = len(batches[0]) * 2
    backend.fs.contents(LOG)[start + 70] ^= 1
    with pytest.raises(CorruptSegmentError) as caught:
        recovered(backend)
    truncate_at(caught.value.path, caught.value.position, fs=backend.fs)
    assert recovered(backend) == (2, 0, [0, 1])


def test_a_remedy_that_the_power_interrupted_is_applied_again() -> None:
    backend, batches = stored_log(5, mark=True)
    start = len(batches[0]) * 2
    tail = bytes(backend.fs.contents(LOG)[start:])
    disks: list[MemoryBackend] = []
    seeds = range(5)
    backend.fs.on_operation = lambda *_: disks.extend(
        backend.crash_clone("random", random.Random(seed)) for seed in seeds
    )
    truncate_at(LOG, start, fs=backend.fs)
    assert len(disks) > 5
    for disk in disks:
        if disk.fs.path_size(LOG) > start:
            saved = truncate_at(LOG, start, fs=disk.fs)
            assert bytes(disk.fs.contents(saved)) == tail
        assert recovered(disk) == (2, 0, [0, 1])


@pytest.mark.parametrize("damage", ["middle", "missing"])
def test_only_copy_keeps_its_prefix_when_told_to(damage: str) -> None:
    backend, batches = stored_log(6, mark=True)
    start = len(batches[0]) * 2
    tail = bytes(backend.fs.contents(LOG)[start:])
    if damage == "middle":
        backend.fs.contents(LOG)[start + 70] ^= 1
        tail = bytes(backend.fs.contents(LOG)[start:])
    else:
        del backend.fs.contents(LOG)[start:]
    visited: list[int] = []
    segment = Rig(backend).log.recover(
        1, 0, EPOCH, lambda header: visited.append(header.base_offset), keep_prefix=True
    )
    assert (segment.end_offset, visited) == (2, [0, 1])
    if damage == "middle":
        assert segment.torn_size == len(tail)
        assert backend.fs.contents(LOG.with_name(f"{LOG.name}.{start}.cut")) == tail
    assert recovered(backend) == (2, 0, [0, 1]), "and needs no telling the next time"


# -- power cuts


@dataclass
class Moment:
    """The disk just before one storage operation, and what had been promised to others by then."""

    operation: str
    disk: Callable[[str, int], MemoryBackend]
    acked: dict[int, int]
    promised: int
    sealed: SegmentEnd | None
    dropped: bool


def canonical_workload(policy: str) -> tuple[list[Moment], dict[int, bytes]]:
    """Appends in groups, a promise, a seal, a roll, more appends, a drop; with every moment of
    it."""
    moments: list[Moment] = []
    acked: dict[int, int] = {}
    state: dict[str, object] = {"promised": 0, "sealed": None, "dropped": False}

    def watch(operation: str, path: Path) -> None:
        here = backend.kill_clone()

        def disk(mode: str, seed: int) -> MemoryBackend:
            return here.crash_clone(mode, random.Random(seed))  # type: ignore[arg-type]

        moment = Moment(f"{operation} {path.name}", disk, dict(acked), **state)  # type: ignore[arg-type]
        moments.append(moment)

    backend = MemoryBackend()
    rig = Rig(backend, policy=policy)
    backend.fs.on_operation = watch
    first = rig.open(1, 0)
    first.on_durable = lambda end: acked.__setitem__(1, end)
    for i in range(12):
        rig.append(first, count=1 + i % 3, size=10 * i)
        if i % 3 == 2:
            rig.settle(first)
    end = rig.promise(first, 8)
    acked[1] = end.end_offset
    state["promised"] = 8
    second = rig.open(2, end.end_offset)
    second.on_durable = lambda end: acked.__setitem__(2, end)
    assert rig.seal(first) is None
    state["sealed"] = end
    for i in range(6):
        rig.append(second)
        if i % 2:
            rig.settle(second)
    logs = {sid: bytes(backend.fs.contents(_log(sid, base))) for sid, base in _bases(end)}
    assert rig.result(lambda done: rig.log.drop(1, done)) is None
    state["dropped"] = True
    rig.append(second)
    rig.settle(second)
    logs[2] = bytes(backend.fs.contents(_log(2, end.end_offset)))
    return moments, logs


def _bases(end: SegmentEnd) -> list[tuple[int, int]]:
    return [(1, 0), (2, end.end_offset)]


def _log(sid: int, base_offset: int) -> Path:
    return SEGMENT.with_name(str(sid)) / f"{base_offset:020}.log"


@pytest.mark.parametrize("policy", ["each", "none", "50"])
def test_power_cut_at_every_operation_of_a_canonical_life(policy: str) -> None:
    moments, logs = canonical_workload(policy)
    assert len(moments) > 60
    end_of_first = next(moment.sealed for moment in moments if moment.sealed)
    # A lost write before a kept one leaves a hole. Under `each` that cannot be: one write is in
    # flight, all before it are synced. Without syncs it can, and then it is refused, see above.
    modes = [("none", 0), ("all", 0)]
    if policy == "each":
        modes += [("random", seed) for seed in range(12)]
    for moment in moments:
        for mode, seed in modes:
            why = f"{moment.operation}, {mode} {seed}"
            rig = Rig(moment.disk(mode, seed), policy=policy)
            stored = {found.sid for found in rig.wal.stored()}
            for sid, base_offset in _bases(end_of_first):
                if sid == 1 and moment.dropped:
                    assert sid not in stored, why
                    continue
                segment = rig.recover(sid, base_offset)
                acked = moment.acked.get(sid, base_offset) if policy == "each" else base_offset
                if sid == 1 and moment.promised and sid in stored:
                    assert segment.promised_epoch == moment.promised, why
                    assert segment.end == end_of_first, why
                elif sid in stored or not _is_being_dropped(sid, moment):
                    assert segment.end_offset >= acked, why
                data = rig.read(segment, base_offset)
                assert data == logs[sid][: segment.size], why


@pytest.mark.parametrize("policy", ["none", "50"])
def test_power_cut_without_syncs_leaves_a_prefix_that_can_be_kept(policy: str) -> None:
    moments, logs = canonical_workload(policy)
    end_of_first = next(moment.sealed for moment in moments if moment.sealed)
    for moment in moments:
        for seed in range(8):
            rig = Rig(moment.disk("random", seed), policy=policy)
            stored = {found.sid for found in rig.wal.stored()}
            for sid, base_offset in _bases(end_of_first):
                if sid in stored:
                    segment = rig.log.recover(sid, base_offset, EPOCH, id, keep_prefix=True)
                    data = rig.read(segment, base_offset)
                    assert data == logs[sid][: segment.size], (moment.operation, seed)


def _is_being_dropped(sid: int, moment: Moment) -> bool:
    """Between the start of the deletion and its answer, both outcomes are right."""
    return sid == 1 and moment.sealed is not None


def test_restart_after_every_power_cut_can_write_again() -> None:
    moments, _ = canonical_workload("each")
    for moment in moments[::3]:
        rig = Rig(moment.disk("random", 1))
        rig.wal.stored()
        segment = rig.open(3, 1000)
        rig.append(segment)
        rig.settle(segment)
        assert Rig(rig.backend.crash_clone("none")).recover(3, 1000).end_offset == 1001  # type: ignore[attr-defined]
