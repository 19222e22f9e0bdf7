"""A mark that only moves forward, and those who wait for it to pass a point."""

import heapq

import anyio


class Progress:
    """Everything below `offset` has happened. Waiters are woken in order; a failure wakes them
    all."""

    __slots__ = ("_count", "_failure", "_waiting", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._waiting: list[tuple[int, int, anyio.Event]] = []
        self._count = 0
        self._failure: Exception | None = None

    def advance(self, offset: int) -> None:
        """Move the mark up (never down) and wake whom it has passed."""
        if offset <= self.offset:
            return
        self.offset = offset
        waiting = self._waiting
        while waiting and waiting[0][0] <= offset:
            heapq.heappop(waiting)[2].set()

    def fail(self, failure: Exception) -> None:
        """The mark will not move again: everyone who still waits, or asks later beyond it, gets
        `failure`."""
        self._failure = failure
        waiting, self._waiting = self._waiting, []
        for _, _, event in waiting:
            event.set()

    async def reach(self, offset: int) -> None:
        """Return when everything below `offset` has happened. Raises what `fail` was given."""
        if offset <= self.offset:
            return
        if self._failure is None:
            event = anyio.Event()
            self._count += 1
            heapq.heappush(self._waiting, (offset, self._count, event))
            await event.wait()
        if offset > self.offset:
            assert self._failure is not None
            raise self._failure
