"""pwritev, fdatasync and pread on a few threads: works everywhere."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from engine.backends import Fs, Monotonic, ReadDone, WriteDone, only_os_errors
from engine.backends._posix import (
    Completions,
    InTurn,
    PosixFs,
    Workers,
    read_cached,
    write_all,
)
from engine.batch import Buffer

T = TypeVar("T")


class PreadBackend:
    """`Backend` on threads. See the protocol for the rules."""

    name = "pread"

    def __init__(self, *, reason: str, monotonic: Monotonic | None = None) -> None:
        self.reason = reason
        self.fs: Fs = PosixFs()
        self._completions = Completions()
        self._workers = Workers(self._completions)
        self._in_turn = InTurn(monotonic, partial(self._queue_write, sync=False))
        self._queued: list[tuple[Callable[[], None], WriteDone]] = []

    def fileno(self) -> int:
        return self._completions.eventfd

    def reap(self) -> None:
        self._completions.clear_signal()
        try:
            self._completions.run()
        except BaseException:
            self._completions.signal()
            raise

    def write(
        self, file: int, position: int, buffers: Sequence[Buffer], *, sync: bool, on_done: WriteDone
    ) -> None:
        if not sync and self._in_turn.takes(buffers):
            self._in_turn.add(file, position, buffers, on_done)
        else:
            self._queue_write(file, position, buffers, on_done, sync=sync)

    def _queue_write(
        self, file: int, position: int, buffers: Sequence[Buffer], on_done: WriteDone, *, sync: bool
    ) -> None:
        self._queued.append((partial(write_all, file, position, buffers, sync), on_done))

    def sync(self, file: int, on_done: WriteDone) -> None:
        self._queued.append((partial(os.fdatasync, file), on_done))

    def read(self, file: int, position: int, size: int, on_done: ReadDone) -> None:
        cached = self.cached(file, position, size)
        if cached is not None:
            on_done(cached)
        else:
            self._workers.run(
                partial(self.fs.pread, file, position, size), partial(only_os_errors, on_done)
            )

    def cached(self, file: int, position: int, size: int) -> Buffer | None:
        return read_cached(file, position, size)

    def run(self, job: Callable[[], T], on_done: Callable[[T | Exception], None]) -> None:
        self._workers.run(job, on_done)

    def submit(self) -> None:
        try:
            self._in_turn.run()
        except BaseException:
            self._completions.put(self.submit)
            raise
        queued, self._queued = self._queued, []
        for job, on_done in queued:
            self._workers.run(job, partial(only_os_errors, on_done))

    def wait(self) -> None:
        self._completions.wait()

    def close(self) -> None:
        self._in_turn.run(call_back=False)
        self.submit()
        self._workers.close()
        self._completions.close()
