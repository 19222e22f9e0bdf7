"""asyncio's event loop, with a shorter way from a readable descriptor to who reads it.

asyncio turns each event of epoll into a key and a mask, that into a handle in the queue of what is
due, and calls it from there, once around the whole loop: three hundred instructions of the
interpreter for a socket that is ready alone. Here the callback of `add_reader` is called where
epoll names its descriptor, and epoll is asked again for as long as that leaves nothing else to do.
What readers leave for the end of the turn by `call_soon` is done when all that were ready have
read. Before it sleeps, it may ask for a moment longer whether there is something: see idle_poll.py.

All else is asyncio's own: a callback still has its handle there, which serves any event that is not
plain readability (a connection that was reset, a descriptor that somebody waits to write to).
"""

import asyncio
import select
import selectors
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVarTuple

from broker.server.idle_poll import IdlePoll

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_READABLE = select.EPOLLIN

_Args = TypeVarTuple("_Args")
_Event = tuple[selectors.SelectorKey, int]


class Loop(asyncio.SelectorEventLoop):
    """As its parent, but that a reader runs in the loop's context and not in that of its
    `add_reader`."""

    # What there is to do, as asyncio keeps it since Python 3.4.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(
        self, idle_poll_s: float = 0.0, *, is_slow: Callable[[], bool] = lambda: False
    ) -> None:
        """`idle_poll_s`: how long to ask for events at most before sleeping, in seconds.
        `is_slow`: what we wait for takes longer than that, so there is no use in it now."""
        self._readers = _Readers(self, IdlePoll(idle_poll_s), is_slow)
        super().__init__(self._readers)

    time = staticmethod(time.monotonic)

    def add_reader(
        self, fd: "FileDescriptorLike", callback: Callable[[*_Args], Any], *args: *_Args
    ) -> None:
        super().add_reader(fd, callback, *args)
        self._readers.callbacks[self._readers.get_key(fd).fd] = (
            partial(callback, *args) if args else callback
        )

    def failed(self, callback: Callable[[], object], error: BaseException) -> None:
        """As asyncio has it: a reader's error costs nobody else anything."""
        message = f"Exception in the reader {callback!r}"
        self.call_exception_handler({"message": message, "exception": error})


class _Readers(selectors.EpollSelector):
    """`select` calls those who read, and returns when there is something else to do, with the
    other events."""

    def __init__(self, loop: Loop, idle: IdlePoll, is_slow: Callable[[], bool]) -> None:
        super().__init__()
        self.callbacks: dict[int, Callable[[], object]] = {}
        """By descriptor."""
        self._loop = loop
        self._idle = idle
        self._is_slow = is_slow
        self._poll: Callable[[float | None], list[tuple[int, int]]]
        self._poll = self._selector.poll  # type: ignore[attr-defined]  # epoll's own

    def unregister(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self.callbacks.pop(key.fd, None)
        return key

    def select(self, timeout: float | None = None) -> list[_Event]:
        loop, callbacks, others = self._loop, self.callbacks, list[_Event]()
        ready, timers = loop._ready, loop._scheduled
        first = timers[0] if timers else None
        until = None if timeout is None else loop.time() + timeout
        while True:
            try:
                events = self._poll(timeout) if timeout == 0 else self._wait(timeout)
            except InterruptedError:
                return others
            for fd, event in events:
                callback = callbacks.get(fd)
                if callback is None or event != _READABLE:
                    self._hand_on(fd, event, others)
                    continue
                try:
                    callback()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001  It costs this callback alone.
                    loop.failed(callback, error)
            if ready or others or not events or loop._stopping:
                return others
            if (timers[0] if timers else None) is not first:
                return others  # It is due before the one that we wait for.
            if until is not None:
                timeout = until - loop.time()
                if timeout <= 0:
                    return others

    def _wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Events, as soon as there are some; none after `timeout` seconds. Raises
        InterruptedError."""
        idle, poll, clock = self._idle, self._poll, self._loop.time
        began = now = clock()
        if not idle.is_worthwhile or self._is_slow():
            events = poll(timeout)
            if events and clock() - began < idle.duration_s:
                idle.was_short()
            return events
        end = began + (idle.duration_s if timeout is None else min(idle.duration_s, timeout))
        while now < end:
            if events := poll(0):
                idle.was_short()
                return events
            now = clock()
        idle.was_in_vain()
        return poll(timeout if timeout is None else max(began + timeout - now, 0.0))

    def _hand_on(self, fd: int, event: int, others: list[_Event]) -> None:
        """As the parent has it."""
        key = self.get_map().get(fd)
        if key is None:
            return  # Somebody in this turn has removed it.
        mask = selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
        mask |= selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
        others.append((key, mask & key.events))
