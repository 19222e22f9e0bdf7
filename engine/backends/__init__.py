"""The only door to the disk: one small completion-based protocol, and the choice of who stands in
it.

Siblings: _uring.py (io_uring), _pread.py (threads, pwritev and fdatasync), _memory.py (tests and
simulation, on _memory_fs.py: a file system in RAM that can lose what was not synced). Chosen once,
at start, best first. The two real ones share _base.py, _posix.py, _page_cache.py and
_file_part.py.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from engine.backends._file_part import LENT_MAX as LENT_MAX
from engine.backends._file_part import FilePart as FilePart
from engine.batch import Buffer

T = TypeVar("T")

WriteDone = Callable[[OSError | None], None]
ReadDone = Callable[[Buffer | OSError], None]
Monotonic = Callable[[], float]
"""Seconds that never go back."""

IOV_COUNT_MAX = os.sysconf("SC_IOV_MAX")
"""Buffers that one pwritev or writev takes."""


class Fs(Protocol):
    """Blocking file operations, for start-up and inside `Backend.run`. All raise OSError."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """A descriptor for reading and writing. `create` makes an empty file if there is none."""

    def close(self, file: int) -> None: ...

    def mkdir(self, path: Path) -> None:
        """An existing directory is fine."""

    def exists(self, path: Path) -> bool: ...

    def rename(self, source: Path, target: Path) -> None:
        """Within one directory. Replaces a file; a target directory must not exist."""

    def unlink(self, path: Path) -> None: ...

    def rmdir(self, path: Path) -> None: ...

    def listdir(self, path: Path) -> list[str]:
        """Names in no order. Raises NotADirectoryError for a file."""

    def truncate(self, file: int, size: int) -> None: ...

    def size(self, file: int) -> int: ...

    def path_size(self, path: Path) -> int: ...

    def pread(self, file: int, position: int, size: int) -> bytes:
        """Up to `size` bytes, short only at the end of the file."""

    def pwrite(self, file: int, position: int, data: Buffer) -> None:
        """All of `data`."""

    def fsync(self, file: int) -> None:
        """Data and size are on the disk when this returns."""

    def fsync_dir(self, path: Path) -> None:
        """Names in the directory are on the disk when this returns."""


class Backend(Protocol):
    """Operations that complete later, on the thread that calls `reap`.

    One thread owns a backend: it alone calls these methods, and every `on_done` runs on it. Buffers
    given to `write` must not change until its `on_done`; the backend keeps them alive.
    """

    @property
    def name(self) -> str: ...

    @property
    def reason(self) -> str:
        """Why this backend runs, in words for the operator."""

    @property
    def fs(self) -> Fs: ...

    def fileno(self) -> int:
        """A descriptor that is readable when `reap` has work."""

    def reap(self) -> None:
        """Run the `on_done` of everything that has finished. Never blocks.

        What an `on_done` raises comes out here; the rest stays for the next call, and signals.
        """

    def write(
        self, file: int, position: int, buffers: Sequence[Buffer], *, sync: bool, on_done: WriteDone
    ) -> None:
        """Queue: write all bytes, continuing short writes; with `sync` they are on the disk when
        `on_done` is called, but not what was written before them without. Without it `submit` may
        call `on_done`."""

    def sync(self, file: int, on_done: WriteDone) -> None:
        """Queue an fdatasync."""

    def read(self, file: int, position: int, size: int, on_done: ReadDone) -> None:
        """Up to `size` bytes, short only at the end of the file. May call `on_done` before it
        returns."""

    def cached(self, file: int, position: int, size: int) -> Buffer | None:
        """All `size` bytes, if they can be had without waiting for the disk."""

    def lend(self, file: int, position: int, size: int) -> FilePart | None:
        """These bytes, which are there and do not change, for a socket to take; None if there is no
        such way, or not now. Whether they are cached is for the caller to ask."""

    def run(self, job: Callable[[], T], on_done: Callable[[T | Exception], None]) -> None:
        """Run a blocking job off the caller's thread."""

    def submit(self) -> None:
        """Hand everything queued by `write` and `sync` to the disk, at once."""

    def wait(self) -> None:
        """Blocking: until `reap` has work. Only for start-up and close."""

    def close(self) -> None:
        """Blocking: waits for what is in flight, without running its `on_done`."""


class BackendUnavailableError(Exception):
    """The backend cannot run here; the text says why."""


def choose(
    *,
    disable_uring: bool = False,
    prefer: str | None = None,
    monotonic: Monotonic | None = None,
) -> Backend:
    """The best backend that works here: io_uring, else pread.

    With a `monotonic` clock, writes without a sync are done in the turn of whoever submits them, as
    long as the disk keeps up. `prefer` ("uring" or "pread") insists on one. Raises ValueError for
    another name, and BackendUnavailableError if the preferred one does not work.
    """
    from engine.backends._pread import PreadBackend

    if prefer not in (None, "uring", "pread"):
        raise ValueError(f"no storage backend named {prefer!r}: use uring or pread")
    if prefer == "pread":
        return PreadBackend(reason="asked for", monotonic=monotonic)
    if disable_uring and prefer is None:
        return PreadBackend(reason="WALRUS_DISABLE_IO_URING is set", monotonic=monotonic)
    try:
        from engine.backends._uring import UringBackend

        return UringBackend(
            reason="asked for" if prefer else "the kernel allows it, and a test write worked",
            monotonic=monotonic,
        )
    except (ImportError, BackendUnavailableError) as error:
        if prefer is not None:
            raise BackendUnavailableError(str(error)) from error
        return PreadBackend(reason=str(error), monotonic=monotonic)


def only_os_errors(on_done: Callable[[T | OSError], None], result: T | Exception) -> None:
    """Pass on the result of an I/O operation. Any other exception is a bug and must not look like
    I/O."""
    if isinstance(result, Exception) and not isinstance(result, OSError):
        raise result
    on_done(result)
