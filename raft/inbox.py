"""What waits for a thread: calls that other threads hand in, and descriptors that can be read.

The thread sleeps in one place, so whatever comes wakes it once and directly: a message of another
member is read by the very thread that answers it."""

import os
import queue
import select
import threading
from collections.abc import Callable

Call = Callable[[], None]


class Inbox:
    """Before `open` and after `close` it is only a queue.

    Thread safe: `put`, `watch`, `unwatch`. The rest belongs to the thread that sleeps here."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._epoll: select.epoll | None = None
        self._bell = -1
        self._readers: dict[int, Call] = {}
        self._is_asleep = False

    def open(self) -> None:
        """From now on there is a place to sleep. Raises OSError."""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._bell, select.EPOLLIN)

    def close(self) -> None:
        """Nobody sleeps here any more."""
        with self._lock:
            epoll, self._epoll = self._epoll, None
            self._readers.clear()
            if epoll is not None:
                epoll.close()
                os.close(self._bell)

    # ---- other threads ---------------------------------------------------------------------------

    def put(self, call: Call) -> None:
        """Have `call` called. Rings only for somebody asleep: whoever is awake looks again before
        going to sleep."""
        self._calls.put(call)
        if self._is_asleep:
            self._ring()

    def _ring(self) -> None:
        with self._lock:
            if self._epoll is not None and self._is_asleep:
                self._is_asleep = False
                os.eventfd_write(self._bell, 1)

    def watch(self, descriptor: int, on_readable: Call) -> None:
        """Call `on_readable` whenever there is something to read, until `unwatch`; it must not
        block."""
        with self._lock:
            if self._epoll is not None:
                self._readers[descriptor] = on_readable
                self._epoll.register(descriptor, select.EPOLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Comes before the descriptor is closed. No error when nobody watches it."""
        with self._lock:
            if self._readers.pop(descriptor, None) is not None and self._epoll is not None:
                self._epoll.unregister(descriptor)

    # ---- the thread that sleeps here -------------------------------------------------------------

    def get_nowait(self) -> Call:
        """The next call. Raises queue.Empty."""
        return self._calls.get_nowait()

    def wait(self, timeout_s: float) -> None:
        """Sleep until there is a call or something was read, or the time is up."""
        assert self._epoll is not None, "not open"
        self._is_asleep = True
        events = self._epoll.poll(timeout_s if self._calls.empty() else 0.0)
        self._is_asleep = False
        for descriptor, _event in events:
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
            elif (on_readable := self._readers.get(descriptor)) is not None:
                on_readable()
