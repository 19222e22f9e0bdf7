"""A topic's segments: deleting, adopting, and a long random life against a list."""

import random
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.backends._memory import MemoryBackend
from engine.batch import iter_headers
from engine.errors import CorruptSegmentError, SegmentClosedError
from engine.format import SegmentEnd
from engine.segment import Segment
from tests.engine.support import DISK, EPOCH, TOPIC_ID, Rig

DIRECTORY = DISK / f"orders-{TOPIC_ID.hex()}"


def sealed(rig: Rig, sid: int = 1, base_offset: int = 0, count: int = 5) -> SegmentEnd:
    segment = rig.open(sid, base_offset)
    for _ in range(count):
        rig.append(segment)
    assert rig.seal(segment) is None
    return segment.end


@pytest.mark.parametrize("change", [-1, 1])
def test_sealed_file_of_the_wrong_size_is_refused(change: int) -> None:
    backend = MemoryBackend()
    end = sealed(Rig(backend))
    log = backend.fs.contents(DIRECTORY / "1" / f"{0:020}.log")
    log.append(0) if change > 0 else log.pop()
    with pytest.raises(CorruptSegmentError, match=f"it has {end.size + change} bytes"):
        Rig(backend.kill_clone()).log.adopt(1, 0, end)


def test_sealed_file_that_is_gone_is_refused() -> None:
    end = sealed(Rig(MemoryBackend()))
    with pytest.raises(CorruptSegmentError, match="missing"):
        Rig(MemoryBackend()).log.adopt(1, 0, end)


def test_segments_are_found_by_id_and_listed_in_order() -> None:
    rig = Rig(MemoryBackend())
    second, first = rig.open(10, 100), rig.open(9, 0)
    assert rig.log.get(9) is first
    assert rig.log.get(3) is None
    assert rig.log.segments() == (first, second)


def test_dropped_segment_is_gone_with_its_descriptor() -> None:
    backend = MemoryBackend()
    rig = Rig(backend)
    sealed(rig, 1)
    sealed(rig, 2, 5)
    assert len(rig.read(rig.log.get(1), 0, end=5)) > 0  # type: ignore[arg-type]
    segment = rig.log.get(1)
    assert segment is not None
    assert rig.result(lambda done: rig.log.drop(1, done)) is None
    assert backend.fs.listdir(DIRECTORY) == ["2"]
    assert rig.log.get(1) is None
    with pytest.raises(SegmentClosedError):
        rig.append(segment)
    assert isinstance(rig.read(segment, 0, end=5), SegmentClosedError)
    assert [found.sid for found in Rig(backend.crash_clone("none")).wal.stored()] == [2]
    rig.wal.close()
    assert backend.fs.open_count == 0


def test_drop_forgets_what_is_queued_and_in_flight() -> None:
    backend = MemoryBackend()
    rig = Rig(backend)
    segment = rig.open()
    rig.append(segment)
    rig.wal.flush()
    rig.append(segment)
    answers: list[object] = []
    segment.promise(8, answers.append)
    assert rig.result(lambda done: rig.log.drop(1, done)) is None
    rig.until(lambda: answers)
    assert isinstance(answers[0], SegmentClosedError)
    assert rig.wal.queue_size == 0
    rig.wal.close()
    assert backend.fs.listdir(DIRECTORY) == []
    assert backend.fs.open_count == 0


def test_read_in_flight_when_its_segment_is_dropped_finds_its_file_open() -> None:
    """A descriptor closed under a read could be another file's by the time it is used."""
    waiting: list[Callable[[], None]] = []
    backend = MemoryBackend()
    rig = Rig(backend)
    end = sealed(rig)
    segment = rig.log.get(1)
    assert segment is not None
    whole = rig.read(segment, 0)
    backend.schedule = lambda operation, size, ready: (
        waiting.append(ready) if operation == "read" else ready()
    )
    results: list[object] = []
    segment.read(0, size_max=10**6, end_offset=end.end_offset, on_done=results.append)
    dropped: list[object] = []
    rig.log.drop(1, dropped.append)
    while not dropped:
        rig.wal.reap()
    assert (dropped, results) == ([None], [])
    waiting[0]()
    rig.wal.reap()
    assert results == [whole]
    assert backend.fs.open_count == 0


def test_emptied_segment_leaves_its_window_and_nothing_else() -> None:
    backend = MemoryBackend()
    rig = Rig(backend)
    sealed(rig, 1)
    assert rig.result(lambda done: rig.log.empty(1, b"window", done)) is None
    assert rig.log.is_emptied(1)
    assert rig.log.get(1) is None
    again = backend.crash_clone("none")
    rig = Rig(again)
    assert [(found.sid, found.is_emptied) for found in rig.wal.stored()] == [(1, True)]
    assert rig.log.find_window(1)
    assert rig.log.window(1) == b"window"
    assert rig.result(lambda done: rig.log.drop(1, done)) is None
    assert Rig(again.crash_clone("none")).wal.stored() == []


def test_window_that_is_half_written_is_none() -> None:
    """Its segment is still there, so it can be made again."""
    rig = Rig(MemoryBackend())
    assert rig.result(lambda done: rig.log.empty(1, b"window", done)) is None
    fs = rig.backend.fs
    file = fs.open(DIRECTORY / "1.window")
    fs.truncate(file, 12)
    fs.close(file)
    again = Rig(rig.backend)
    assert not again.log.find_window(1)
    assert not again.log.find_window(2)


