"""An index may be sparse or garbage; what it leads to must always be at or before the goal."""

from hypothesis import given
from hypothesis import strategies as st

from engine.batch import BatchHeader
from engine.index import SegmentIndex
from tests.engine.support import make_batch

BASE = 500


def log_of(shapes: list[tuple[int, int, int]]) -> list[tuple[int, BatchHeader]]:
    """(position, header) of batches with the given record counts, sizes and timestamps."""
    log, offset, position = [], BASE, 0
    for count, size, timestamp in shapes:
        header, _ = make_batch(offset, count=count, size=size, timestamp=timestamp)
        log.append((position, header))
        offset, position = header.next_offset, position + header.size
    return log


_shapes = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 120), st.integers(0, 20)), max_size=60
)


@given(_shapes, st.integers(1, 600))
def test_index_never_leads_past_the_goal(shapes: list[tuple[int, int, int]], interval: int) -> None:
    log = log_of(shapes)
    index = SegmentIndex(BASE, interval=interval)
    for position, header in log:
        index.add(header, position)
    starts = dict(log)
    for position, header in log:
        for offset in (header.base_offset, header.last_offset):
            found = index.position_before(offset)
            assert found <= position
            assert starts[found].base_offset <= offset
    for position in range(0, log[-1][0] + 1 if log else 0, 7):
        for offset in (
            log[0][1].base_offset - 1,
            log[-1][1].last_offset // 2,
            log[-1][1].last_offset,
        ):
            start, last_offset = index.last_batch(position, offset)
            assert start <= position
            assert last_offset <= offset
            assert start == -1 or starts[start].last_offset == last_offset
    for timestamp in range(22):
        offset = index.offset_before_timestamp(timestamp)
        before = [header for _, header in log if header.last_offset < offset]
        assert all(header.max_timestamp < timestamp for header in before)
        assert offset == BASE or offset in {header.next_offset for _, header in log}


@given(_shapes, st.integers(1, 600))
def test_index_on_disk_is_the_index_in_memory(
    shapes: list[tuple[int, int, int]], interval: int
) -> None:
    log = log_of(shapes)
    index = SegmentIndex(BASE, interval=interval)
    for position, header in log:
        index.add(header, position)
    size = log[-1][0] + log[-1][1].size if log else 0
    again = SegmentIndex.unpack(BASE, *index.pack(), size=size, interval=interval)
    assert again is not None
    assert again.pack() == index.pack()
    for _, header in log:
        assert again.position_before(header.last_offset) == index.position_before(
            header.last_offset
        )


def test_index_has_the_layout_of_kafka() -> None:
    """An entry is (last offset of a batch, where that batch starts), as its dump tool checks it."""
    log = log_of([(2, 10, 100 + i) for i in range(6)])
    size = log[0][1].size
    index = SegmentIndex(BASE, interval=2 * size - 1)
    for position, header in log:
        index.add(header, position)
    offsets, times = index.pack()
    assert offsets.hex(" ", 4) == f"00000005 {2 * size:08x} 00000009 {4 * size:08x}"
    assert times.hex(" ", 4) == "00000000 00000066 00000005 00000000 00000068 00000009"


def test_index_that_cannot_be_true_is_not_used() -> None:
    index = SegmentIndex(0, interval=1)
    for i in range(6):
        header, _ = make_batch(i, timestamp=i)
        index.add(header, i * header.size)
    offsets, times = index.pack()
    good = {"size": 10_000, "interval": 1}
    assert SegmentIndex.unpack(0, offsets, times, **good) is not None
    assert SegmentIndex.unpack(0, offsets[:-1], times, **good) is None
    assert SegmentIndex.unpack(0, offsets, times[:-1], **good) is None
    assert SegmentIndex.unpack(0, bytes(len(offsets)), times, **good) is None
    assert SegmentIndex.unpack(0, offsets[8:] + offsets[:8], times, **good) is None
    assert SegmentIndex.unpack(0, offsets, times, size=20, interval=1) is None
