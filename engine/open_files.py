"""Open descriptors of log files: so many at once, whatever is written and read.

A log is open while somebody uses it, and stays open until its descriptor is needed for another one;
the log that was used longest ago goes first. Who needs one while all are in use waits for its turn.
Nobody waits for a descriptor who holds another, so everybody's turn comes.
"""

from collections import deque
from collections.abc import Callable

from engine.backends import Fs

COUNT_MAX = 8_192
"""Logs open at once (Kafka keeps every segment open). Opening one again costs a tenth of a
millisecond, on another thread."""


class LogFile:
    """The descriptor of one segment's log. Only `OpenFiles` looks inside."""

    __slots__ = ("file", "is_doomed", "user_count")

    def __init__(self) -> None:
        self.file: int | None = None
        self.user_count = 0
        self.is_doomed = False


class OpenFiles:
    """Of one process.

    A descriptor in use is never closed: its number could be given to another file while a read is
    in flight.
    """

    def __init__(
        self, fs: Fs, *, count_max: int = COUNT_MAX, on_short: Callable[[], None] = lambda: None
    ) -> None:
        """`on_short` is told that somebody waits: who holds a descriptor that it could do without
        lets it go."""
        self._fs = fs
        self._count_max = count_max
        self._on_short = on_short
        self._idle: dict[LogFile, None] = {}
        """Open and not in use, the least recently used first."""
        self._in_use: set[LogFile] = set()
        self._promised_count = 0
        """Descriptors that somebody is opening at the moment."""
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def count(self) -> int:
        """Logs that are open."""
        return len(self._idle) + len(self._in_use)

    @property
    def waiting_count(self) -> int:
        """Users who wait for a descriptor."""
        return len(self._waiting)

    def take(self, log: LogFile) -> int | None:
        """Use the descriptor of `log`, if it is open. Pair with `release`."""
        if log.file is not None:
            if not log.user_count:
                del self._idle[log]
                self._in_use.add(log)
            log.user_count += 1
        return log.file

    def when_room(self, use: Callable[[], None]) -> None:
        """Call `use` when one more log may be opened, at once if it may. Pair with `add`, or with
        `give_up`."""
        self._waiting.append(use)
        self._admit()
        if self._waiting:
            self._on_short()

    def add(self, log: LogFile, file: int) -> int:
        """`file` was just opened for `log`: use it, or the one that was added meanwhile. Pair with
        `release`."""
        if log.file is None:
            self._promised_count -= 1
            log.file, log.user_count = file, 1
            self._in_use.add(log)
            return file
        self._fs.close(file)
        other = self.take(log)
        assert other is not None
        self.give_up()
        return other

    def give_up(self) -> None:
        """The log could not be opened."""
        self._promised_count -= 1
        self._admit()

    def release(self, log: LogFile) -> None:
        log.user_count -= 1
        if not log.user_count:
            self._in_use.remove(log)
            self._idle[log] = None
            if log.is_doomed:
                self._close(log)
            if self._waiting:
                self._admit()

    def forget(self, log: LogFile) -> None:
        """The file is being deleted: close its descriptor as soon as nobody uses it."""
        log.is_doomed = True
        if log in self._idle:
            self._close(log)

    def close(self) -> None:
        """Blocking. Nothing may be in flight."""
        for log in (*self._in_use, *self._idle):
            assert log.file is not None
            self._fs.close(log.file)
        self._in_use.clear()
        self._idle.clear()

    def _admit(self) -> None:
        while self._waiting and len(self._in_use) + self._promised_count < self._count_max:
            self._promised_count += 1
            while self.count + self._promised_count > self._count_max:
                self._close(next(iter(self._idle)))
            self._waiting.popleft()()

    def _close(self, log: LogFile) -> None:
        """One that is idle."""
        assert log.file is not None
        del self._idle[log]
        self._fs.close(log.file)
        log.file = None
