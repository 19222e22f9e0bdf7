"""A read that begins, or ends, at the wrong batch; an index that lies; pages that are not there."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.backends._memory import MemoryBackend
from engine.batch import Buffer
from engine.errors import CorruptSegmentError
from tests.engine.backends.support import REAL_BACKENDS
from tests.engine.support import LOG, Rig, filled, sent


def test_read_starts_with_the_batch_that_holds_the_offset(rig: Rig) -> None:
    wide = rig.open(2, 100)
    batches3 = [rig.append(wide, count=3, size=100) for _ in range(100)]
    rig.settle(wide)
    for offset in range(100, 400):
        i = (offset - 100) // 3
        assert rig.read(wide, offset, size_max=1) == batches3[i]
        limit = len(batches3[i]) * 2 + 5
        assert rig.read(wide, offset, size_max=limit) == b"".join(batches3[i : i + 2])


def test_read_stays_below_the_given_end(rig: Rig) -> None:
    segment, batches = filled(rig)
    assert rig.read(segment, 2, end=5) == b"".join(batches[2:5])
    assert rig.read(segment, 5, end=5) == b""
    assert rig.read(segment, 9, end=100) == batches[9]
    assert rig.read(segment, 50, end=100) == b""


def test_read_of_a_batch_larger_than_every_limit(rig: Rig) -> None:
    segment, batches = filled(rig, count=3, size=200_000)
    assert rig.read(segment, 1, size_max=10) == batches[1]


def test_read_never_sees_what_is_only_queued(rig: Rig) -> None:
    segment, batches = filled(rig)
    rig.append(segment)
    results: list[Buffer | Exception] = []
    segment.read(0, size_max=10**6, end_offset=11, on_done=results.append)
    rig.wal.reap()
    assert results == [b"".join(batches)]


def test_what_is_in_memory_is_read_at_once_and_nothing_else(
    rig: Rig, backend: MemoryBackend
) -> None:
    segment, batches = filled(rig)
    assert segment.read_now(2, size_max=10**6, end_offset=5) == b"".join(batches[2:5])
    assert segment.read_now(5, size_max=10**6, end_offset=5) is None, "there is nothing"
    backend.schedule = lambda operation, size, arrive: arrive()
    assert segment.read_now(2, size_max=10**6, end_offset=5) is None, "the disk would be waited for"
    backend.schedule = None
    backend.fail_next("read", errno.EIO)
    assert segment.read_now(2, size_max=10**6, end_offset=5) is None, "the other way has the words"
    assert segment.read_now(9, size_max=1, end_offset=100) == batches[9]


def test_a_segment_that_is_not_open_yet_is_not_read_at_once(
    rig: Rig, backend: MemoryBackend
) -> None:
    segment, batches = filled(rig)
    rig.seal(segment)
    again = Rig(backend.kill_clone())
    adopted = again.log.adopt(1, 0, segment.end)
    assert adopted.read_now(0, size_max=1, end_offset=5) is None
    assert again.read(adopted, 0, size_max=1) == batches[0]
    assert adopted.read_now(1, size_max=1, end_offset=5) == batches[1]
    again.result(lambda done: again.log.drop(1, done))
    assert adopted.read_now(1, size_max=1, end_offset=5) is None


@pytest.mark.parametrize("kind", ["missing", "garbage", "foreign", "empty"])
def test_index_that_is_lost_or_lies_is_rebuilt(rig: Rig, backend: MemoryBackend, kind: str) -> None:
    segment, batches = filled(rig, count=400, size=100)
    rig.seal(segment)
    again = backend.kill_clone()
    path = LOG.with_suffix(".index")
    index = again.fs.contents(path)
    assert len(index) > 8
    match kind:
        case "missing":
            again.fs.unlink(path)
        case "garbage":
            index[:] = b"\xff" * len(index)
        case "foreign":
            # Well-formed, but every position points into the middle of a batch.
            for i in range(7, len(index), 8):
                index[i] ^= 1
        case "empty":
            index.clear()
    rig = Rig(again)
    adopted = rig.log.adopt(1, 0, segment.end)
    assert rig.read(adopted, 0) == b"".join(batches), "entries are also used to jump ahead"
    rig = Rig(again)
    adopted = rig.log.adopt(1, 0, segment.end)
    for offset in (0, 399, 200, 37):
        assert rig.read(adopted, offset, size_max=1) == batches[offset]


def test_read_of_a_damaged_log_is_an_error_and_not_a_wrong_record(
    rig: Rig, backend: MemoryBackend
) -> None:
    segment, _ = filled(rig, count=400, size=100)
    rig.seal(segment)
    again = backend.kill_clone()
    again.fs.contents(LOG)[20000:30000] = bytes(10000)
    rig = Rig(again)
    result = rig.read(rig.log.adopt(1, 0, segment.end), 399)
    assert not isinstance(result, bytes) or result == b"" or len(result) < 1000
    result = rig.read(rig.log.get(1), 130)  # type: ignore[arg-type]
    assert isinstance(result, CorruptSegmentError)


def test_time_lookup_never_skips_the_first_match(rig: Rig) -> None:
    rig = Rig(MemoryBackend(), index_interval=200)
    segment = rig.open()
    for i in range(200):
        rig.append(segment, timestamp=1000 + (i * 7) % 50 + i)
    rig.settle(segment)
    for timestamp in range(990, 1260, 3):
        start = segment.offset_before_timestamp(timestamp)
        assert all(1000 + (i * 7) % 50 + i < timestamp for i in range(start))


@pytest.fixture(params=REAL_BACKENDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A rig on a file system whose pages may be asked for; skips on others."""
    rig = Rig(REAL_BACKENDS[request.param](), tmp_path)
    file = rig.backend.fs.open(tmp_path / "probe", create=True)
    rig.backend.fs.pwrite(file, 0, b"probe")
    is_able = rig.backend.cached(file, 0, 5) is not None
    rig.backend.fs.close(file)
    if is_able:
        yield rig
    rig.wal.close()
    if not is_able:
        pytest.skip("this file system does not tell what is cached")


