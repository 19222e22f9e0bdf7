"""One bound on the memory that all connections together may hold, and a fair line for it.

What counts: bytes of requests that are being received or worked on, and bytes of replies that are
being made or not yet sent. Two things wait, each in its own line:

  * Receiving, while all that counts is at `size_max`. Many half-received frames could fill the
    budget and then wait for each other for ever; so one account at a time, the longest waiting that
    has begun a frame, may overdraw it until its frame is complete, and keeps that right until what
    it holds is released.
  * Making a large reply, which its maker announces by `reserve`, while replies alone are at half of
    that. Requests do not count here: they are released only after their replies are made, and would
    wait for themselves. A small reply that nobody announced is charged when it exists.

So the total stays below one and a half times `size_max`, plus one frame, one read per loop turn,
and what replies exceed their announcement by.
"""

import asyncio
from collections import deque
from types import TracebackType

import anyio

IN_FLIGHT_SIZE_MAX = 256 * 1024 * 1024
"""Bytes, the default. Kafka's `queued.max.request.bytes` is unlimited; Redpanda takes a share of
its RAM."""


class Budget:
    """The total. Make one per process, and one `account` per connection."""

    def __init__(self, size_max: int = IN_FLIGHT_SIZE_MAX) -> None:
        if size_max < 2:
            raise ValueError(f"a budget of {size_max} bytes lets nobody read")
        self.size_max = size_max
        self.used_size = 0
        """Bytes of requests and replies."""
        self.used_size_peak = 0
        self.reply_size = 0
        """Those of replies and of reservations for them."""
        self.wait_count = 0
        """How often somebody had to wait."""
        self._readers: deque[Account] = deque()
        self._makers: deque[Reservation] = deque()
        self._turn: Account | None = None
        """Was woken and is about to receive; the next reader is woken after it has."""
        self._overdraft: Account | None = None
        self._last: Account | None = None
        """Who received last."""

    def account(self) -> "Account":
        """What one connection holds."""
        return Account(self)

    def reserve(self, size: int) -> "Reservation":
        """`async with budget.reserve(size):` make a reply of about `size` bytes, in its turn.

        What comes out of the block without awaiting anything is charged before the reservation
        ends, so that it counts all the time. A reply larger than all replies may be waits until
        there is no other.
        """
        return Reservation(self, min(size, self.reply_size_max))

    def has_room(self, size: int) -> bool:
        """Whether `reserve` would not wait. For who makes a reply and hands it to the connection in
        one step."""
        return not self._makers and self._may_make(min(size, self.reply_size_max))

    @property
    def reply_size_max(self) -> int:
        return self.size_max // 2

    @property
    def is_spent(self) -> bool:
        """Somebody waits for memory."""
        return bool(self._readers or self._makers)

    def _charge(self, size: int, reply_size: int) -> None:
        self.used_size += size + reply_size
        self.reply_size += reply_size
        if self.used_size > self.used_size_peak:
            self.used_size_peak = self.used_size

    def _release(self, size: int, reply_size: int) -> None:
        self.used_size -= size + reply_size
        self.reply_size -= reply_size
        assert self.used_size >= self.reply_size >= 0, "more was released than charged"
        self._make_room()

    def _make_room(self) -> None:
        """Something was released: for whoever waits for it."""
        if self._overdraft is not None and (
            self._overdraft.held_size == 0 or self.used_size < self.size_max
        ):
            self._overdraft = None
        if self._makers:
            self._wake_makers()
        if self._readers:
            self._wake_reader()

    # ---- receiving

    def _may_receive(self, account: "Account", *, in_frame: bool) -> bool:
        if account is self._turn or (account is self._overdraft and in_frame):
            return True
        if self._readers or self._turn is not None:
            return False
        if self.used_size < self.size_max:
            return True
        if in_frame and self._overdraft is None:
            self._overdraft = account
            return True
        return False

    def _wake_reader(self) -> None:
        """Give the turn to the next reader that may go on now."""
        if self._turn is not None:
            return
        account: Account | None = None
        if self.used_size < self.size_max:
            account = self._readers.popleft() if self._readers else None
        elif self._overdraft is None:
            account = next((each for each in self._readers if each.in_frame), None)
            if account is not None:
                self._readers.remove(account)
                self._overdraft = account
        if account is not None:
            self._turn = account
            account.wake()

    # ---- making replies

    def _may_make(self, size: int) -> bool:
        return self.reply_size + size <= self.reply_size_max

    def _wake_makers(self) -> None:
        while self._makers and self._may_make(self._makers[0].size):
            maker = self._makers.popleft()
            self._charge(0, maker.size)
            maker.wake()


