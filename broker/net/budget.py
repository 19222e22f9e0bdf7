"""One bound on the memory that all connections together may hold, and a fair queue for it.

What counts: bytes of requests that are being received or worked on, and bytes of replies that are
not yet sent. What waits: only receiving. A reply exists already when its size is known, so charging
it cannot wait; it delays the next read instead. The total stays below `size_max`, plus one read per
loop turn, plus the replies being made when it was reached, plus one frame:

Overdraft. Many half-received frames could fill the budget and then wait for each other for ever. So
when it is spent, one account at a time, the longest waiting that has begun a frame, may go on until
its frame is complete, and keeps that right until what it holds is released.
"""

from collections import deque

import anyio

IN_FLIGHT_SIZE_MAX = 256 * 1024 * 1024
"""Bytes, the default. Kafka's `queued.max.request.bytes` is unlimited; Redpanda takes a share of
its RAM."""


class Budget:
    """The total. Make one per process, and one `account` per connection."""

    def __init__(self, size_max: int = IN_FLIGHT_SIZE_MAX) -> None:
        if size_max < 1:
            raise ValueError(f"a budget of {size_max} bytes lets nobody read")
        self.size_max = size_max
        self.used_size = 0
        self.used_size_peak = 0
        self.wait_count = 0
        """How often a connection had to wait."""
        self._waiters: deque[Account] = deque()
        self._turn: Account | None = None
        """Was woken and is about to receive; the next waiter is woken after it has."""
        self._overdraft: Account | None = None

    def account(self) -> "Account":
        """What one connection holds."""
        return Account(self)

    @property
    def is_spent(self) -> bool:
        """Connections are waiting for memory."""
        return bool(self._waiters)

    def _may_receive(self, account: "Account", *, in_frame: bool) -> bool:
        if account is self._turn or (account is self._overdraft and in_frame):
            return True
        if self._waiters or self._turn is not None:
            return False
        if self.used_size < self.size_max:
            return True
        if in_frame and self._overdraft is None:
            self._overdraft = account
            return True
        return False

    def _charge(self, size: int) -> None:
        self.used_size += size
        self.used_size_peak = max(self.used_size_peak, self.used_size)

    def _release(self, size: int) -> None:
        self.used_size -= size
        assert self.used_size >= 0, "more was released than charged"
        if self._overdraft is not None and (
            self._overdraft.held_size == 0 or self.used_size < self.size_max
        ):
            self._overdraft = None
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        """Give the turn to the next waiter that may go on now."""
        if self._turn is not None:
            return
        account: Account | None = None
        if self.used_size < self.size_max:
            account = self._waiters.popleft() if self._waiters else None
        elif self._overdraft is None:
            account = next((each for each in self._waiters if each.in_frame), None)
            if account is not None:
                self._waiters.remove(account)
                self._overdraft = account
        if account is not None:
            self._turn = account
            account.wake()


class Account:
    """What one connection holds of the budget."""

    __slots__ = ("_budget", "_woken", "held_size", "in_frame")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._woken: anyio.Event | None = None
        self.held_size = 0
        """Bytes."""
        self.in_frame = False
        """While waiting: a frame has begun, so this account qualifies for the overdraft."""

    def may_receive(self, *, in_frame: bool) -> bool:
        """Ask before each read. False: `await room(…)` first."""
        return self._budget._may_receive(self, in_frame=in_frame)

    def received(self, size: int) -> None:
        """Charge what a read brought, and pass the turn on."""
        self.charge(size)
        self.pass_turn()

    def charge(self, size: int) -> None:
        """Hold `size` bytes more, whether there is room or not."""
        self.held_size += size
        self._budget._charge(size)

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        self.held_size -= size
        assert self.held_size >= 0, "more was released than charged"
        self._budget._release(size)

    async def room(self, *, in_frame: bool) -> None:
        """Wait in line until it is our turn to receive, or until `leave`."""
        budget = self._budget
        self.in_frame = in_frame
        self._woken = woken = anyio.Event()
        budget.wait_count += 1
        budget._waiters.append(self)
        budget._wake()
        try:
            await woken.wait()
        finally:
            self._woken = None
            if self in budget._waiters:
                budget._waiters.remove(self)

    def pass_turn(self) -> None:
        """We will not receive now; whoever is next may."""
        if self._budget._turn is self:
            self._budget._turn = None
            self._budget._wake()

    def wake(self) -> None:
        """End our own `room`."""
        if self._woken is not None:
            self._woken.set()

    def close(self) -> None:
        """Give everything back; the connection is gone."""
        self.wake()
        held_size, self.held_size = self.held_size, 0
        if self._budget._overdraft is self:
            self._budget._overdraft = None
        self._budget._release(held_size)
        self.pass_turn()
