"""A file system in RAM that knows what a power cut may take away.

Every file keeps what is *synced* and the operations since; every directory likewise.
"""

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from engine.batch import Buffer

CrashMode = Literal["none", "all", "random"]
"""What survives of the unsynced operations: none, all, or a random choice, some of them torn. Of
what lies where the file was already, any sectors survive; of what makes it longer, a beginning up
to any byte, and what is torn off may have grown the file nevertheless, and reads as zeros."""

SECTOR_SIZE = 512


@dataclass(slots=True)
class File:
    """What is in it, and what of that a power cut cannot take."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(position, bytes written there), or (size, None) for a truncation."""

    def write(self, position: int, data: bytes) -> None:
        _apply(self.data, (position, data))
        self.pending.append((position, data))

    def truncate(self, size: int) -> None:
        _apply(self.data, (size, None))
        self.pending.append((size, None))

    def sync(self) -> None:
        for operation in self.pending:
            _apply(self.synced, operation)
        self.pending.clear()

    def sync_write(self) -> None:
        """The last write alone, and where the file ends."""
        if any(written is None for _, written in self.pending):
            self.sync()
        else:
            _apply(self.synced, self.pending.pop())

    def after_crash(self, mode: CrashMode, rng: random.Random) -> "File":
        data = bytearray(self.synced)
        for position, written in self.pending:
            if mode == "none" or (mode == "random" and rng.random() < 0.5):
                continue
            if mode == "random" and written is not None and rng.random() < 0.5:
                _tear(data, position, written, rng)
            else:
                _apply(data, (position, written))
        return File(data, bytearray(data), [])


def _tear(data: bytearray, position: int, written: bytes, rng: random.Random) -> None:
    """Write a part."""
    within = max(0, min(len(written), len(data) - position))
    kept = within + rng.randrange(len(written) - within + 1)
    if rng.random() < 0.5:
        data.extend(bytes(max(0, position + len(written) - len(data))))
    if kept > within:
        _apply(data, (position + within, written[within:kept]))
    start = 0
    while start < within:
        end = min(within, start + SECTOR_SIZE - (position + start) % SECTOR_SIZE)
        if rng.random() < 0.5:
            data[position + start : position + end] = written[start:end]
        start = end


def _apply(data: bytearray, operation: tuple[int, bytes | None]) -> None:
    position, written = operation
    if written is None:
        del data[position:]
        data.extend(bytes(position - len(data)))
    else:
        data.extend(bytes(max(0, position - len(data))))
        data[position : position + len(written)] = written


Entries = dict[str, "File | Directory"]


@dataclass(slots=True)
class Directory:
    """What is named in it, and what of that a power cut cannot take."""

    entries: Entries = field(default_factory=dict)
    synced: Entries = field(default_factory=dict)
    pending: list[Callable[[Entries], None]] = field(default_factory=list)

    def change(self, operation: Callable[[Entries], None]) -> None:
        operation(self.entries)
        self.pending.append(operation)

    def sync(self) -> None:
        self.synced = dict(self.entries)
        self.pending.clear()

    def after_crash(self, mode: CrashMode, rng: random.Random) -> "Directory":
        """Names survive as a prefix of the changes, since file systems journal them in order."""
        entries = dict(self.synced)
        keep = {"none": 0, "all": len(self.pending)}.get(mode, rng.randint(0, len(self.pending)))
        for operation in self.pending[:keep]:
            operation(entries)
        survivors = {name: node.after_crash(mode, rng) for name, node in entries.items()}
        return Directory(survivors, dict(survivors), [])


@dataclass(slots=True)
class Fault:
    """An operation that is going to fail; see `MemoryBackend.fail_next`."""

    operation: str
    error: OSError
    path: str | None
    after: int
    partial: int


