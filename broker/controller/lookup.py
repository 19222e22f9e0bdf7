"""Offsets by timestamp, exact to the record (KIP-79, KIP-734).

The offset map names the segments that can hold the answer, the engine's time index the place to
begin; from there batch headers are read, and only the one batch that holds the answer is looked
into.
"""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING

import anyio

from broker import codecs
from broker.errors import CorruptBatch
from broker.ports import Buffer, TimestampedOffset
from engine.batch import BatchHeader, CorruptBatchError, iter_headers
from engine.records import iter_records

if TYPE_CHECKING:
    from broker.controller.partition import LocalPartition

_READ_SIZE = 1024 * 1024
"""Bytes of log read at a time while looking for a batch."""


class Lookup:
    """Timestamp questions to one partition."""

    def __init__(self, partition: "LocalPartition") -> None:
        self._partition = partition

    async def first_at_or_after(self, timestamp_ms: int) -> TimestampedOffset | None:
        """The first visible record with this timestamp or a later one."""
        start_offset = self._partition.log_start_offset
        for span in self._partition.offset_map.spans_from_timestamp(timestamp_ms):
            segment = self._partition.log.get(span.sid)
            offset = max(start_offset, span.base_offset)
            if segment is not None:
                older_end = await self._partition.offset_before_timestamp(segment, timestamp_ms)
                offset = max(offset, older_end)
            async for header, batch in self._batches(offset, span.end_offset):
                if header.max_timestamp >= timestamp_ms:
                    for found in await _stamps(header, batch, start_offset):
                        if found.timestamp_ms >= timestamp_ms:
                            return found
        return None

    async def latest(self) -> TimestampedOffset | None:
        """The visible record with the largest timestamp, the first of them if there are several."""
        partition = self._partition
        open_span = partition.offset_map.last
        segment = partition.log.get(open_span.sid)
        open_max_ms = segment.max_timestamp if segment is not None and open_span.is_open else -1
        best = partition.offset_map.span_of_max_timestamp(open_max_ms)
        if best is None:
            return None
        largest_ms = open_max_ms if best.is_open else best.max_timestamp_ms
        return await self.first_at_or_after(largest_ms) or await self._latest_visible()

    async def _latest_visible(self) -> TimestampedOffset | None:
        """The largest timestamp was appended but is not committed yet: look at what is."""
        largest_ms = -1
        start_offset = self._partition.log_start_offset
        async for header, batch in self._batches(start_offset, None):
            largest_here_ms = header.max_timestamp
            if header.base_offset < start_offset:
                stamps = await _stamps(header, batch, start_offset)
                largest_here_ms = max((one.timestamp_ms for one in stamps), default=-1)
            largest_ms = max(largest_ms, largest_here_ms)
        return None if largest_ms < 0 else await self.first_at_or_after(largest_ms)

    async def _batches(
        self, offset: int, end_offset: int | None
    ) -> AsyncIterator[tuple[BatchHeader, memoryview]]:
        """Visible batches from the one that holds `offset`, below `end_offset` (None: to the high
        watermark)."""
        partition = self._partition
        while end_offset is None or offset < end_offset:
            data = memoryview(await partition.read(offset, size_max=_READ_SIZE))
            if not data:
                return
            for position, header in iter_headers(data):
                yield header, data[position : position + header.size]
                offset = header.next_offset


async def _stamps(
    header: BatchHeader, batch: memoryview, start_offset: int
) -> Iterator[TimestampedOffset]:
    """Where each record from `start_offset` on is, and when it was. What is below may be deleted:
    who is sent there is out of range."""
    if header.is_log_append_time:
        offset = max(header.base_offset, start_offset)
        return iter([TimestampedOffset(offset, header.max_timestamp, header.leader_epoch)])
    records = await anyio.to_thread.run_sync(partial(codecs.records_section, batch, header))
    return _stamps_of(header, records, start_offset)


def _stamps_of(
    header: BatchHeader, records: Buffer, start_offset: int
) -> Iterator[TimestampedOffset]:
    try:
        for record in iter_records(records, header.record_count):
            offset = header.base_offset + record.offset_delta
            if offset >= start_offset:
                timestamp_ms = header.base_timestamp + record.timestamp_delta
                yield TimestampedOffset(offset, timestamp_ms, header.leader_epoch)
    except CorruptBatchError as error:
        raise CorruptBatch(str(error)) from error
