"""What the two real backends have in common: all but the way of writes and syncs to the disk."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from engine.backends import FilePart, Fs, Monotonic, ReadDone, WriteDone, only_os_errors
from engine.backends._file_part import Lender
from engine.backends._page_cache import PageCache
from engine.backends._posix import Completions, InTurn, PosixFs, Workers
from engine.batch import Buffer

T = TypeVar("T")


class RealBackend(ABC):
    """Part of a `Backend`; see the protocol for the rules. Reads come from the page cache or go to
    a thread, and so does other blocking work."""

    def __init__(self, *, reason: str, monotonic: Monotonic | None) -> None:
        self.reason = reason
        self.fs: Fs = PosixFs()
        self._completions = Completions()
        self._workers = Workers(self._completions)
        self._page_cache = PageCache()
        self._lender = Lender()
        self._in_turn = InTurn(monotonic, partial(self._queue_write, sync=False))

    @abstractmethod
    def _queue_write(
        self, file: int, position: int, buffers: Sequence[Buffer], on_done: WriteDone, *, sync: bool
    ) -> None:
        """For the next `submit`."""

    def fileno(self) -> int:
        return self._completions.eventfd

    def write(
        self, file: int, position: int, buffers: Sequence[Buffer], *, sync: bool, on_done: WriteDone
    ) -> None:
        if not sync and self._in_turn.takes(buffers):
            self._in_turn.add(file, position, buffers, on_done)
        else:
            self._queue_write(file, position, buffers, on_done, sync=sync)

    def read(self, file: int, position: int, size: int, on_done: ReadDone) -> None:
        cached = self.cached(file, position, size)
        if cached is not None:
            on_done(cached)
        else:
            job = partial(self.fs.pread, file, position, size)
            self._workers.run(job, partial(only_os_errors, on_done))

    def cached(self, file: int, position: int, size: int) -> Buffer | None:
        return self._page_cache.read(file, position, size)

    def lend(self, file: int, position: int, size: int) -> FilePart | None:
        return self._lender.lend(file, position, size)

    def run(self, job: Callable[[], T], on_done: Callable[[T | Exception], None]) -> None:
        self._workers.run(job, on_done)

    def wait(self) -> None:
        self._completions.wait()
