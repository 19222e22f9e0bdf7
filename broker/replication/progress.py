"""A mark that only moves forward, and those who wait for it to pass a point."""

import asyncio
import heapq


class Progress:
    """Everything below `offset` has happened. Waiters are woken in order; a failure wakes them
    all."""

    __slots__ = ("_count", "_failure", "_waiting", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._failure: Exception | None = None

    def advance(self, offset: int) -> None:
        """Move the mark up (never down) and wake whom it has passed."""
        if offset <= self.offset:
            return
        self.offset = offset
        waiting = self._waiting
        while waiting and waiting[0][0] <= offset:
            _wake(heapq.heappop(waiting)[2])

    def fail(self, failure: Exception) -> None:
        """The mark will not move again: everyone who still waits, or asks later beyond it, gets
        `failure`."""
        self._failure = failure
        waiting, self._waiting = self._waiting, []
        for _, _, waiter in waiting:
            _wake(waiter)

    async def reach(self, offset: int, *, timeout_s: float | None = None) -> None:
        """Return when everything below `offset` has happened. Raises what `fail` was given, and
        TimeoutError."""
        if offset <= self.offset:
            return
        if self._failure is None:
            await self._wait(offset, timeout_s)
        if offset > self.offset:
            raise self._failure or TimeoutError

    async def _wait(self, offset: int, timeout_s: float | None) -> None:
        # A bare future and a timer: an event inside a cancel scope costs ten times as many
        # instructions, at every produce.
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._count += 1
        heapq.heappush(self._waiting, (offset, self._count, waiter))
        timer = None if timeout_s is None else loop.call_later(timeout_s, _wake, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
