"""A backend on a disk in RAM, for tests and simulation.

`crash_clone` makes the disk that a power cut may leave, `kill_clone` the one a killed process
leaves, `fail_next` makes an operation fail. Operations happen when `reap` runs them, in order, on
the caller's thread: the same calls give the same history.
"""

import copy
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from engine.backends import ReadDone, WriteDone, only_os_errors
from engine.backends._memory_fs import CrashMode, Fault, MemoryFs
from engine.batch import Buffer

T = TypeVar("T")

Schedule = Callable[[str, int, Callable[[], None]], None]
"""(operation, size, ready): call `ready` when the operation is to be finished, in simulated
time."""


class MemoryBackend:
    """`Backend` and `Fs` in one, without threads."""

    name = "memory"
    reason = "for tests"

    def __init__(
        self,
        *,
        on_ready: Callable[[], None] | None = None,
        schedule: Schedule | None = None,
        on_operation: Callable[[str, Path], None] | None = None,
    ) -> None:
        """`on_ready` is called when `reap` has work, beside the eventfd. `on_operation(name, path)`
        sees every operation just before it happens: the moment to take a crash clone."""
        self.fs = MemoryFs(on_operation)
        self.on_ready = on_ready
        self.schedule = schedule
        self._queued: list[tuple[str, int, Callable[[], None]]] = []
        self._ready: deque[Callable[[], None]] = deque()
        self._late: dict[int, Callable[[], None]] = {}
        self._eventfd = -1

    # -- Backend

    def fileno(self) -> int:
        """Made on demand, so that clones in a long test do not eat descriptors."""
        if self._eventfd < 0:
            self._eventfd = os.eventfd(1 if self._ready else 0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self._eventfd

    def reap(self) -> None:
        if self._eventfd >= 0:
            try:
                os.eventfd_read(self._eventfd)
            except BlockingIOError:
                pass
        try:
            for _ in range(len(self._ready)):
                self._ready.popleft()()
        except BaseException:
            self._signal()
            raise

    def write(
        self, file: int, position: int, buffers: Sequence[Buffer], *, sync: bool, on_done: WriteDone
    ) -> None:
        size = sum(map(len, buffers))

        def write_now() -> None:
            # Joined here and not in `write`: a buffer that changes while in flight must show.
            self.fs.pwrite(file, position, b"".join(buffers))
            if sync:
                self.fs.sync_write(file)

        self._queued.append(
            ("write", size, partial(finish, write_now, partial(only_os_errors, on_done)))
        )

    def sync(self, file: int, on_done: WriteDone) -> None:
        job = partial(self.fs.fsync, file)
        self._queued.append(("sync", 0, partial(finish, job, partial(only_os_errors, on_done))))

    def read(self, file: int, position: int, size: int, on_done: ReadDone) -> None:
        job = partial(self.fs.pread, file, position, size)
        self._start("read", size, partial(finish, job, partial(only_os_errors, on_done)))

    def cached(self, file: int, position: int, size: int) -> Buffer | None:
        """What `schedule` delays is not in any cache."""
        if self.schedule is not None:
            return None
        try:
            data = self.fs.pread(file, position, size)
        except OSError:
            return None
        return data if len(data) == size else None

    def lend(self, file: int, position: int, size: int) -> None:
        """No socket takes anything from this disk."""

    def run(self, job: Callable[[], T], on_done: Callable[[T | Exception], None]) -> None:
        self._start("run", 0, partial(finish, job, on_done))

    def submit(self) -> None:
        queued, self._queued = self._queued, []
        for operation, size, job in queued:
            self._start(operation, size, job)

    def wait(self) -> None:
        """There is nobody to wait for: what is scheduled for later happens now."""
        late, self._late = self._late, {}
        for job in late.values():
            self._make_ready(job)

    def close(self) -> None:
        if self._eventfd >= 0:
            os.close(self._eventfd)
            self._eventfd = -1

    def _start(self, operation: str, size: int, job: Callable[[], None]) -> None:
        if self.schedule is None:
            self._make_ready(job)
            return
        self._late[id(job)] = job
        self.schedule(operation, size, partial(self._arrive, id(job)))

    def _arrive(self, key: int) -> None:
        job = self._late.pop(key, None)
        if job is not None:
            self._make_ready(job)

    def _make_ready(self, job: Callable[[], None]) -> None:
        self._ready.append(job)
        self._signal()

    def _signal(self) -> None:
        if self._eventfd >= 0:
            os.eventfd_write(self._eventfd, 1)
        if self.on_ready is not None:
            self.on_ready()

    # -- faults

    def fail_next(
        self,
        operation: str,
        error: OSError | int,
        *,
        path: str | None = None,
        after: int = 0,
        partial: int = 0,
    ) -> None:
        """Let one coming operation fail: the first after `after` others of that kind.

        Operations: open mkdir rename unlink rmdir listdir truncate read write sync sync_dir. `path`
        is a part of the path that must match. A failing write first writes `partial` bytes.
        """
        if isinstance(error, int):
            error = OSError(error, os.strerror(error))
        self.fs.faults.append(Fault(operation, error, path, after, partial))

    def crash_clone(
        self, mode: CrashMode = "random", rng: random.Random | None = None
    ) -> "MemoryBackend":
        """A new backend on the disk that a power cut at this moment may leave."""
        clone = MemoryBackend()
        clone.fs.root = self.fs.root.after_crash(mode, rng or random.Random(0))  # noqa: S311
        return clone

    def kill_clone(self) -> "MemoryBackend":
        """A new backend on the disk as a killed process leaves it: all that was written is
        there."""
        clone = MemoryBackend()
        clone.fs.root = copy.deepcopy(self.fs.root)
        return clone


def finish(job: Callable[[], T], on_done: Callable[[T | Exception], None]) -> None:
    """Run a job now, and hand over its result or its error."""
    result: T | Exception
    try:
        result = job()
    except Exception as error:  # noqa: BLE001  a job's error is its result, whatever it is
        result = error
    on_done(result)
