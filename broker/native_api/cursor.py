"""GET: the shared cursor of a topic.

The cursor of topic `t` is the committed offset of the consumer group `walrus.get.t`, so it lives
where all committed offsets live, survives what they survive, and Kafka's tools can look at it and
move it. There is no second copy of it here: every GET asks for the group's position.

Taking a record and appending the commit that moves the cursor past it happen under the topic's
lock, in the order of the GETs. Waiting for that commit to be durable happens outside, so that many
GETs share one data sync. The answer leaves only after it: a record is handed out at most once, and
is lost to GET when the answer is.

A batch that cannot be read although its CRC holds (it decompresses beyond the limit, or is garbage
inside) is its producer's fault and would block the topic for ever. It is reported once, by an error
that names its offsets, and the cursor moves past it. Kafka consumers still get it, and moving the
group back gives GET another try. A batch whose CRC does not hold is a fault of our disk: an error
each time, and the cursor stays.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import anyio
import anyio.to_thread
import structlog

from broker.errors import OffsetOutOfRange, StorageFailed
from broker.native_api.unpack import Unpacked, Unreadable
from broker.ports import Controller, Finish, GroupOffsets, Partition, TopicView
from engine.batch import BatchHeader, CorruptBatchError, iter_headers

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

READ_SIZE = 256 * 1024
"""Bytes asked of the log at once; a larger batch comes whole."""

SECTION_SIZE_MAX = 64 * 1024 * 1024
"""Bytes of one batch when decompressed. Kafka's producers fill batches of 16 KiB to 1 MiB; tenfold
compression is usual and a thousandfold is an attack."""

CACHE_SIZE_MAX = 128 * 1024 * 1024
"""Bytes of decoded batches over all topics; the topic that was read longest ago goes first."""

INLINE_SIZE_MAX = 32 * 1024
"""Bytes of a batch that is unpacked on the event loop; a larger one goes to a thread."""

UNPACK_THREADS_MAX = 2
"""Batches that are decompressed at the same time; each may need SECTION_SIZE_MAX beside the
cache."""

TOPICS_MAX = 10_000
"""Topics of which anything is remembered."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one GET got; `value` may be handed out once `committed` has been awaited."""

    value: bytes
    failure: str
    """Why there is no value; "" if there is one."""
    committed: Finish


