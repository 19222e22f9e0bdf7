"""A mark that only moves forward, and those who wait for it to pass a point."""

import asyncio
import heapq
from math import inf

from broker.ports import Wake


class Progress:
    """Everything below `offset` has happened. Waiters are woken in order; a failure wakes them
    all.

    One timer serves all of them: it is set for the earliest deadline, and most who wait have long
    gone when it fires.
    """

    __slots__ = ("_count", "_failure", "_loop", "_timer", "_timer_at", "_waiting", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._waiting: list[tuple[int, int, Wake, float]] = []
        """(offset, number, what to call, deadline), a heap."""
        self._count = 0
        self._failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def advance(self, offset: int) -> None:
        """Move the mark up (never down) and wake whom it has passed."""
        if offset <= self.offset:
            return
        self.offset = offset
        waiting = self._waiting
        while waiting and waiting[0][0] <= offset:
            heapq.heappop(waiting)[2](None)

    def fail(self, failure: Exception) -> None:
        """The mark will not move again: everyone who still waits, or asks later beyond it, gets
        `failure`."""
        self._failure = failure
        waiting, self._waiting = self._waiting, []
        for _, _, wake, _ in waiting:
            wake(failure)

    def call(self, offset: int, wake: Wake, *, timeout_s: float | None = None) -> None:
        """`reach` without a task."""
        if offset <= self.offset or self._failure is not None:
            wake(None if offset <= self.offset else self._failure)
            return
        deadline = inf
        if timeout_s is not None:
            loop = self._loop = self._loop or asyncio.get_running_loop()
            deadline = loop.time() + timeout_s
            if deadline < self._timer_at:
                self._set_timer(loop, deadline)
        self._count += 1
        heapq.heappush(self._waiting, (offset, self._count, wake, deadline))

    async def reach(self, offset: int, *, timeout_s: float | None = None) -> None:
        """Return when everything below `offset` has happened. Raises what `fail` was given, and
        TimeoutError."""
        if offset <= self.offset:
            return
        # A bare future: an event inside a cancel scope costs ten times as many instructions.
        waiter: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def wake(failure: Exception | None) -> None:
            if not waiter.done():
                waiter.set_result(failure)

        self.call(offset, wake, timeout_s=timeout_s)
        if (failure := await waiter) is not None:
            raise failure

    def _set_timer(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = loop.call_at(at, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        due_at, self._timer, self._timer_at = self._timer_at, None, inf
        overdue = [entry for entry in self._waiting if entry[3] <= due_at]
        if overdue:
            self._waiting = [entry for entry in self._waiting if entry[3] > due_at]
            heapq.heapify(self._waiting)
        next_at = min((entry[3] for entry in self._waiting), default=inf)
        if next_at < inf:
            self._set_timer(loop, next_at)
        for _, _, wake, _ in sorted(overdue):
            wake(TimeoutError())
