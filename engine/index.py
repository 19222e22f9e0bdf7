"""Sparse indexes of one segment, offset → position and timestamp → offset, in Kafka's own file
layout.

An entry is made for the first batch after every `interval` bytes of log:

    .index       i32 last offset of that batch − base offset, i32 position of that batch
    .timeindex   i64 largest timestamp so far, i32 last offset of the batch that has it − base
    offset

Both big endian, as in Kafka's OffsetIndex and TimeIndex, so that its tools can read them. They are
hints: derived from the log, rebuilt from it when missing, and checked against it by whoever follows
one.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right

from engine.batch import LENGTH_END, BatchHeader, Offset, Position

INTERVAL_DEFAULT = 4096
"""Bytes of log per entry, Kafka's default of index.interval.bytes."""
POSITION_MAX = 2**31 - 1
"""A segment cannot be larger, in bytes or offsets: Kafka's indexes have 32 bits for positions and
relative offsets."""

_OFFSET_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")


class SegmentIndex:
    """Both indexes of one segment, in memory."""

    def __init__(self, base_offset: Offset, *, interval: int = INTERVAL_DEFAULT) -> None:
        self._base_offset = base_offset
        self.interval = interval
        """Bytes of log per entry."""
        self._offsets = array("i")
        self._positions = array("i")
        self._timestamps = array("q")
        self._time_offsets = array("i")
        self._unindexed_size = 0
        self._timestamp_max = -1
        self._timestamp_max_offset = 0

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, header: BatchHeader, position: Position) -> None:
        """A batch was appended at `position`. Batches come in order."""
        relative = header.base_offset + header.last_offset_delta - self._base_offset
        if header.max_timestamp > self._timestamp_max:
            self._timestamp_max = header.max_timestamp
            self._timestamp_max_offset = relative
        if self._unindexed_size > self.interval:
            self._offsets.append(relative)
            self._positions.append(position)
            # Kafka's time index must grow in both columns: an entry that says nothing new is left
            # out.
            if not self._timestamps or self._timestamp_max > self._timestamps[-1]:
                self._timestamps.append(self._timestamp_max)
                self._time_offsets.append(self._timestamp_max_offset)
            self._unindexed_size = 0
        self._unindexed_size += LENGTH_END + header.batch_length

    def position_before(self, offset: Offset) -> Position:
        """Where a batch starts that is at or before the one containing `offset`; 0 if no entry
        is."""
        i = bisect_right(self._offsets, offset - self._base_offset) - 1
        return self._positions[i] if i >= 0 else 0

    def last_batch(self, position_max: Position, offset_max: Offset) -> tuple[Position, Offset]:
        """(position, last offset) of the last batch with an entry that starts at or before
        `position_max` and whose last offset is at most `offset_max`; (-1, -1) if there is none."""
        i = bisect_right(self._positions, position_max)
        i = min(i, bisect_right(self._offsets, offset_max - self._base_offset)) - 1
        return (self._positions[i], self._base_offset + self._offsets[i]) if i >= 0 else (-1, -1)

    def offset_before_timestamp(self, timestamp_ms: int) -> Offset:
        """An offset such that every batch wholly before it has max_timestamp < `timestamp_ms`."""
        i = bisect_left(self._timestamps, timestamp_ms) - 1
        return self._base_offset + (self._time_offsets[i] + 1 if i >= 0 else 0)

    def pack(self) -> tuple[bytes, bytes]:
        """The contents of the `.index` and the `.timeindex` file."""
        offsets = zip(self._offsets, self._positions, strict=True)
        times = zip(self._timestamps, self._time_offsets, strict=True)
        return (
            b"".join(_OFFSET_ENTRY.pack(*entry) for entry in offsets),
            b"".join(_TIME_ENTRY.pack(*entry) for entry in times),
        )

    @classmethod
    def unpack(
        cls, base_offset: Offset, offsets: bytes, times: bytes, *, size: int, interval: int
    ) -> "SegmentIndex | None":
        """The inverse of `pack` for a sealed segment of `size` bytes; None if the files cannot be
        true."""
        if len(offsets) % _OFFSET_ENTRY.size or len(times) % _TIME_ENTRY.size:
            return None
        if size > interval and not offsets and times:
            return None
        index = cls(base_offset, interval=interval)
        for relative, position in _OFFSET_ENTRY.iter_unpack(offsets):
            index._offsets.append(relative)
            index._positions.append(position)
        for timestamp, relative in _TIME_ENTRY.iter_unpack(times):
            index._timestamps.append(timestamp)
            index._time_offsets.append(relative)
        columns = (index._offsets, index._positions, index._timestamps, index._time_offsets)
        if not all(_grows(column) for column in columns[:3]) or not _grows(columns[3]):
            return None
        if index._positions and not 0 < index._positions[-1] < size:
            return None
        return index


def _grows(column: "array[int]") -> bool:
    return all(a < b for a, b in zip(column, column[1:], strict=False)) and not (
        column and column[0] < 0
    )