class MemoryFs:
    """`Fs` in RAM."""

    def __init__(self, on_operation: Callable[[str, Path], None] | None = None) -> None:
        self.root = Directory()
        self.faults: list[Fault] = []
        self.on_operation = on_operation
        self._open: dict[int, tuple[File, Path]] = {}
        self._next_file = 1000
        """Far from real descriptors, so that mixing them up fails."""

    @property
    def open_count(self) -> int:
        """Descriptors that are open now: tests look for leaks."""
        return len(self._open)

    def open(self, path: Path, *, create: bool = False) -> int:
        self._before("open", path)
        directory = self._directory(path.parent)
        node = directory.entries.get(path.name)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            node = File()
            directory.change(partial(_put, path.name, node))
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
        self._next_file += 1
        self._open[self._next_file] = (node, path)
        return self._next_file

    def close(self, file: int) -> None:
        del self._open[file]

    def mkdir(self, path: Path) -> None:
        self._before("mkdir", path)
        parent = self._directory(path.parent)
        if path.name not in parent.entries:
            parent.change(partial(_put, path.name, Directory()))

    def exists(self, path: Path) -> bool:
        return self._find(path) is not None

    def rename(self, source: Path, target: Path) -> None:
        assert source.parent == target.parent, "renames between directories are not modelled"
        self._before("rename", source)
        parent = self._directory(source.parent)
        if source.name not in parent.entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(source))
        if isinstance(parent.entries.get(target.name), Directory):
            raise FileExistsError(errno.EEXIST, "target exists", str(target))
        parent.change(partial(_move, source.name, target.name))

    def unlink(self, path: Path) -> None:
        self._before("unlink", path)
        node = self._find(path)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        self._directory(path.parent).change(partial(_remove, path.name))

    def rmdir(self, path: Path) -> None:
        self._before("rmdir", path)
        if self._directory(path).entries:
            raise OSError(errno.ENOTEMPTY, "directory not empty", str(path))
        self._directory(path.parent).change(partial(_remove, path.name))

    def listdir(self, path: Path) -> list[str]:
        self._before("listdir", path)
        return list(self._directory(path).entries)

    def truncate(self, file: int, size: int) -> None:
        node, path = self._file(file)
        self._before("truncate", path)
        node.truncate(size)

    def size(self, file: int) -> int:
        return len(self._file(file)[0].data)

    def path_size(self, path: Path) -> int:
        node = self._find(path)
        if not isinstance(node, File):
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return len(node.data)

    def pread(self, file: int, position: int, size: int) -> bytes:
        node, path = self._file(file)
        self._before("read", path)
        return bytes(node.data[position : position + size])

    def pwrite(self, file: int, position: int, data: Buffer) -> None:
        node, path = self._file(file)
        fault = self._fault("write", path)
        if fault is not None:
            node.write(position, bytes(data[: fault.partial]))
            raise fault.error
        node.write(position, bytes(data))

    def fsync(self, file: int) -> None:
        node, path = self._file(file)
        self._before("sync", path)
        node.sync()

    def sync_write(self, file: int) -> None:
        """What `Backend.write` promises with a sync: the bytes that were just written."""
        node, path = self._file(file)
        self._before("sync", path)
        node.sync_write()

    def fsync_dir(self, path: Path) -> None:
        self._before("sync_dir", path)
        self._directory(path).sync()

    def contents(self, path: Path) -> bytearray:
        """The live bytes of a file, for tests that look at or damage them."""
        node = self._find(path)
        assert isinstance(node, File), path
        return node.data

    def _file(self, file: int) -> tuple[File, Path]:
        if file not in self._open:
            raise OSError(errno.EBADF, f"descriptor {file} is not open")
        return self._open[file]

    def _before(self, operation: str, path: Path) -> None:
        fault = self._fault(operation, path)
        if fault is not None:
            raise fault.error

    def _fault(self, operation: str, path: Path) -> Fault | None:
        if self.on_operation is not None:
            self.on_operation(operation, path)
        for fault in self.faults:
            if fault.operation == operation and (fault.path is None or fault.path in str(path)):
                if fault.after == 0:
                    self.faults.remove(fault)
                    return fault
                fault.after -= 1
        return None

    def _find(self, path: Path) -> "File | Directory | None":
        node: File | Directory | None = self.root
        for name in path.parts[1:] if path.is_absolute() else path.parts:
            if not isinstance(node, Directory):
                return None
            node = node.entries.get(name)
        return node

    def _directory(self, path: Path) -> Directory:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(path))
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(path))
        return node


def _put(name: str, node: "File | Directory", entries: Entries) -> None:
    entries[name] = node


def _remove(name: str, entries: Entries) -> None:
    entries.pop(name, None)


def _move(source: str, target: str, entries: Entries) -> None:
    node = entries.pop(source, None)
    if node is not None:
        entries[target] = node