class Account:
    """What one connection holds of the budget."""

    __slots__ = ("_budget", "_reply_size", "_request_size", "_woken", "in_frame")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._woken: anyio.Event | None = None
        self._request_size = 0
        self._reply_size = 0
        self.in_frame = False
        """While waiting: a frame has begun, so this account qualifies for the overdraft."""

    @property
    def held_size(self) -> int:
        """Bytes."""
        return self._request_size + self._reply_size

    def may_receive(self, *, in_frame: bool) -> bool:
        """Ask before each read. False: `await room(…)` first."""
        budget = self._budget
        if budget.used_size < budget.size_max and not budget._readers and budget._turn is None:
            return True
        return budget._may_receive(self, in_frame=in_frame)

    def received(self, size: int) -> bool:
        """Charge what a read brought, and pass the turn on. True: the read before it, of all
        connections, was ours, too."""
        budget = self._budget
        self._request_size += size
        budget.used_size += size
        if budget.used_size > budget.used_size_peak:
            budget.used_size_peak = budget.used_size
        if budget._turn is self:
            self.pass_turn()
        was_last, budget._last = budget._last is self, self
        return was_last

    def release(self, size: int) -> None:
        """`size` bytes of requests are done with."""
        budget = self._budget
        self._request_size -= size
        budget.used_size -= size
        assert self._request_size >= 0, "more was released than received"
        if budget._overdraft is not None or budget._readers or budget._makers:
            budget._make_room()

    def charge_reply(self, size: int) -> None:
        """A reply of `size` bytes exists."""
        self._reply_size += size
        self._budget._charge(0, size)

    def release_reply(self, size: int) -> None:
        """`size` bytes of replies are sent."""
        self._reply_size -= size
        assert self._reply_size >= 0, "more was sent than charged"
        self._budget._release(0, size)

    async def room(self, *, in_frame: bool) -> None:
        """Wait in line until it is our turn to receive, or until `wake`."""
        budget = self._budget
        self.in_frame = in_frame
        self._woken = woken = anyio.Event()
        budget.wait_count += 1
        budget._readers.append(self)
        budget._wake_reader()
        try:
            await woken.wait()
        finally:
            self._woken = None
            if self in budget._readers:
                budget._readers.remove(self)

    def pass_turn(self) -> None:
        """We will not receive now; whoever is next may."""
        if self._budget._turn is self:
            self._budget._turn = None
            self._budget._wake_reader()

    def wake(self) -> None:
        """End our own `room`."""
        if self._woken is not None:
            self._woken.set()

    def close(self) -> None:
        """Give everything back; the connection is gone."""
        self.wake()
        request_size, self._request_size = self._request_size, 0
        reply_size, self._reply_size = self._reply_size, 0
        if self._budget._overdraft is self:
            self._budget._overdraft = None
        if self._budget._last is self:
            self._budget._last = None
        self._budget._release(request_size, reply_size)
        self.pass_turn()


class Reservation:
    """Room for a reply that is being made; see `Budget.reserve`."""

    __slots__ = ("_budget", "_woken", "size")

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget = budget
        self._woken: anyio.Event | None = None
        self.size = size

    async def __aenter__(self) -> None:
        budget = self._budget
        if budget.has_room(self.size):
            budget._charge(0, self.size)
            return
        self._woken = anyio.Event()
        budget.wait_count += 1
        budget._makers.append(self)
        try:
            await self._woken.wait()
        except BaseException:
            if self in budget._makers:
                budget._makers.remove(self)
                budget._wake_makers()
            else:
                budget._release(0, self.size)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Not now: the reply takes this room over at the end of the present step.
        asyncio.get_running_loop().call_soon(self._budget._release, 0, self.size)

    def wake(self) -> None:
        """The room is ours."""
        if self._woken is not None:
            self._woken.set()
