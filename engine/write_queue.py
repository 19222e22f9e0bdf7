"""What waits for the disk in one segment, what goes into its next write, and the zeros which that
lies on (pure).

What makes a file longer is durable only when the file system has noted the new length in its
journal; what lies on zeros that were written before is durable by itself, in half the time. So a
small durable write takes zeros along for the ones that follow (as PostgreSQL does, wal_init_zero,
and etcd).

A power cut may leave any of the blocks of a write onto zeros, where of one that makes the file
longer it leaves a beginning. Of two batches the second could be whole and the first not, which is
what damage looks like, and a start would refuse the log. So a write onto zeros has one batch; where
more wait, they go together, and the zeros have to go before.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

from engine.batch import Buffer, Offset, Position, Size

ZEROS_SIZE_MAX: Size = 128 * 1024
"""Taken along at once. More would make that one write slow, for little."""
ZEROS_SIZE_MIN: Size = 4096
"""As many as the log has bytes already, and none before it has these: a topic that is hardly used
takes no room for nothing."""
WRITE_SIZE_MAX: Size = 32 * 1024
"""A larger write takes none along: its own bytes are its time."""
LONE_COUNT_MIN = 32
"""Writes of one batch in a row before zeros are worth it; twice as many each time that they were
in the way."""

_zeros = cache(bytes)
"""So many, the same object each time."""


class Write(NamedTuple):
    """One write to the log's end."""

    buffers: Sequence[Buffer]
    """All of it, zeros included."""
    size: Size
    """Without the zeros."""
    end_offset: Offset
    zeros_size: Size


class _Append(NamedTuple):
    buffers: Sequence[Buffer]
    size: Size
    end_offset: Offset


_append = partial(tuple.__new__, _Append)
"""From its three fields, at every append."""


class WriteQueue:
    """What was appended, in order."""

    __slots__ = (
        "_appends",
        "_batch_count",
        "_lone_count",
        "_lone_count_min",
        "_may_use_zeros",
        "zeros_size",
    )

    def __init__(self, zeros_size: Size, *, may_use_zeros: bool) -> None:
        """`may_use_zeros`: each write has its own sync. Others could be torn as if they were
        one."""
        self.zeros_size = zeros_size
        """Bytes behind the log's end, all of them durable."""
        self._may_use_zeros = may_use_zeros
        self._appends: list[_Append] = []
        self._batch_count = 0
        self._lone_count, self._lone_count_min = 0, LONE_COUNT_MIN

    def __len__(self) -> int:
        """Batches."""
        return self._batch_count

    @property
    def size(self) -> Size:
        """Bytes that wait."""
        return sum(append.size for append in self._appends)

    @property
    def must_cut_zeros(self) -> bool:
        """Before anything is written."""
        return self.zeros_size > 0 and (self._batch_count > 1 or not self._may_use_zeros)

    def add(
        self, buffers: Sequence[Buffer], size: Size, end_offset: Offset, *, batch_count: int
    ) -> None:
        """So many batches, and the log's end offset behind them."""
        self._appends.append(_append((buffers, size, end_offset)))
        self._batch_count += batch_count

    def clear(self) -> None:
        self._appends = []
        self._batch_count = 0

    def take(self, position: Position) -> Write:
        """All that waits, to be written at `position` now. Not if `must_cut_zeros`."""
        assert not self.must_cut_zeros
        appends, batch_count = self._appends, self._batch_count
        self.clear()
        if batch_count > 1:
            self._lone_count = 0
        if len(appends) > 1:
            every = [buffer for append in appends for buffer in append.buffers]
            size = sum(append.size for append in appends)
            return Write(every, size, appends[-1].end_offset, 0)
        ((buffers, size, end_offset),) = appends
        if batch_count == 1 and (zeros := self._to_take_along(position, size)):
            return Write([*buffers, zeros], size, end_offset, len(zeros))
        return Write(buffers, size, end_offset, 0)

    def _to_take_along(self, position: Position, size: Size) -> bytes:
        self._lone_count += 1
        if size <= self.zeros_size or self._lone_count < self._lone_count_min:
            return b""
        if not self._may_use_zeros or size > WRITE_SIZE_MAX or position < ZEROS_SIZE_MIN:
            return b""
        return _zeros(min(ZEROS_SIZE_MAX, 1 << (position.bit_length() - 1)))

    def written(self, write: Write) -> None:
        """It is durable, and so are the zeros that it took along."""
        self.zeros_size = max(self.zeros_size - write.size, write.zeros_size)

    def zeros_are_cut(self) -> None:
        """They are gone from the file."""
        self.zeros_size = self._lone_count = 0
        self._lone_count_min *= 2
