"""A disk in memory that keeps its promises and nothing more.

What was written but not synced may be there after a power cut, or partly, or as garbage; a rename
that was not followed by a directory sync may not have happened. A killed process, on the other
hand, loses nothing that it wrote."""

import random
from collections.abc import Callable

SECTOR_SIZE = 512


class PowerCut(Exception):
    """Raised in place of an operation that the machine did not live to finish."""


class _Inode:
    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = b""
        """Content after the last sync."""
        self.touched_from = 0
        """Lowest position written or cut since."""

    def after_power_cut(self, rng: random.Random) -> "_Inode":
        """The durable bytes, then any part of the rest, some of its sectors never written."""
        survivor = _Inode()
        kept = self.durable[: self.touched_from] if rng.random() < 0.5 else self.durable
        survivor.data += kept
        if len(kept) <= len(self.data) and self.data[: len(kept)] == kept:
            tail = self.data[len(kept) : rng.randint(len(kept), len(self.data))]
            if tail and rng.random() < 0.3:
                at = rng.randrange(0, len(tail), SECTOR_SIZE)
                tail[at : at + SECTOR_SIZE] = bytes(len(tail[at : at + SECTOR_SIZE]))
            survivor.data += tail
        survivor.sync()
        return survivor

    def sync(self) -> None:
        self.durable = bytes(self.data)
        self.touched_from = len(self.data)


class SimFile:
    """See `raft.disk.File`."""

    def __init__(self, disk: "SimDisk", name: str, inode: _Inode) -> None:
        self._disk = disk
        self._name = name
        self._inode = inode

    def append(self, data: bytes) -> None:
        try:
            self._disk.operation(f"append {self._name}")
        except PowerCut:
            # The write was under way: any part of it may have reached the cache.
            self._inode.data += data[: self._disk.rng.randint(0, len(data))]
            raise
        self._inode.data += data

    def truncate(self, size: int) -> None:
        self._disk.operation(f"truncate {self._name}")
        del self._inode.data[size:]
        self._inode.touched_from = min(self._inode.touched_from, size)

    def sync(self) -> None:
        self._disk.operation(f"sync {self._name}")
        self._inode.sync()

    def close(self) -> None:
        pass


class SimDisk:
    """See `raft.disk.Disk`. `on_operation` sees each operation before it happens, and may raise
    instead."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.on_operation: Callable[[str], None] = lambda _operation: None
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._renames: list[dict[str, _Inode]] = []
        """The directory after each change since it was last synced."""

    def operation(self, what: str) -> None:
        self.on_operation(what)

    def read(self, name: str) -> bytes | None:
        inode = self._names.get(name)
        return None if inode is None else bytes(inode.data)

    def create(self, name: str) -> SimFile:
        self.operation(f"create {name}")
        self._set({**self._names, name: _Inode()})
        return self.open(name)

    def open(self, name: str) -> SimFile:
        if name not in self._names:
            raise FileNotFoundError(name)
        return SimFile(self, name, self._names[name])

    def replace(self, source: str, target: str) -> None:
        self.operation(f"replace {source} {target}")
        names = dict(self._names)
        names[target] = names.pop(source)
        self._set(names)

    def remove(self, name: str) -> None:
        self.operation(f"remove {name}")
        self._set({known: inode for known, inode in self._names.items() if known != name})

    def sync_directory(self) -> None:
        self.operation("sync directory")
        self._durable_names = self._names
        self._renames = []

    def describe(self, name: str) -> str:
        return f"disk/{name}"

    def _set(self, names: dict[str, _Inode]) -> None:
        self._names = names
        self._renames.append(names)

    # ---- what a test does to it ------------------------------------------------------------------

    def write(self, name: str, data: bytes) -> None:
        """Put `data` there, durably: what was found after a disaster, or what a test made up."""
        inode = _Inode()
        inode.data += data
        inode.sync()
        self._names = {**self._names, name: inode}
        self.sync_directory()

    def after_kill(self) -> "SimDisk":
        """The process is gone; the kernel still has every byte."""
        survivor = SimDisk(self.rng)
        survivor._names = self._names
        survivor._durable_names = self._durable_names
        survivor._renames = self._renames
        return survivor

    def after_power_cut(self) -> "SimDisk":
        """The machine went dark: directory changes survive up to some point, and file contents as
        they may."""
        names = self.rng.choice([self._durable_names, *self._renames])
        survivor = SimDisk(self.rng)
        survivor._names = {
            name: inode.after_power_cut(self.rng) for name, inode in sorted(names.items())
        }
        survivor._durable_names = survivor._names
        return survivor
