"""The I/O skin over the storage engine: the engine's completions become awaits, and one loop drives
them.

The engine never blocks and knows no event loop. It asks to be flushed (`wake`) and makes a file
descriptor readable when operations have finished; this class answers both from the event loop's
thread, so that everything that was appended in one turn of the loop goes to the disk in one
submission.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from broker.errors import StorageFailed
from engine.backends import Backend
from engine.durability import FsyncPolicy
from engine.log import TopicLog
from engine.segment import PromiseRefused, Segment, SegmentEnd
from engine.wal import StoredSegment, Wal

T = TypeVar("T")


class Store:
    """One node's data directory, awaited. Made and used on the event loop's thread; `close`
    blocks."""

    def __init__(self, directory: Path, backend: Backend, policy: FsyncPolicy) -> None:
        self.backend = backend
        self.policy = policy
        self._loop: asyncio.AbstractEventLoop | None = None
        self.wal = Wal(directory, backend, policy, wake=self._wake)

    # -- driving the engine

    def attach(self) -> None:
        """Start answering the engine from the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.wal.fileno(), self.wal.reap)
        self.wal.flush()

    def detach(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self.wal.fileno())
            self._loop = None

    def _wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon(self.wal.flush)

    async def sync_periodically(self) -> None:
        """For `--fsync MS` only: put to disk what was written, every so many milliseconds."""
        interval_ms = self.policy.interval_ms
        while interval_ms is not None:
            await anyio.sleep(interval_ms / 1000)
            self.wal.sync_due()

    def close(self) -> None:
        """Blocking: everything queued is written and synced."""
        self.detach()
        self.wal.close()

    # -- the engine's calls, awaited. All raise StorageFailed when the disk refuses.

    def log(self, name: str, topic_id: bytes) -> TopicLog:
        return self.wal.log(name, topic_id)

    async def stored(self) -> list[StoredSegment]:
        return await self.run(self.wal.stored)

    async def read(self, segment: Segment, offset: int, *, size_max: int, end_offset: int) -> bytes:
        """See `Segment.read`: whole batches, the first holding `offset`, all below `end_offset`."""
        return await _outcome(
            partial(segment.read, offset, size_max=size_max, end_offset=end_offset),
            f"read at offset {offset} of segment {segment.sid}",
        )

    async def promise(self, segment: Segment, epoch: int) -> SegmentEnd | PromiseRefused:
        """Make the seal promise durable and learn where this copy ends."""
        result: SegmentEnd | PromiseRefused = await _outcome(
            partial(segment.promise, epoch), f"seal promise of segment {segment.sid}"
        )
        return result

    async def seal(self, segment: Segment, end: SegmentEnd) -> None:
        await _outcome(partial(segment.seal, end), f"seal of segment {segment.sid}")

    async def drop(self, log: TopicLog, sid: int) -> None:
        await _outcome(partial(log.drop, sid), f"deletion of segment {sid}")

    async def delete(self, log: TopicLog) -> None:
        await _outcome(log.delete, "deletion of a topic's files")

    async def run(self, job: Callable[[], T]) -> T:
        """A blocking job (recovery, listing) on one of the engine's threads."""
        return await anyio.to_thread.run_sync(job)


async def _outcome(start: Callable[[Callable[[T | Exception | None], None]], None], what: str) -> T:
    """Start an operation and wait for its completion callback."""
    done = anyio.Event()
    results: list[T | Exception | None] = []

    def on_done(result: T | Exception | None) -> None:
        results.append(result)
        done.set()

    start(on_done)
    if not results:
        await done.wait()
    result = results[0]
    if isinstance(result, PromiseRefused):
        return result  # type: ignore[return-value]
    if isinstance(result, OSError):
        raise StorageFailed(f"{what}: {result}") from result
    if isinstance(result, Exception):
        raise result
    return result  # type: ignore[return-value]
