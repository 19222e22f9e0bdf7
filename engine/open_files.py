"""Open descriptors of log files: those in use stay open, idle ones up to a limit."""

from pathlib import Path

from engine.backends import Fs

IDLE_COUNT_MAX = 256
"""Descriptors of sealed segments that nobody reads at the moment (Kafka keeps every segment
open)."""


class OpenFiles:
    """A cache of descriptors by path, each with a count of users; the least recently used idle one
    goes first.

    A descriptor in use is never closed: its number could be given to another file while a read is
    in flight.
    """

    def __init__(self, fs: Fs, *, idle_count_max: int = IDLE_COUNT_MAX) -> None:
        self._fs = fs
        self._idle_count_max = idle_count_max
        self._used: dict[Path, tuple[int, int]] = {}
        """Path to (descriptor, users)."""
        self._idle: dict[Path, int] = {}
        self._doomed: set[Path] = set()

    def take(self, path: Path) -> int | None:
        """Use the open descriptor of `path`, if there is one. Pair with `release`."""
        if path in self._used:
            file, users = self._used[path]
            self._used[path] = (file, users + 1)
            return file
        file_or_none = self._idle.pop(path, None)
        if file_or_none is not None:
            self._used[path] = (file_or_none, 1)
        return file_or_none

    def add(self, path: Path, file: int) -> int:
        """`file` was just opened for `path`: use it, or the one that was added meanwhile. Pair with
        `release`."""
        other = self.take(path)
        if other is not None:
            self._fs.close(file)
            return other
        self._used[path] = (file, 1)
        return file

    def release(self, path: Path) -> None:
        file, users = self._used.pop(path)
        if users > 1:
            self._used[path] = (file, users - 1)
        elif path in self._doomed:
            self._doomed.discard(path)
            self._fs.close(file)
        else:
            self._idle[path] = file
            if len(self._idle) > self._idle_count_max:
                oldest = next(iter(self._idle))
                self._fs.close(self._idle.pop(oldest))

    def forget(self, path: Path) -> None:
        """The file is being deleted: close its descriptor as soon as nobody uses it."""
        file = self._idle.pop(path, None)
        if file is not None:
            self._fs.close(file)
        elif path in self._used:
            self._doomed.add(path)

    def close(self) -> None:
        """Blocking. Nothing may be in flight."""
        for file, _ in self._used.values():
            self._fs.close(file)
        for file in self._idle.values():
            self._fs.close(file)
        self._used.clear()
        self._idle.clear()
