"""Reads from the page cache, into buffers that are used again.

A new bytearray is zeroed before the kernel fills it: for a megabyte, a fifth of the time that the
filling takes. So large reads share a few buffers. Who is given one holds it by a view; it
is free again when its last view is gone, which is when it may be resized: Python refuses that to a
bytearray that lends its memory.
"""

import os
from typing import Final

from engine.batch import Buffer, Size

SHARED_SIZE_MIN: Final[Size] = 64 * 1024
"""Of a read. Below, a buffer of its own is as cheap."""
SHARED_SIZE: Final[Size] = 1024 * 1024 + 64 * 1024
"""Of a shared buffer: what consumers ask of a partition (1 MiB), and more to find its start in."""
SHARED_COUNT_MAX: Final = 4
"""More are held at once only where replies wait for peers that are slow."""


class PageCache:
    """For one thread. Owns the shared buffers."""

    def __init__(self) -> None:
        self._shared: list[bytearray] = []

    def read(self, file: int, position: int, size: Size) -> Buffer | None:
        """The bytes if all of them are in the page cache, else None. Never waits for the disk."""
        data = self._buffer(size)
        try:
            count = os.preadv(file, [data], position, os.RWF_NOWAIT)
        except OSError:
            # EAGAIN: not cached. EOPNOTSUPP: this file system cannot say. Either way a thread
            # reads it.
            return None
        return data if count == size else None

    def _buffer(self, size: Size) -> bytearray | memoryview:
        if not SHARED_SIZE_MIN <= size <= SHARED_SIZE:
            return bytearray(size)
        for buffer in self._shared:
            if _is_free(buffer):
                return memoryview(buffer)[:size]
        if len(self._shared) == SHARED_COUNT_MAX:
            return bytearray(size)
        self._shared.append(bytearray(SHARED_SIZE))
        return memoryview(self._shared[-1])[:size]


def _is_free(buffer: bytearray) -> bool:
    try:
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True
