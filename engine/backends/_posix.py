"""What the two real backends share: the file system, a thread pool for blocking jobs, and the
eventfd."""

import errno
import os
import select
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from engine.backends import IOV_COUNT_MAX, Monotonic, WriteDone
from engine.batch import Buffer

T = TypeVar("T")

WORKER_COUNT = 4
"""Threads for blocking jobs. They wait for the disk and release the GIL; more would only queue
there."""


DESCRIPTOR_PAUSE_S = 0.05
"""Between two attempts to open a file when the process or the system has no descriptor left."""


class PosixFs:
    """`Fs` on the operating system."""

    def open(self, path: Path, *, create: bool = False) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return _when_there_are_descriptors(lambda: os.open(path, flags, 0o644))

    def close(self, file: int) -> None:
        os.close(file)

    def mkdir(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def rmdir(self, path: Path) -> None:
        path.rmdir()

    def listdir(self, path: Path) -> list[str]:
        return _when_there_are_descriptors(lambda: os.listdir(path))

    def truncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def size(self, file: int) -> int:
        return os.fstat(file).st_size

    def path_size(self, path: Path) -> int:
        return path.stat().st_size

    def pread(self, file: int, position: int, size: int) -> bytes:
        data = os.pread(file, size, position)
        if len(data) == size or not data:
            return data
        parts = [data]
        while len(data) and size > (have := sum(map(len, parts))):
            parts.append(data := os.pread(file, size - have, position + have))
        return b"".join(parts)

    def pwrite(self, file: int, position: int, data: Buffer) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(file, rest, position)
            position += written
            rest = rest[written:]

    def fsync(self, file: int) -> None:
        os.fsync(file)

    def fsync_dir(self, path: Path) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        directory = _when_there_are_descriptors(lambda: os.open(path, flags))
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _when_there_are_descriptors(opening: Callable[[], T]) -> T:
    """A disk that has not been asked has not failed: somebody else has all descriptors, and will
    not have them for ever. Raises OSError for any other reason."""
    while True:
        try:
            return opening()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        _pause()


def _pause() -> None:
    select.select([], [], [], DESCRIPTOR_PAUSE_S)


class Completions:
    """Finished work on its way back to the owner's thread: a deque and an eventfd."""

    def __init__(self) -> None:
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._finished: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._finished)

    def put(self, callback: Callable[[], None]) -> None:
        """From any thread. deque.append is atomic; the eventfd write comes after it."""
        self._finished.append(callback)
        self.signal()

    def signal(self) -> None:
        """There is work."""
        os.eventfd_write(self.eventfd, 1)

    def clear_signal(self) -> None:
        """Before looking for work, so that what arrives later signals again."""
        try:
            os.eventfd_read(self.eventfd)
        except BlockingIOError:
            return

    def run(self) -> None:
        """What has arrived until now; callbacks that add work do not prolong the loop."""
        for _ in range(len(self._finished)):
            self._finished.popleft()()

    def wait(self) -> None:
        select.select([self.eventfd], [], [])

    def close(self) -> None:
        os.close(self.eventfd)


class Workers:
    """Blocking jobs on a few threads, their results delivered through Completions."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions
        self._pool = ThreadPoolExecutor(WORKER_COUNT, thread_name_prefix="walrus-disk")

    def run(self, job: Callable[[], T], on_done: Callable[[T | Exception], None]) -> None:
        self._pool.submit(self._work, job, on_done)

    def _work(self, job: Callable[[], T], on_done: Callable[[T | Exception], None]) -> None:
        result: T | Exception
        try:
            result = job()
        except Exception as error:  # noqa: BLE001  a job's error is its result, whatever it is
            result = error
        self._completions.put(lambda: on_done(result))

    def close(self) -> None:
        self._pool.shutdown(wait=True)


IN_TURN_SIZE_MAX = 1024 * 1024
"""Bytes of one write that is done in the caller's turn: at most some 0.2 ms of copying."""

STALL_S_MIN = 0.01
"""A copy into the page cache that takes longer has met a disk that is behind: the kernel makes
whoever writes then wait, up to 0.2 s each time."""

DETOUR_COUNT = 1_000
"""So many of the next writes are left to others after a stall."""

PlainWrite = Callable[[int, int, Sequence[Buffer], WriteDone], None]
"""As `Backend.write`, without a sync."""


class InTurn:
    """Writes without a sync, done where they are submitted: a copy into the page cache costs less
    than handing it to another thread and being woken by it.

    A disk that is behind makes such a copy wait. One stall is what it may cost the caller, however
    much there is to write; what follows takes the other way.
    """

    def __init__(self, monotonic: Monotonic | None, other_way: PlainWrite) -> None:
        """Takes nothing without a clock. `other_way` queues what is left after a stall."""
        self._monotonic = monotonic
        self._other_way = other_way
        self._detour_count = 0
        self._queued: deque[tuple[int, int, Sequence[Buffer], WriteDone]] = deque()

    def takes(self, buffers: Sequence[Buffer]) -> bool:
        """Whether to `add` a write of these; if not, it must take the other way."""
        if self._monotonic is None or sum(map(len, buffers)) > IN_TURN_SIZE_MAX:
            return False
        if self._detour_count:
            self._detour_count -= 1
            return False
        return True

    def add(self, file: int, position: int, buffers: Sequence[Buffer], on_done: WriteDone) -> None:
        """For the next `run`."""
        self._queued.append((file, position, buffers, on_done))

    def run(self, *, call_back: bool = True) -> None:
        """Write what was added. What an `on_done` raises comes out here, the rest by the next
        call."""
        queued, monotonic = self._queued, self._monotonic
        if not queued:
            return
        assert monotonic is not None
        began_at = monotonic()
        while queued:
            file, position, buffers, on_done = queued.popleft()
            error: OSError | None = None
            try:
                write_all(file, position, buffers, sync=False)
            except OSError as refused:
                error = refused
            if monotonic() - began_at > STALL_S_MIN:
                self._detour_count = DETOUR_COUNT
                while queued:
                    self._other_way(*queued.popleft())
            if call_back:
                on_done(error)
                began_at = monotonic()


def write_all(file: int, position: int, buffers: Sequence[Buffer], sync: bool) -> None:
    """Blocking. Raises OSError."""
    size = sum(map(len, buffers))
    written = os.pwritev(file, buffers, position) if len(buffers) <= IOV_COUNT_MAX else 0
    if written < size:
        _write_rest(file, position, [memoryview(buffer) for buffer in buffers], written)
    if sync:
        os.fdatasync(file)


def _write_rest(file: int, position: int, buffers: Sequence[memoryview], size: int) -> None:
    """Of buffers of which `size` bytes are written."""
    rest = skip([buffer for buffer in buffers if len(buffer)], size)
    while rest:
        position += size
        size = os.pwritev(file, rest[:IOV_COUNT_MAX], position)
        if size == 0:
            raise OSError(errno.EIO, "pwritev wrote nothing")
        rest = skip(rest, size)


def skip(buffers: Sequence[memoryview], size: int) -> list[memoryview]:
    """What is left of `buffers` after their first `size` bytes."""
    for i, buffer in enumerate(buffers):
        if size < len(buffer):
            return [buffer[size:], *buffers[i + 1 :]]
        size -= len(buffer)
    return []
