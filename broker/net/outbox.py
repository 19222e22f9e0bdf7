"""The replies of one connection on their way out: what the socket takes at once, and what waits for
the peer.

Replies leave in the order in which they are put. What the socket takes where they are made never
counts as held; the rest is charged to the connection's account until the peer has taken it. What
is in files is charged alike: it may be sent long after its pages have left the page cache.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from broker.bell import Bell
from broker.net.budget import Account
from broker.net.limits import ListenerStats
from broker.net.stream import IOV_MAX, Stream
from broker.ports import Buffer, Reply, Sendable


class Outbox:
    """Answered and not sent, in order. All methods raise anyio.BrokenResourceError when the
    connection is gone, if they send."""

    __slots__ = (
        "_account",
        "_burst",
        "_is_complete",
        "_now",
        "_put",
        "_replies",
        "_sent",
        "_size",
        "_size_max",
        "_stats",
        "_stream",
        "sent_at",
    )

    def __init__(
        self,
        stream: Stream,
        account: Account,
        stats: ListenerStats,
        monotonic: Callable[[], float],
        *,
        size_max: int,
    ) -> None:
        """More than `size_max` bytes of replies: `is_choked`."""
        self._stream = stream
        self._account = account
        self._stats = stats
        self._now = monotonic
        self._size_max = size_max
        self._replies: deque[Sendable] = deque()
        self._size = 0
        self._burst: list[Sendable] = []
        """The first of them, while they are being sent."""
        self._put, self._sent = Bell(), Bell()
        self._is_complete = False
        self.sent_at = -math.inf
        """When the peer last took bytes, or was first offered some."""

    def __len__(self) -> int:
        return len(self._replies)

    def is_choked(self, more_size: int = 0) -> bool:
        """The peer has more replies to read than it may before another one is made."""
        return self._size + more_size > self._size_max

    async def room(self) -> None:
        """Wait while it is choked."""
        while self.is_choked():
            await self._sent.wait()

    def put(self, reply: Reply, *, is_last: bool) -> None:
        """A reply that a task made. `is_last`: nothing else is owed that could share the system
        call, so there is no need to wake the task that sends."""
        size = sum(map(len, reply))
        if size == 0:
            return
        is_first = not self._replies
        self._hold(reply, size)
        if not is_first:
            return  # The sending task is at it, or waits for the peer.
        self.sent_at = self._now()
        if is_last:
            self._took(self._stream.send_now(self._next_burst()))
        if self._replies:
            self._put.ring()

    def put_all(self, replies: Sequence[Sendable], size: int) -> None:
        """Replies of `size` bytes that nobody waits for."""
        if not self._replies and len(replies) <= IOV_MAX:
            self.sent_at = self._now()
            sent_size = self._stream.send_now(replies)
            self._stats.sent_size += sent_size
            if sent_size == size:
                return
            replies, size = _rest(replies, sent_size), size - sent_size
        self._hold(replies, size)
        self._put.ring()

    def complete(self) -> None:
        """Nothing more will be put."""
        self._is_complete = True
        self._put.ring()

    async def send_all(self) -> None:
        """Send what is put, until it is complete and sent."""
        while True:
            while self._replies:
                self._took(await self._stream.send(self._next_burst()))
            if self._is_complete:
                return
            await self._put.wait()

    def drop(self) -> None:
        """Forget what is left: it may be large, and does not count any more."""
        self._replies.clear()
        self._burst.clear()

    def _hold(self, replies: Sequence[Sendable], size: int) -> None:
        self._account.charge_reply(size)
        self._size += size
        self._replies.extend(replies)

    def _next_burst(self) -> list[Sendable]:
        self._burst[:] = islice(self._replies, IOV_MAX)
        return self._burst

    def _took(self, size: int) -> None:
        """The peer took `size` bytes from the front."""
        if size == 0:
            return
        self.sent_at = self._now()
        self._stats.sent_size += size
        self._account.release_reply(size)
        self._size -= size
        replies = self._replies
        while size:
            first = replies[0]
            if len(first) > size:
                replies[0] = _after(first, size)
                break
            size -= len(first)
            replies.popleft()
        while replies and not replies[0]:
            replies.popleft()
        if not self.is_choked():
            self._sent.ring()


def _rest(replies: Sequence[Sendable], size: int) -> list[Sendable]:
    """What is left after the first `size` bytes."""
    for i, reply in enumerate(replies):
        if size < len(reply):
            return [_after(reply, size), *replies[i + 1 :]]
        size -= len(reply)
    return []


def _after(reply: Sendable, size: int) -> Sendable:
    return memoryview(reply)[size:] if isinstance(reply, Buffer) else reply.after(size)
