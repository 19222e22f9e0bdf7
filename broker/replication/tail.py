"""The newest batches of an open segment, in memory: what followers at the end are sent without
asking the disk (pure)."""

from collections import deque
from collections.abc import Sequence

from broker.ports import Buffer

SIZE_MAX = 8 * 1024 * 1024
"""Bytes per open segment. A follower further behind is served from the file."""


class Tail:
    """A ring of batches, contiguous, ending at the segment's end."""

    __slots__ = ("_batches", "_size", "_size_max", "end_offset")

    def __init__(self, end_offset: int, *, size_max: int = SIZE_MAX) -> None:
        self.end_offset = end_offset
        self._batches: deque[tuple[int, int, Sequence[Buffer], int]] = deque()
        """(base offset, end offset, buffers, size), oldest first."""
        self._size = 0
        self._size_max = size_max

    def push(self, base_offset: int, end_offset: int, buffers: Sequence[Buffer]) -> None:
        """A batch was appended; the oldest go when it becomes too much."""
        assert base_offset == self.end_offset, (base_offset, self.end_offset)
        size = sum(map(len, buffers))
        self._batches.append((base_offset, end_offset, buffers, size))
        self._size += size
        self.end_offset = end_offset
        while self._size > self._size_max and self._batches:
            self._size -= self._batches.popleft()[3]

    def since(self, offset: int, *, size_max: int) -> tuple[list[Buffer], int] | None:
        """Batches from the one that begins at `offset`, and where they end: about `size_max` bytes,
        at least one batch. None if they are no longer, or not yet, here."""
        if not self._batches or not self._batches[0][0] <= offset < self.end_offset:
            return None
        found: list[Buffer] = []
        size = 0
        end_offset = offset
        for base, end, buffers, batch_size in self._batches:
            if base < offset:
                continue
            if found and size + batch_size > size_max:
                break
            found += buffers
            size += batch_size
            end_offset = end
        return found, end_offset

    def forget_below(self, offset: int) -> None:
        """Every follower has what ends at or below `offset`."""
        while self._batches and self._batches[0][1] <= offset:
            self._size -= self._batches.popleft()[3]
