"""Where the batches of a read begin and end in the log, found by their headers alone.

For records that nobody has to look at: beside the headers around both ends, nothing is read.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.batch import HEADER_SIZE, Buffer, Offset, Position, Size, parse_extent
from engine.errors import CorruptBatchError
from engine.index import SegmentIndex

Read = Callable[[Position, Size], Buffer | None]
"""So many bytes from there on; None if they cannot be had now."""


class BatchRun(NamedTuple):
    """Whole batches, one after the other."""

    position: Position
    size: Size
    next_offset: Offset
    """One past their last."""


class _Place(NamedTuple):
    """Of one batch."""

    position: Position
    end: Position
    base_offset: Offset
    next_offset: Offset


def find_run(
    read: Read,
    index: SegmentIndex,
    *,
    position: Position,
    limit: Position,
    offset: Offset,
    end_offset: Offset,
    size_max: Size,
) -> BatchRun | None:
    """The batches from the one that contains `offset`, all below `end_offset`: at most `size_max`
    bytes, but at least one batch.

    `position` is the start of a batch at or before the wanted one; `limit` is the end of what was
    written. None if there is no such batch, or if the headers cannot be had now. Raises
    CorruptBatchError where there is something else than `index` says.
    """
    window = index.interval + HEADER_SIZE
    first = _first(_places(read, position, limit, window), offset)
    if first is None or first.next_offset > end_offset or first.end > limit:
        return None
    end, next_offset = first.end, first.next_offset
    end_max = min(first.position + size_max, limit)
    # All between here and the batch of an index entry is whole and wanted: no need to walk.
    last, last_offset = index.last_batch(end_max - HEADER_SIZE, end_offset - 1)
    for place in _places(read, max(end, last), end_max, window):
        if place.position == last and place.next_offset != last_offset + 1:
            raise CorruptBatchError(f"no batch up to offset {last_offset} starts at {last}")
        end, next_offset = place.position, place.base_offset
        if place.next_offset > end_offset or place.end > end_max:
            break
        end, next_offset = place.end, place.next_offset
    if end < last:
        return None
    return BatchRun(first.position, end - first.position, next_offset)


def _first(places: Iterator[_Place], offset: Offset) -> _Place | None:
    """The one that contains `offset`."""
    for number, place in enumerate(places):
        if not number and place.base_offset > offset:
            raise CorruptBatchError(f"offset {place.base_offset} at a place before {offset}")
        if place.next_offset > offset:
            return place
    return None


def _places(read: Read, position: Position, limit: Position, window: Size) -> Iterator[_Place]:
    """Of the batches from `position` on whose headers lie before `limit`. A window is read at a
    time, in which lie as many as between two entries of the index."""
    while limit - position >= HEADER_SIZE:
        data = read(position, min(window, limit - position))
        if data is None or len(data) < HEADER_SIZE:
            return
        at = 0
        while len(data) - at >= HEADER_SIZE:
            base_offset, next_offset, size = parse_extent(data, at)
            yield _Place(position + at, position + at + size, base_offset, next_offset)
            at += size
        position += at