class Cursors:
    """The shared cursors of all topics on this node."""

    def __init__(
        self,
        controller: Controller,
        offsets: GroupOffsets,
        *,
        section_size_max: int = SECTION_SIZE_MAX,
        cache_size_max: int = CACHE_SIZE_MAX,
        read_size: int = READ_SIZE,
    ) -> None:
        self._controller = controller
        self._offsets = offsets
        self._section_size_max = section_size_max
        self._cache_size_max = cache_size_max
        self._read_size = read_size
        self._readers: OrderedDict[UUID, _Reader] = OrderedDict()
        """Least recently used first."""
        self.held_size = 0
        """Bytes of batches that are read ahead or decoded."""
        self._threads = anyio.CapacityLimiter(UNPACK_THREADS_MAX)

    async def take(self, topic: TopicView) -> Taken | None:
        """The next record, and the commit that moves the cursor past it; None if there is none yet.

        Raises NotLeader, Loading, UnknownTopicId, StorageFailed.
        """
        reader = self._reader(topic.topic_id)
        async with reader.lock:
            partition = self._controller.partition(topic)
            group = group_of(topic.name)
            position = await self._offsets.position(group, topic.topic_id)
            start = partition.log_start_offset
            offset = start if position is None else max(position, start)
            commit = partial(self._offsets.commit, group, topic.topic_id)
            size_before = reader.size
            try:
                found = await self._next(reader, partition, offset)
            except _Skip as skip:
                _log.warning("native GET skips a batch that cannot be read", reason=skip.text)
                return Taken(b"", skip.text, await commit(skip.next_offset))
            except OffsetOutOfRange:
                # The log ends before the cursor: it lost its tail, which weaker durability allows.
                end = partition.high_watermark
                _log.warning("native cursor set back", topic=topic.name, offset=offset, end=end)
                await commit(end)
                return None
            finally:
                self.held_size += reader.size - size_before
                self._trim(reader)
            if found is None:
                return None
            return Taken(found[1], "", await commit(found[0] + 1))

    async def _next(
        self, reader: "_Reader", partition: Partition, offset: int
    ) -> tuple[int, bytes] | None:
        while True:
            unpacked = reader.unpacked
            if unpacked is None or not unpacked.covers(offset):
                batch = reader.batch_at(offset)
                if batch is None:
                    data = await self._read(partition, offset)
                    if not data:
                        return None
                    reader.refill(data)
                    batch = reader.batch_from(offset)
                    if batch is None:
                        return None
                unpacked = await self._unpack(partition, reader, *batch)
            offset = max(offset, unpacked.header.base_offset)
            try:
                if found := unpacked.at(offset):
                    return found
            except Unreadable as error:
                raise _Skip(partition.topic.name, unpacked.header, error) from error
            offset = unpacked.header.next_offset

    async def _read(self, partition: Partition, offset: int) -> bytes:
        try:
            return await partition.read(offset, size_max=self._read_size)
        except OffsetOutOfRange:
            if offset >= partition.log_start_offset:
                raise
            # The log start moved while we looked.
            return await partition.read(partition.log_start_offset, size_max=self._read_size)

    async def _unpack(
        self, partition: Partition, reader: "_Reader", header: BatchHeader, batch: memoryview
    ) -> Unpacked:
        unpack = partial(Unpacked, batch, header, size_max=self._section_size_max)
        try:
            if len(batch) <= INLINE_SIZE_MAX and header.codec == 0:
                reader.unpacked = unpack()
            else:
                reader.unpacked = await anyio.to_thread.run_sync(unpack, limiter=self._threads)
        except Unreadable as error:
            raise _Skip(partition.topic.name, header, error) from error
        return reader.unpacked

    def _reader(self, topic_id: UUID) -> "_Reader":
        reader = self._readers.get(topic_id)
        if reader is None:
            reader = self._readers[topic_id] = _Reader()
        self._readers.move_to_end(topic_id)
        return reader

    def _is_over(self) -> bool:
        return self.held_size > self._cache_size_max or len(self._readers) > TOPICS_MAX

    def _trim(self, current: "_Reader") -> None:
        """Forget the topics read longest ago until the rest fits. One that is in use stays."""
        if not self._is_over():
            return
        for topic_id, reader in list(self._readers.items()):
            if reader is not current and not reader.lock.locked():
                self.held_size -= reader.size
                del self._readers[topic_id]
                if not self._is_over():
                    return


def group_of(topic: str) -> str:
    """The consumer group whose committed offset is the shared cursor of `topic`."""
    return f"walrus.get.{topic}"


class _Skip(Exception):
    def __init__(self, topic: str, header: BatchHeader, error: Unreadable) -> None:
        self.next_offset = header.next_offset
        self.text = (
            f"offsets {header.base_offset} to {header.last_offset} of topic {topic} cannot be read"
            f" and are skipped: {error}"
        )
        super().__init__(self.text)


class _Reader:
    """What one topic has read ahead: whole batches, the first of them unpacked."""

    __slots__ = ("_batches", "_data_size", "lock", "unpacked")

    def __init__(self) -> None:
        self.lock = anyio.Lock(fast_acquire=True)
        self.unpacked: Unpacked | None = None
        self._batches: deque[tuple[BatchHeader, memoryview]] = deque()
        self._data_size = 0

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return self._data_size + (0 if self.unpacked is None else self.unpacked.size)

    def refill(self, data: bytes) -> None:
        """Hold these batches instead of what is left. Raises StorageFailed if they are none."""
        view = memoryview(data)
        try:
            self._batches = deque(
                (header, view[position : position + header.size])
                for position, header in iter_headers(data)
            )
        except CorruptBatchError as error:
            raise StorageFailed(f"what was read from the log is damaged: {error}") from error
        self._data_size = len(data)

    def batch_at(self, offset: int) -> tuple[BatchHeader, memoryview] | None:
        """The batch that contains `offset`, if it was read ahead."""
        batch = self.batch_from(offset)
        return batch if batch is not None and batch[0].base_offset <= offset else None

    def batch_from(self, offset: int) -> tuple[BatchHeader, memoryview] | None:
        """The first batch that ends after `offset`; those before it are dropped."""
        while self._batches and self._batches[0][0].next_offset <= offset:
            self._batches.popleft()
        return self._batches[0] if self._batches else None
