"""Parts of files for sockets: the kernel hands the pages on (`sendfile`), and nobody copies them.

A socket that takes such a part waits for the disk where a page is not in the page cache, and there
is no way to forbid that. So whoever must not wait asks before (`mincore`, which knows of pages that
are still on their way), and has them loaded by a thread.
"""

import ctypes
import mmap
import os
from typing import Final

from engine.batch import Position, Size

LENT_MAX: Final = 128
"""Files of which parts are lent at once, each by a descriptor of its own. Who gets none is read
to."""

_libc = ctypes.PyDLL(None)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)

_MAP_FAILED: Final = ctypes.c_void_p(-1).value


class Lender:
    """Lends parts of files. Of one thread, but parts may be given back on any."""

    def __init__(self) -> None:
        self._lent: set[int] = set()
        """Descriptors."""

    def lend(self, file: int, position: Position, size: Size) -> "FilePart | None":
        """A part that stays what it is if `file` is closed; None while too many are lent."""
        if len(self._lent) >= LENT_MAX:
            return None
        try:
            own = os.dup(file)
        except OSError:
            return None
        return FilePart(_Lent(own, self._lent), position, size)


class _Lent:
    """A descriptor that is closed when the last part of its file is gone."""

    __slots__ = ("_others", "file")

    def __init__(self, file: int, others: set[int]) -> None:
        self.file = file
        self._others = others
        others.add(file)

    def __del__(self) -> None:
        # In this order: once it is closed, the number may be lent again.
        self._others.discard(self.file)
        os.close(self.file)


class FilePart:
    """`size` bytes of a file from `position` on, which are there and do not change."""

    __slots__ = ("_lent", "_position", "_size")

    def __init__(self, lent: _Lent, position: Position, size: Size) -> None:
        self._lent = lent
        self._position = position
        self._size = size

    def __len__(self) -> Size:
        return self._size

    def after(self, size: Size) -> "FilePart":
        """What is left after the first `size` bytes."""
        return FilePart(self._lent, self._position + size, self._size - size)

    def is_cached(self) -> bool:
        """Whether all of it is in the page cache, so that `send` does not wait for the disk."""
        start = self._position - self._position % mmap.PAGESIZE
        size = self._position + self._size - start
        page_count = -(-size // mmap.PAGESIZE)
        pages = ctypes.create_string_buffer(page_count)
        place = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, self._lent.file, start)
        if place == _MAP_FAILED:
            return False
        try:
            return _libc.mincore(place, size, pages) == 0 and pages.raw.count(1) == page_count
        finally:
            _libc.munmap(place, size)

    def load(self) -> None:
        """Blocking: bring all of it into the page cache. Raises OSError."""
        # It takes pages without looking at them, so they are brought and not copied.
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self._hand_to(nowhere, self._size)
        finally:
            os.close(nowhere)

    def send(self, socket: int) -> Size:
        """Let the socket with this descriptor take from the beginning as much as it does at once.

        Returns bytes, at least one. Raises BlockingIOError if it takes nothing now, and OSError.
        """
        return self._hand_to(socket, 1)

    def _hand_to(self, target: int, size_min: Size) -> Size:
        file, position, size = self._lent.file, self._position, 0
        while size < size_min:
            taken = os.sendfile(target, file, position + size, self._size - size)
            if taken == 0:
                raise OSError(f"a file ends at {position + size}, before {position + self._size}")
            size += taken
        return size
