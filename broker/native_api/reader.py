"""Reading one topic forwards, record by record: whole batches read ahead, the first of them
unpacked."""

from collections import deque
from functools import partial

import anyio
import anyio.to_thread

from broker.errors import OffsetOutOfRange, RequestError, StorageFailed
from broker.native_api.unpack import Found, Unpacked, Unreadable
from broker.ports import AnyPartition, Buffer, QuickPartition
from engine.batch import BatchHeader, CorruptBatchError, iter_headers

_Batch = tuple[BatchHeader, memoryview]

READ_SIZE = 256 * 1024
"""Bytes asked of the log at once; a larger batch comes whole."""

SECTION_SIZE_MAX = 64 * 1024 * 1024
"""Bytes of one batch when decompressed. Kafka's producers fill batches of 16 KiB to 1 MiB; tenfold
compression is usual and a thousandfold is an attack."""

INLINE_SIZE_MAX = 32 * 1024
"""Bytes of a batch that is unpacked on the event loop; a larger one goes to a thread."""

UNPACK_THREADS_MAX = 2
"""Batches that are decompressed at the same time; each may need SECTION_SIZE_MAX."""


class UnreadableBatch(RequestError):
    """A batch whose records nobody can read; `next_offset` is the way past it."""

    def __init__(self, topic: str, header: BatchHeader, reason: Unreadable) -> None:
        super().__init__(
            f"offsets {header.base_offset} to {header.last_offset} of topic {topic} cannot be read"
            f" and are skipped: {reason}"
        )
        self.next_offset = header.next_offset


class Unpacker:
    """How batches are unpacked: the limits that all readers share."""

    def __init__(self, *, section_size_max: int = SECTION_SIZE_MAX) -> None:
        self._section_size_max = section_size_max
        self._threads = anyio.CapacityLimiter(UNPACK_THREADS_MAX)

    async def unpack(self, topic: str, header: BatchHeader, batch: memoryview) -> Unpacked:
        """Raises UnreadableBatch, StorageFailed."""
        try:
            if (unpacked := self._unpack_now(header, batch)) is not None:
                return unpacked
            work = partial(Unpacked, batch, header, size_max=self._section_size_max)
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        except Unreadable as reason:
            raise UnreadableBatch(topic, header, reason) from reason

    def unpack_now(self, topic: str, header: BatchHeader, batch: memoryview) -> Unpacked | None:
        """`unpack` if it takes no thread."""
        try:
            return self._unpack_now(header, batch)
        except Unreadable as reason:
            raise UnreadableBatch(topic, header, reason) from reason

    def _unpack_now(self, header: BatchHeader, batch: memoryview) -> Unpacked | None:
        if header.codec or len(batch) > INLINE_SIZE_MAX:
            return None
        return Unpacked(batch, header, size_max=self._section_size_max)


class TopicReader:
    """One topic's place in the log. One task at a time."""

    def __init__(self, unpacker: Unpacker) -> None:
        self._unpacker = unpacker
        self._unpacked: Unpacked | None = None
        self._batches: deque[_Batch] = deque()
        self._data_size = 0

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return self._data_size + (0 if self._unpacked is None else self._unpacked.size)

    async def next(self, partition: AnyPartition, offset: int) -> Found | None:
        """The first record at or after `offset`; None if there is none below the high watermark.

        Raises UnreadableBatch, StorageFailed, and OffsetOutOfRange beyond the log end.
        """
        name = partition.topic.name
        while True:
            unpacked = self._unpacked
            if unpacked is None or not unpacked.covers(offset):
                batch = self._ahead(offset) or await self._read(partition, offset)
                if batch is None:
                    return None
                unpacked = self._unpacked = await self._unpacker.unpack(name, *batch)
            if (found := self._found(name, unpacked, offset)) is not None:
                return found
            offset = unpacked.header.next_offset

    def next_now(self, partition: QuickPartition, offset: int) -> Found | None:
        """`next`, if that is a record and nothing has to be waited for; else None.

        Raises UnreadableBatch, StorageFailed, and then `next` does, too.
        """
        name = partition.topic.name
        while True:
            unpacked = self._unpacked
            if unpacked is None or not unpacked.covers(offset):
                batch = self._ahead(offset) or self._read_now(partition, offset)
                unpacked = None if batch is None else self._unpacker.unpack_now(name, *batch)
                if unpacked is None:
                    return None
                self._unpacked = unpacked
            if (found := self._found(name, unpacked, offset)) is not None:
                return found
            offset = unpacked.header.next_offset

    def _found(self, topic: str, unpacked: Unpacked, offset: int) -> Found | None:
        """The first record of the batch at or after `offset`; None if it has none."""
        try:
            found = unpacked.at(max(offset, unpacked.header.base_offset))
        except Unreadable as reason:
            self._unpacked = None  # It has been read up to there; who asks again begins anew.
            raise UnreadableBatch(topic, unpacked.header, reason) from reason
        return found

    def _ahead(self, offset: int) -> _Batch | None:
        """The batch that contains `offset`, if it was read ahead."""
        batch = self._first_after(offset)
        return batch if batch is not None and batch[0].base_offset <= offset else None

    def _first_after(self, offset: int) -> _Batch | None:
        """The first batch that ends after `offset`; those before it are dropped."""
        while self._batches and self._batches[0][0].next_offset <= offset:
            self._batches.popleft()
        return self._batches[0] if self._batches else None

    async def _read(self, partition: AnyPartition, offset: int) -> _Batch | None:
        try:
            data = await partition.read(offset, size_max=READ_SIZE)
        except OffsetOutOfRange:
            if offset >= partition.log_start_offset:
                raise
            # The log start moved while we looked.
            data = await partition.read(partition.log_start_offset, size_max=READ_SIZE)
        return self._take(data, offset)

    def _read_now(self, partition: QuickPartition, offset: int) -> _Batch | None:
        data = partition.read_now(offset, size_max=READ_SIZE)
        return self._take(data, offset) if data else None

    def _take(self, data: Buffer, offset: int) -> _Batch | None:
        view = memoryview(data)
        try:
            self._batches = deque(
                (header, view[position : position + header.size])
                for position, header in iter_headers(data)
            )
        except CorruptBatchError as error:
            raise StorageFailed(f"what was read from the log is damaged: {error}") from error
        self._data_size = len(data)
        return self._first_after(offset)
