"""The door to the disk: the few operations on which the metadata's durability rests.

`Disk` is one directory and nothing else, so that a simulation can supply one that forgets what was
never synced. No operation is ever retried after it failed: an fsync that failed once may answer
"done" the second time without having written anything.
"""

import os
from pathlib import Path
from typing import Protocol


class File(Protocol):
    """A file that only grows, except by `truncate`."""

    def append(self, data: bytes) -> None:
        """All of `data`, at the end. Raises OSError; how much was written is then unknown."""

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes. Durable after the next `sync`."""

    def sync(self) -> None:
        """When this returns, every byte appended before is durable. Raises OSError."""

    def close(self) -> None: ...


class Disk(Protocol):
    """One directory. Names are plain file names; `replace` is atomic, and durable after
    `sync_directory`."""

    def read(self, name: str) -> bytes | None:
        """The whole file; None when there is none."""

    def create(self, name: str) -> File:
        """A new, empty file, in place of any other of that name."""

    def open(self, name: str) -> File:
        """An existing file, for appending. Raises FileNotFoundError."""

    def replace(self, source: str, target: str) -> None: ...

    def remove(self, name: str) -> None:
        """No error when there is none."""

    def sync_directory(self) -> None:
        """When this returns, creations, renames and removals before it are durable."""

    def describe(self, name: str) -> str:
        """How to name this file to a person."""


class OsFile:
    """A file of the operating system."""

    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o644)

    def append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        # Appending changes the size, and fdatasync carries the size along: without it the data
        # could not be read.
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class OsDisk:
    """A directory of the operating system; created, durably, when it does not exist."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            _sync_directory(path.parent)

    def read(self, name: str) -> bytes | None:
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, name: str) -> OsFile:
        return OsFile(self._directory / name, os.O_CREAT | os.O_TRUNC)

    def open(self, name: str) -> OsFile:
        return OsFile(self._directory / name, 0)

    def replace(self, source: str, target: str) -> None:
        (self._directory / source).replace(self._directory / target)

    def remove(self, name: str) -> None:
        (self._directory / name).unlink(missing_ok=True)

    def sync_directory(self) -> None:
        _sync_directory(self._directory)

    def describe(self, name: str) -> str:
        return str(self._directory / name)


class FrozenDisk:
    """Another disk, to look at: what is read is there, and what is written goes nowhere."""

    def __init__(self, disk: Disk) -> None:
        self.read = disk.read
        self.describe = disk.describe

    def create(self, name: str) -> "_FrozenFile":
        return _FrozenFile()

    def open(self, name: str) -> "_FrozenFile":
        return _FrozenFile()

    def replace(self, source: str, target: str) -> None:
        pass

    def remove(self, name: str) -> None:
        pass

    def sync_directory(self) -> None:
        pass


class _FrozenFile:
    def append(self, data: bytes) -> None:
        pass

    def truncate(self, size: int) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(disk: Disk, name: str, chunks: "list[bytes] | tuple[bytes, ...]") -> None:
    """Replace file `name` by `chunks`, so that after a crash there is the old one or the new one,
    whole.

    The new file is durable before it gets the name, and the name is durable when this returns.
    """
    file = disk.create(name + NEW)
    try:
        for chunk in chunks:
            file.append(chunk)
        file.sync()
    finally:
        file.close()
    disk.replace(name + NEW, name)
    disk.sync_directory()


NEW = ".new"
"""Suffix of a file that has not got its name yet. One that is found at start is litter of a crash.
"""
