"""pwritev, fdatasync and pread on a few threads: works everywhere."""

import os
from collections.abc import Callable, Sequence
from functools import partial

from engine.backends import Monotonic, WriteDone, only_os_errors
from engine.backends._base import RealBackend
from engine.backends._posix import write_all
from engine.batch import Buffer


class PreadBackend(RealBackend):
    """`Backend` on threads. See the protocol for the rules."""

    name = "pread"

    def __init__(self, *, reason: str, monotonic: Monotonic | None = None) -> None:
        super().__init__(reason=reason, monotonic=monotonic)
        self._queued: list[tuple[Callable[[], None], WriteDone]] = []

    def reap(self) -> None:
        self._completions.clear_signal()
        try:
            self._completions.run()
        except BaseException:
            self._completions.signal()
            raise

    def _queue_write(
        self, file: int, position: int, buffers: Sequence[Buffer], on_done: WriteDone, *, sync: bool
    ) -> None:
        self._queued.append((partial(write_all, file, position, buffers, sync), on_done))

    def sync(self, file: int, on_done: WriteDone) -> None:
        self._queued.append((partial(os.fdatasync, file), on_done))

    def submit(self) -> None:
        try:
            self._in_turn.run()
        except BaseException:
            self._completions.put(self.submit)
            raise
        queued, self._queued = self._queued, []
        for job, on_done in queued:
            self._workers.run(job, partial(only_os_errors, on_done))

    def close(self) -> None:
        self._in_turn.run(call_back=False)
        self.submit()
        self._workers.close()
        self._completions.close()
