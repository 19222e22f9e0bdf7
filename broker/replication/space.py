"""Room on the disk that holds the records.

A node that is nearly out of it takes no more records while it still can say so, hand over what it
leads, and write the little that its metadata needs. A write that meets a full disk all the same
(somebody else filled it) has the same effect at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import anyio
import anyio.to_thread

CHECK_S = 1.0
"""How often to look. At a gigabyte per second the reserve is to last until the next look."""


class Usage(NamedTuple):
    """Bytes of a disk."""

    total_size: int
    free_size: int
    """What may still be written."""


class Space:
    """Of one disk. `look` blocks; None for a disk without end. With less than `reserve_size` bytes
    free the disk is short of space."""

    def __init__(self, look: Callable[[], Usage] | None = None, *, reserve_size: int = 0) -> None:
        self._look = look
        self._reserve_size = reserve_size
        self._changed = anyio.Event()
        self.is_short = False
        self.usage: Usage | None = None
        """At the last look; None before the first, and for a disk without end."""

    async def run(self) -> None:
        """Until cancelled. Raises OSError when the disk cannot be asked."""
        while True:
            if self._look is None:
                self._set(False)
            else:
                self.usage = await anyio.to_thread.run_sync(self._look)
                self._set(self.usage.free_size < self._reserve_size)
            await anyio.sleep(CHECK_S)

    def note_full(self) -> None:
        """A write did not fit. True again until the next look finds room."""
        self._set(True)

    async def until(self, *, is_short: bool) -> None:
        """Wait until the disk is short of space, or until it is not. It may have changed again by
        then: who waits hears of a shortage however short."""
        if self.is_short is not is_short:
            await self._changed.wait()

    def _set(self, is_short: bool) -> None:
        if is_short is not self.is_short:
            self.is_short = is_short
            event, self._changed = self._changed, anyio.Event()
            event.set()
