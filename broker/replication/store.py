"""The I/O skin over the storage engine: the engine's completions become awaits, and one loop
drives them.

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
import anyio.to_thread

from broker.errors import StorageFailed
from broker.ports import Buffer, Sendable
from broker.replication.space import Space
from engine.backends import Backend
from engine.durability import FsyncPolicy
from engine.errors import CorruptSegmentError, EngineError, SegmentClosedError
from engine.format import SegmentEnd
from engine.log import TopicLog
from engine.open_files import COUNT_MAX
from engine.segment import Segment
from engine.wal import WRITE_QUEUE_SIZE_MAX, StoredSegment, Wal

T = TypeVar("T")

GATHERING_TURNS = 3
"""Of the loop, between a commit and the next one that something waits for already. Who was answered
by the first asks again meanwhile and shares the second: many clients who each wait for their answer
would else go on in groups half as large, and each commit costs as much as ten of them."""

GATHERING_SIZE_MAX = 32 * 1024
"""Bytes that are worth a commit of their own, and wait for nobody."""

_REFUSALS = (OSError, CorruptSegmentError, SegmentClosedError)
"""What becomes StorageFailed. A segment may be dropped while somebody still asks for it."""


class Store:
    """One node's topics directory, awaited.

    Making it and `close` block; between them it belongs to the event loop's thread.
    """

    def __init__(
        self,
        directory: Path,
        backend: Backend,
        policy: FsyncPolicy,
        space: Space | None = None,
        *,
        logs_max: int = COUNT_MAX,
    ) -> None:
        """`logs_max` is how many log files may be open at once. Raises OSError when the directory
        cannot be made."""
        self.backend = backend
        self.policy = policy
        self.space = space or Space()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room: anyio.Event | None = None
        self._is_reaping = False
        self._is_gathering = False
        self._jobs: list[Callable[[], object]] = []
        """What is to be done before the next flush."""
        self._gathered_size = 0
        self.flushes_soon = True
        """Whether what is appended goes to the disk at the end of the turn. If not, whoever appends
        calls `flush`, which sets this again."""
        self.wal = Wal(directory, backend, policy, wake=self._wake, open_count_max=logs_max)

    # -- driving the engine

    def attach(self) -> None:
        """Start answering the engine from the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.wal.fileno(), self._reap)
        self.wal.flush()

    def detach(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self.wal.fileno())
            self._loop = None

    def _wake(self) -> None:
        if self._loop is None:
            return
        if self._is_reaping:
            self._is_gathering = True
            self._loop.call_soon(self._gather, GATHERING_TURNS)
        elif self.flushes_soon:
            self._loop.call_soon(self.flush)

    def _gather(self, turns: int) -> None:
        if turns and self._loop is not None and self.wal.queue_size < GATHERING_SIZE_MAX:
            self._loop.call_soon(self._gather, turns - 1)
        else:
            self._is_gathering = False
            self.flush()

    def gathers(self, size: int) -> bool:
        """So many bytes are to be appended before the next flush. False: the disk is too far behind
        for that."""
        if self.wal.queue_size + self._gathered_size + size > WRITE_QUEUE_SIZE_MAX:
            return False
        self._gathered_size += size
        return True

    def before_flush(self, job: Callable[[], object]) -> None:
        """Call `job` at the end of the turn; what it appends goes to the disk with all that came in
        it. It must not raise."""
        if self._loop is not None and not self._jobs:
            self._loop.call_soon(self.flush)
        self._jobs.append(job)

    def flush(self) -> None:
        """Hand what was appended to the disk, or soon, if others are about to join it. Callbacks of
        a write without a sync run in here."""
        if self._jobs:
            jobs, self._jobs, self._gathered_size = self._jobs, [], 0
            self.flushes_soon = False
            for job in jobs:
                job()
        self.flushes_soon = True
        if not self._is_gathering:
            self.wal.flush()
            if self._room is not None:
                self._make_room()

    def _reap(self) -> None:
        self._is_reaping = True
        try:
            self.wal.reap()
        finally:
            self._is_reaping = False
        if self._room is not None:
            self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and self.wal.queue_size <= WRITE_QUEUE_SIZE_MAX // 2:
            self._room.set()
            self._room = None

    async def room(self) -> None:
        """Wait until the disk has caught up with half of what may be queued for it."""
        if self._room is None:
            self._room = anyio.Event()
        await self._room.wait()

    async def sync_periodically(self) -> None:
        """For `--fsync MS` only: put to disk what was written, every so many milliseconds."""
        while interval_ms := self.policy.interval_ms:
            await anyio.sleep(interval_ms / 1000)
            self.wal.sync_due()

    def close(self) -> None:
        """Blocking: everything queued is written and synced."""
        self.wal.close()
        self.backend.close()

    # -- the engine's calls, awaited. All raise StorageFailed when the disk refuses.

    def log(self, name: str, topic_id: bytes) -> TopicLog:
        return self.wal.log(name, topic_id)

    async def stored(self) -> list[StoredSegment]:
        return await self.run(self.wal.stored)

    async def read(
        self, segment: Segment, offset: int, *, size_max: int, end_offset: int
    ) -> Buffer:
        """See `Segment.read`: whole batches, the first holding `offset`, all below `end_offset`."""
        return await _outcome(
            lambda on_done: segment.read(
                offset, size_max=size_max, end_offset=end_offset, on_done=on_done
            ),
            f"read at offset {offset} of segment {segment.sid}",
        )

    async def fetch(
        self, segment: Segment, offset: int, *, size_max: int, end_offset: int
    ) -> Sendable | None:
        """`read` for a socket: what is large may come as a part of the file. None: ask `read`."""
        await _outcome(
            partial(segment.load, offset, size_max),
            f"load at offset {offset} of segment {segment.sid}",
        )
        return segment.fetch_now(offset, size_max=size_max, end_offset=end_offset)

    async def head(self, segment: Segment) -> bytes | None:
        """The segment's header object; None if it has none."""
        try:
            return await self.run(segment.head)
        except (OSError, EngineError) as error:
            raise StorageFailed(f"head of segment {segment.sid}: {error}") from error

    async def load_index(self, segment: Segment) -> None:
        """Before a question that only the index can answer quickly."""
        await _outcome(segment.load_index, f"index of segment {segment.sid}")

    async def promise(self, segment: Segment, epoch: int) -> SegmentEnd:
        """Make the seal promise durable and learn where this copy ends. Raises PromiseRefused."""
        return await _outcome(
            partial(segment.promise, epoch), f"seal promise of segment {segment.sid}"
        )

    async def seal(self, segment: Segment, end: SegmentEnd) -> None:
        await _outcome(partial(segment.seal, end), f"seal of segment {segment.sid}")

    async def rest(self, segment: Segment) -> None:
        """Wait until nothing of a failed segment is in flight except reads."""
        await _outcome(segment.rest, f"rest of segment {segment.sid}")

    async def drop(self, log: TopicLog, sid: int) -> None:
        await _outcome(partial(log.drop, sid), f"deletion of segment {sid}")

    async def empty(self, log: TopicLog, sid: int, window: bytes) -> None:
        """Keep `window` of a segment, and nothing else."""
        await _outcome(partial(log.empty, sid, window), f"emptying segment {sid}")

    async def delete(self, name: str, topic_id: bytes) -> None:
        """Delete a topic's directory; its log is of no use afterwards."""
        await _outcome(self.log(name, topic_id).delete, "deletion of a topic's files")
        self.wal.forget(topic_id)

    async def run(self, job: Callable[[], T]) -> T:
        """A blocking job (recovery, listing) on a thread."""
        return await anyio.to_thread.run_sync(job)


async def _outcome(start: Callable[[Callable[[T | Exception], None]], None], what: str) -> T:
    """Start an operation, wait for its completion callback, raise what it was given."""
    waiter: asyncio.Future[None] | None = None
    results: list[T | Exception] = []

    def on_done(result: T | Exception) -> None:
        results.append(result)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    start(on_done)
    if not results:  # Most reads are answered at once, from the page cache.
        waiter = asyncio.get_running_loop().create_future()
        await waiter
    # Out of the callback's reach: what the engine keeps of it must not keep megabytes of records.
    result = results.pop()
    if isinstance(result, _REFUSALS):
        raise StorageFailed(f"{what}: {result}") from result
    if isinstance(result, Exception):
        raise result
    return result
