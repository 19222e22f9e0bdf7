"""A node's segments in simulated time: every operation takes a while, and a write is on the disk
only after a sync that takes a while of its own."""

import itertools
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from engine.backends import WriteDone, only_os_errors
from engine.backends._memory import MemoryBackend, finish
from engine.backends._memory_fs import Directory, File
from engine.batch import Buffer
from tests.sim.loop import SimLoop

_numbers = itertools.count(1)


class Speed:
    """How long the operations of one machine's disk take; the troubles turn the knobs."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.usual_s = rng.choice([0.0002, 0.001, 0.004])
        self.slow_s = 0.0

    def draw(self, operation: str) -> float:
        factor = 3.0 if operation == "sync" else 1.0
        delay_s = self.rng.uniform(0.05, 1.0) * self.usual_s * factor
        if self.slow_s and self.rng.random() < 0.3:
            delay_s += self.rng.uniform(0.0, self.slow_s)
        return delay_s


class SimBackend(MemoryBackend):
    """The disk as one process has it. `stop` it when the process dies: what was under way then
    happens no more."""

    def __init__(
        self,
        loop: SimLoop,
        speed: Speed,
        root: Any = None,
        is_cached: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_cached`: is what somebody wants now in the page cache?"""
        super().__init__(schedule=self._later)
        if root is not None:
            self.fs.root = root
        self._loop = loop
        self._speed = speed
        self._number = next(_numbers)
        self._is_stopped = False
        self._is_cached = is_cached
        self.on_ready = partial(loop.readable, self._number)

    def fileno(self) -> int:
        return self._number

    def stop(self) -> None:
        self._is_stopped = True

    def cached(self, file: int, position: int, size: int) -> Buffer | None:
        if not self._is_cached():
            return None
        try:
            data = self.fs.pread(file, position, size)
        except OSError:
            return None
        return data if len(data) == size else None

    def write(
        self, file: int, position: int, buffers: Sequence[Buffer], *, sync: bool, on_done: WriteDone
    ) -> None:
        """In two steps, so that the power may fail between them."""
        size = sum(map(len, buffers))
        done = partial(only_os_errors, on_done)

        def write_now() -> None:
            try:
                self.fs.pwrite(file, position, b"".join(buffers))
            except OSError as error:
                done(error)
                return
            if sync:
                self._start("sync", 0, partial(finish, partial(self.fs.fsync, file), done))
            else:
                done(None)

        self._queued.append(("write", size, write_now))

    def _later(self, operation: str, _size: int, ready: Callable[[], None]) -> None:
        if not self._is_stopped:
            self._loop.after(self._speed.draw(operation), lambda: self._ready_now(ready))

    def _ready_now(self, ready: Callable[[], None]) -> None:
        if not self._is_stopped:
            ready()


def damage_indexes(directory: Directory, rng: random.Random) -> None:
    """Of some sealed segments: bits flip, the file is cut, or it is gone. Indexes can be made anew
    from the logs, so nobody may come to harm."""
    for name, node in sorted(directory.synced.items()):
        if isinstance(node, Directory):
            damage_indexes(node, rng)
        elif name.endswith("index") and rng.random() < 0.5:
            if rng.random() < 0.2:
                del directory.synced[name]
            else:
                data = bytearray(node.synced)
                if data and rng.random() < 0.7:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                else:
                    del data[rng.randrange(len(data) + 1) :]
                directory.synced[name] = File(data, bytearray(data))
    directory.entries = dict(directory.synced)
    directory.pending.clear()
