"""Finding whole batches in a log file, from a position that an index gave."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from engine.backends import Backend, ReadDone
from engine.batch import (
    HEADER_SIZE,
    Buffer,
    Offset,
    Position,
    Size,
    parse_extent,
)
from engine.errors import CorruptBatchError
from engine.index import SegmentIndex

SCAN_SIZE: Size = 16 * 1024
"""Read beyond what was asked for, to skip from the index entry to the wanted batch without a second
read."""


class Reads(Protocol):
    """What a `BatchRead` needs of a backend."""

    def read(self, file: int, position: int, size: int, on_done: ReadDone) -> None: ...


class CachedReads:
    """Reads that never wait for the disk, and fail with BlockingIOError where they would have to.

    Each is done when `read` returns.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def read(self, file: int, position: int, size: int, on_done: ReadDone) -> None:
        data = self._backend.cached(file, position, size)
        on_done(BlockingIOError() if data is None else data)


class BatchRead:
    """One read: the batches from the one that contains `offset` up to `end_offset`.

    The result is at most `size_max` bytes, but at least one batch; b"" if no batch below
    `end_offset` reaches `offset`.
    """

    def __init__(
        self,
        backend: Reads,
        file: int,
        index: SegmentIndex,
        *,
        position: Position,
        limit: Position,
        offset: Offset,
        end_offset: Offset,
        size_max: Size,
        on_done: Callable[[Buffer | Exception, tuple[Offset, Position] | None], None],
    ) -> None:
        """`position` is the start of a batch at or before the wanted one; `limit` is the end of
        what was written. `on_done` is given the result, and where a read of what follows it would
        start."""
        self._backend = backend
        self._file = file
        self._index = index
        self._position = position
        self._limit = limit
        self._offset = offset
        self._end_offset = end_offset
        self._size_max = size_max
        self._on_done = on_done
        self._next: tuple[Offset, Position] | None = None

    def start(self) -> None:
        self._read(self._size_max + SCAN_SIZE)

    def _read(self, size: Size) -> None:
        size = min(max(size, HEADER_SIZE), self._limit - self._position)
        if size <= 0:
            self._on_done(b"", None)
            return
        self._backend.read(self._file, self._position, size, partial(self._got, size))

    def _got(self, size: Size, data: Buffer | OSError) -> None:
        if isinstance(data, OSError):
            self._on_done(data, None)
            return
        try:
            if len(data) < size:
                raise CorruptBatchError(f"the file ends {size - len(data)} bytes early")
            result = self._take(data)
        except CorruptBatchError as error:
            self._on_done(error, None)
            return
        if result is not None:
            self._on_done(result, self._next)

    def _take(self, data: Buffer) -> Buffer | None:
        """The result, or None if another read was started."""
        start = self._skip(data)
        if start is None:
            return None
        end, first_size = self._extent(data, start)
        if end > start:
            # A copy costs more than the reading did, unless it is of the smaller part.
            result = memoryview(data)[start:end]
            return result if len(result) > len(data) // 2 else bytes(result)
        if first_size == 0:
            return b""
        self._position += start
        if first_size > self._limit - self._position:
            raise CorruptBatchError(f"a batch of {first_size} bytes leaves the file")
        self._read(max(first_size, self._size_max))
        return None

    def _skip(self, data: Buffer) -> Position | None:
        """Where in `data` the wanted batch starts; None if it lies beyond and is being read."""
        start = 0
        while len(data) - start >= HEADER_SIZE:
            base_offset, next_offset, size = parse_extent(data, start)
            if base_offset > self._offset and start == 0:
                raise CorruptBatchError(f"offset {base_offset} at a place before {self._offset}")
            if next_offset > self._offset:
                return start
            start += size
        if start == 0:
            raise CorruptBatchError(f"{len(data)} bytes are no batch header")
        self._position += start
        self._read(self._size_max + SCAN_SIZE)
        return None

    def _extent(self, data: Buffer, start: Position) -> tuple[Position, Size]:
        """Where the batches to return end in `data`, and the size of the first one (0: none is
        below the end)."""
        end, first_size = start, 0
        end_max = min(start + self._size_max, len(data))
        jump, jump_offset = self._index.last_batch(
            self._position + end_max - HEADER_SIZE, self._end_offset - 1
        )
        while len(data) - end >= HEADER_SIZE:
            _, next_offset, size = parse_extent(data, end)
            if next_offset > self._end_offset:
                break
            first_size = first_size or size
            if end + size > len(data) or (end + size > end_max and end > start):
                break
            end += size
            self._next = (next_offset, self._position + end)
            if self._position + end < jump:
                end = self._jump(data, jump, jump_offset)
        return end, first_size

    def _jump(self, data: Buffer, target: Position, last_offset: Offset) -> Position:
        """All between here and the batch of an index entry is whole and wanted: no need to walk."""
        position = target - self._position
        base_offset, next_offset, _ = parse_extent(data, position)
        if next_offset != last_offset + 1:
            raise CorruptBatchError(f"no batch up to offset {last_offset} starts at {target}")
        self._next = (base_offset, target)
        return position