def forget_pages(directory: Path) -> None:
    for path in directory.rglob("*.log"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def test_a_socket_gets_a_large_read_from_the_file_and_a_small_one_from_memory(disk: Rig) -> None:
    segment, batches = filled(disk, count=60, size=10_000)
    for offset, size_max, end in ((0, 10**6, 60), (7, 300_000, 60), (7, 300_000, 25)):
        found = segment.fetch_now(offset, size_max=size_max, end_offset=end)
        assert sent(found) == disk.read(segment, offset, size_max=size_max, end=end)
    assert segment.fetch_now(3, size_max=1, end_offset=60) == batches[3]
    assert segment.fetch_now(58, size_max=10**6, end_offset=60) == b"".join(batches[58:])
    assert segment.fetch_now(0, size_max=10**6, end_offset=2) == b"".join(batches[:2])
    assert segment.fetch_now(60, size_max=10**6, end_offset=60) is None


def test_pages_that_left_the_cache_are_loaded_before_a_socket_gets_them(
    disk: Rig, tmp_path: Path
) -> None:
    segment, batches = filled(disk, count=60, size=10_000)
    forget_pages(tmp_path)
    if segment.fetch_now(0, size_max=10**6, end_offset=60) is not None:
        pytest.skip("this file system keeps all pages")
    disk.result(lambda done: segment.load(0, 10**6, done))
    assert sent(segment.fetch_now(0, size_max=10**6, end_offset=60)) == b"".join(batches)
    disk.result(lambda done: segment.load(60, 10**6, done))
    disk.result(lambda done: disk.log.drop(1, done))
    disk.result(lambda done: segment.load(0, 10**6, done))
    assert segment.fetch_now(0, size_max=10**6, end_offset=60) is None


def test_a_damaged_log_is_not_sent_and_the_read_says_why(disk: Rig, tmp_path: Path) -> None:
    segment, _ = filled(disk, count=60, size=10_000)
    (path,) = tmp_path.rglob("*.log")
    data = bytearray(path.read_bytes())
    data[300_000:320_000] = bytes(20_000)
    path.write_bytes(data)
    found = segment.fetch_now(0, size_max=310_000, end_offset=60)
    assert found is None
    result = disk.read(segment, 0, size_max=310_000)
    assert isinstance(result, CorruptSegmentError)