@pytest.mark.parametrize("seed", range(40))
def test_power_cut_while_a_segment_is_emptied_loses_window_or_records_and_never_both(
    seed: int,
) -> None:
    rng = random.Random(seed)
    backend = MemoryBackend()
    rig = Rig(backend)
    end = sealed(rig, 1)
    after: list[MemoryBackend] = []
    backend.fs.on_operation = lambda *_: after.append(backend.crash_clone("random", rng))
    rig.result(lambda done: rig.log.empty(1, b"window", done))
    again = Rig(rng.choice(after))
    stored = {found.is_emptied for found in again.wal.stored()}
    if not again.log.find_window(1):
        assert False in stored
        again.log.adopt(1, 0, end)


def test_drop_of_files_that_were_never_opened() -> None:
    backend = MemoryBackend()
    sealed(Rig(backend))
    rig = Rig(backend)
    assert rig.result(lambda done: rig.log.drop(1, done)) is None
    assert rig.wal.stored() == []
    assert rig.result(lambda done: rig.log.drop(77, done)) is None


def test_deleted_topic_is_gone_and_the_name_free() -> None:
    backend = MemoryBackend()
    rig = Rig(backend)
    sealed(rig, 1)
    busy = rig.open(2, 5)
    rig.append(busy)
    rig.wal.flush()
    rig.append(busy)
    assert rig.result(rig.log.delete) is None
    assert backend.fs.listdir(DISK) == []
    assert Rig(backend.crash_clone("none")).wal.stored() == []
    rig.wal.forget(TOPIC_ID)
    again = rig.wal.log("orders", bytes(16)).open(1, 0, EPOCH, lambda: b"")
    rig.append(again)
    rig.settle(again)
    rig.wal.close()
    assert backend.fs.open_count == 0


def test_delete_of_a_topic_without_files() -> None:
    rig = Rig(MemoryBackend())
    assert rig.result(rig.log.delete) is None


class Life(RuleBasedStateMachine):
    """Append, read, roll, kill, cut the power, reopen: what is read is always what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.backend = MemoryBackend()
        self.batches: list[tuple[int, int, bytes]] = []
        """(base offset, end offset, bytes) of everything that must be readable."""
        self.ends: dict[int, SegmentEnd] = {}
        self.sid = 1
        self.segment: Segment

    @initialize(interval=st.integers(1, 500))
    def start(self, interval: int) -> None:
        self.interval = interval
        self.rig = Rig(self.backend, index_interval=interval)
        self.segment = self.rig.open(1, 0)

    @property
    def end_offset(self) -> int:
        return self.batches[-1][1] if self.batches else 0

    @rule(count=st.integers(1, 4), size=st.integers(0, 300), settle=st.booleans())
    def append(self, count: int, size: int, settle: bool) -> None:
        base_offset = self.segment.end_offset
        data = self.rig.append(self.segment, count=count, size=size)
        self.batches.append((base_offset, self.segment.end_offset, data))
        if settle:
            self.rig.settle(self.segment)

    @rule(data=st.data(), size_max=st.integers(1, 2000))
    @precondition(lambda self: self.batches)
    def read(self, data: st.DataObject, size_max: int) -> None:
        self.rig.settle(self.segment)
        offset = data.draw(st.integers(0, self.end_offset - 1))
        segment = self._segment_of(offset)
        at_once = segment.read_now(offset, size_max=size_max, end_offset=segment.end_offset)
        found = self.rig.read(segment, offset, size_max=size_max)
        assert at_once is None or bytes(at_once) == bytes(found)
        expected: list[bytes] = []
        size = 0
        for base_offset, end_offset, batch in self.batches:
            if end_offset <= offset or base_offset >= segment.end_offset:
                continue
            if expected and size + len(batch) > size_max:
                break
            expected.append(batch)
            size += len(batch)
        whole = b"".join(expected)
        assert whole.startswith(found), "a read may be shorter than the limit, never other bytes"
        headers = [header for _, header in iter_headers(found)]
        assert headers[0].base_offset <= offset < headers[0].next_offset
        assert sum(header.size for header in headers) == len(found)

    def _segment_of(self, offset: int) -> Segment:
        for segment in self.rig.log.segments():
            if segment.base_offset <= offset < segment.end_offset:
                return segment
        raise AssertionError(f"nobody has offset {offset}")

    @rule()
    @precondition(lambda self: self.segment.size)
    def roll(self) -> None:
        assert isinstance(self.rig.promise(self.segment, 8), SegmentEnd)
        assert self.rig.seal(self.segment) is None
        self.ends[self.sid] = self.segment.end
        self.sid += 1
        self.segment = self.rig.open(self.sid, self.segment.end_offset)

    @rule(mode=st.sampled_from(["kill", "none", "all", "random"]), seed=st.integers(0, 99))
    def crash(self, mode: str, seed: int) -> None:
        durable, base_offset = self.segment.durable_offset, self.segment.base_offset
        if mode == "kill":
            self.backend = self.backend.kill_clone()
        else:
            self.backend = self.backend.crash_clone(mode, random.Random(seed))  # type: ignore[arg-type]
        self.rig = Rig(self.backend, index_interval=self.interval)
        self.rig.wal.stored()
        offset = 0
        for sid, end in self.ends.items():
            self.rig.log.adopt(sid, offset, end)
            offset = end.end_offset
        self.segment = self.rig.recover(self.sid, base_offset)
        assert self.segment.end_offset >= durable
        self.batches = [each for each in self.batches if each[1] <= self.segment.end_offset]
        assert self.end_offset == self.segment.end_offset

    @invariant()
    def size_is_the_sum_of_the_batches(self) -> None:
        if hasattr(self, "rig"):
            total = sum(segment.size for segment in self.rig.log.segments())
            assert total == sum(len(batch) for _, _, batch in self.batches)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=120, stateful_step_count=30)
