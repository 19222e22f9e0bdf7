"""What this process does with its memory, told once to Python's collector and to the C library."""

import ctypes
import gc
from typing import Final

GC_ALLOCATION_COUNT: Final = 20_000
"""Container objects that survive before the youngest of them are looked at; 700 is Python's own,
which one request with many partitions passes."""

HEAP_BLOCK_SIZE_MAX: Final = 16 * 1024 * 1024
"""Bytes. What is larger is mapped for itself and given back when it is freed; the requests and
replies of usual clients have a megabyte or a few."""

HEAP_IDLE_SIZE_MAX: Final = 32 * 1024 * 1024
"""Bytes that stay with the process when they are freed at the end of its heap: what some
connections need at once for a batch each, on its way in and on its way out."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""From glibc's malloc.h."""


def calm_collector() -> None:
    """Let the cycle collector look only at what comes from now on, and seldom.

    The schemas and the code are hundreds of thousands of objects that live as long as the process;
    a full collection over them stops every client for tens of milliseconds. What requests
    leave behind is freed by reference counts; cycles come from failures and ended connections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATION_COUNT, 20, 20)


def keep_freed_blocks() -> bool:
    """Use a block that was freed again rather than give it back to the kernel. False where the C
    library has no such wish (musl).

    By itself glibc returns a buffer of a megabyte as soon as it is free, and each of its pages then
    costs a page fault when the next request wants as much: half of a large Produce. See mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wishes = {_M_MMAP_THRESHOLD: HEAP_BLOCK_SIZE_MAX, _M_TRIM_THRESHOLD: HEAP_IDLE_SIZE_MAX}
    taken = [mallopt(name, size) == 1 for name, size in wishes.items()]
    return all(taken)
