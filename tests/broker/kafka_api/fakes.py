"""A small honest log in memory, behind the ports that the Kafka protocol uses.

Honest: offsets, epochs, the watermark and the errors are those that a real node would give. What a
test needs to go wrong (a disk that waits, a leader elsewhere) is set on the object.
"""

import asyncio
import time
from collections.abc import Callable

import anyio
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from broker.controller.checks import accepted
from broker.controller.topic_config import TopicConfig
from broker.errors import (
    BatchTooLarge,
    CorruptBatch,
    FencedLeaderEpoch,
    InvalidRecord,
    NotLeader,
    OffsetOutOfRange,
    OutcomeUnknown,
    UnknownLeaderEpoch,
)
from broker.ports import (
    ACKS_ALL,
    Appended,
    Buffer,
    Produced,
    TimestampedOffset,
    TopicView,
    Waiter,
    Wake,
)
from broker.replication.progress import Progress
from engine.batch import (
    HEADER_SIZE,
    BatchHeader,
    CorruptBatchError,
    check_batch,
    parse_header,
    patch,
    stamp_append_time,
)
from engine.records import iter_records


def batch(
    *values: bytes,
    codec: int = 0,
    timestamp_ms: int = 1_700_000_000_000,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
) -> bytes:
    """A record batch as aiokafka builds it; the timestamps count up by one millisecond."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        batch_size=2**30,
    )
    for index, value in enumerate(values):
        builder.append(index, timestamp_ms + index, b"k", value, [])
    return bytes(builder.build())


class FakeClock:
    def __init__(self) -> None:
        self.wall_ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic(self) -> float:
        return time.monotonic()


class FakePartition:
    """One log. `is_held` keeps the watermark where it is until `release`."""

    def __init__(self, view: TopicView, clock: FakeClock) -> None:
        self.view = view
        self.clock = clock
        self.batches: list[tuple[int, int, bytes]] = []
        self.is_held = False
        self.read_count = 0
        self.preferred = -1
        self.error: Exception | None = None
        self.must_wait = False
        """An append or a read would have to wait for something."""
        self.quick_count = self.soon_count = 0
        """Those that did not; and of the appends, those at the end of the turn."""
        self._gathered: list[tuple[bytearray | memoryview, Produced, int, float]] = []
        self._progress = Progress(0)
        self.unconfirmed: Exception | None = None
        self.keyed_snapshot: Callable[[], bytes] = bytes
        self.bucket = None
        self._high_watermark = 0
        self._moved = anyio.Event()
        self._watchers: set[Waiter] = set()
        self._sequences: dict[tuple[int, int], list[tuple[int, int, int]]] = {}

    @property
    def topic(self) -> TopicView:
        return self.view

    @property
    def leader_epoch(self) -> int:
        return self.view.leader_epoch

    @property
    def log_start_offset(self) -> int:
        return self.view.log_start_offset

    @property
    def high_watermark(self) -> int:
        return self._high_watermark

    @property
    def end_offset(self) -> int:
        return self.batches[-1][1] if self.batches else self.log_start_offset

    async def confirmed(self) -> None:
        if self.unconfirmed is not None:
            raise self.unconfirmed

    @property
    def watcher_count(self) -> int:
        return len(self._watchers)

    def preferred_reader(self, offset: int) -> int:
        return self.preferred

    def check_epoch(self, leader_epoch: int) -> None:
        if leader_epoch != -1 and leader_epoch < self.leader_epoch:
            raise FencedLeaderEpoch(f"epoch {leader_epoch}")
        if leader_epoch > self.leader_epoch:
            raise UnknownLeaderEpoch(f"epoch {leader_epoch}")

    async def append(self, batch: Buffer, *, acks: int) -> Appended:
        return self._append(batch)

    def append_now(
        self,
        batch: bytearray | memoryview,
        *,
        acks: int,
        is_alone: bool = False,
        is_ours: bool = False,
    ) -> Appended | None:
        appended = None if self.must_wait else self._append(batch)
        self.quick_count += appended is not None
        return appended

    def append_soon(
        self, batch: bytearray | memoryview, produced: Produced, *, acks: int, timeout_s: float
    ) -> bool:
        header = accepted(batch, TopicConfig.of(self.view.configs), now_ms=self.clock.now_ms())
        if self.must_wait or header is None or isinstance(self.error, NotLeader):
            return False
        self._append_gathered()
        if self._seen(header) is not None:
            return False
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._append_gathered)
        self._gathered.append((batch, produced, acks, timeout_s))
        self.soon_count += 1
        return True

    def _append_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        for batch, produced, acks, timeout_s in gathered:
            try:
                produced.appended = appended = self._append(batch)
            except Exception as error:  # noqa: BLE001
                produced.refused(error)
            else:
                self.when_committed(
                    appended.end_offset, produced.committed, acks=acks, timeout_s=timeout_s
                )

    def _append(self, batch: Buffer) -> Appended:
        self._append_gathered()
        if self.error is not None:
            raise self.error
        config = TopicConfig.of(self.view.configs)
        if len(batch) > config.max_message_bytes:
            raise BatchTooLarge(f"{len(batch)} bytes")
        try:
            header = parse_header(batch)
            check_batch(batch, header)
        except CorruptBatchError as error:
            raise CorruptBatch(str(error)) from error
        if header.size != len(batch):
            raise InvalidRecord("bytes after the batch")
        if header.is_control:
            raise InvalidRecord("a control batch")
        if (seen := self._seen(header)) is not None:
            return Appended(*seen, -1, self.log_start_offset, True)
        base_offset = self.end_offset
        data = bytearray(batch)
        append_time_ms = -1
        if config.is_log_append_time:
            append_time_ms = self.clock.now_ms()
            stamp_append_time(data, append_time_ms)
        patch(data, base_offset=base_offset, leader_epoch=self.leader_epoch)
        end_offset = base_offset + header.record_count
        self.batches.append((base_offset, end_offset, bytes(data)))
        self._window(header).append((header.base_sequence, base_offset, end_offset))
        if not self.is_held:
            self.release()
        return Appended(base_offset, end_offset, append_time_ms, self.log_start_offset)

    def _window(self, header: BatchHeader) -> list[tuple[int, int, int]]:
        return self._sequences.setdefault((header.producer_id, header.producer_epoch), [])

    def _seen(self, header: BatchHeader) -> tuple[int, int] | None:
        """The offsets of a batch that came before."""
        for sequence, *offsets in self._window(header)[-5:] if header.producer_id >= 0 else ():
            if sequence == header.base_sequence:
                return offsets[0], offsets[1]
        return None

    def when_committed(
        self,
        end_offset: int,
        wake: Wake,
        *,
        acks: int,
        timeout_s: float,
    ) -> None:
        end_offset = end_offset if acks == ACKS_ALL else 0
        self._progress.call(
            end_offset,
            lambda failure: wake(failure and OutcomeUnknown(f"not durable after {timeout_s} s")),
            timeout_s=timeout_s,
        )

    def release(self) -> None:
        """The disk has everything: the watermark moves to the end."""
        self.is_held = False
        self._high_watermark = self.end_offset
        self._progress.advance(self.end_offset)
        self._moved.set()
        self._moved = anyio.Event()
        self.wake()

    def wake(self) -> None:
        for waiter in tuple(self._watchers):
            waiter.set()

    async def committed(self, end_offset: int, *, acks: int, timeout_s: float) -> None:
        if acks != ACKS_ALL:
            return
        with anyio.move_on_after(timeout_s):
            while self._high_watermark < end_offset:
                await self._moved.wait()
        if self._high_watermark < end_offset:
            raise OutcomeUnknown(f"not durable after {timeout_s} s")

    async def drained(self) -> None:
        await self.committed(self.end_offset, acks=ACKS_ALL, timeout_s=60)

    async def first_header(self) -> tuple[int, None]:
        """Nothing was ever given up here, so nothing is kept beside the log."""
        return self.log_start_offset, None

    async def read(self, offset: int, *, size_max: int) -> bytes:
        self.read_count += 1
        if self.error is not None:
            raise self.error
        if not self.log_start_offset <= offset <= self.end_offset:
            raise OffsetOutOfRange(f"{offset} of {self.log_start_offset}..{self.end_offset}")
        return self._batches(offset, size_max)

    def read_now(self, offset: int, *, size_max: int) -> bytes | None:
        if self.error is not None:
            raise self.error
        if self.must_wait or not self.log_start_offset <= offset <= self.end_offset:
            return None
        self.quick_count += 1
        return self._batches(offset, size_max)

    async def fetch(self, offset: int, *, size_max: int) -> bytes:
        return await self.read(offset, size_max=size_max)

    def fetch_now(self, offset: int, *, size_max: int) -> bytes | None:
        return self.read_now(offset, size_max=size_max)

    def _batches(self, offset: int, size_max: int) -> bytes:
        out = b""
        for _, end_offset, data in self.batches:
            if offset < end_offset <= self._high_watermark:
                if out and len(out) + len(data) > size_max:
                    break
                out += data
        return out

    def watch(self, waiter: Waiter) -> None:
        self._watchers.add(waiter)

    def unwatch(self, waiter: Waiter) -> None:
        self._watchers.discard(waiter)

    def _records(self) -> list[TimestampedOffset]:
        found = []
        for base_offset, _, data in self.batches:
            header = parse_header(data)
            for record in iter_records(data[HEADER_SIZE:], header.record_count):
                timestamp_ms = header.base_timestamp + record.timestamp_delta
                offset = base_offset + record.offset_delta
                found.append(TimestampedOffset(offset, timestamp_ms, self.leader_epoch))
        return found

    async def offset_for_timestamp(self, timestamp_ms: int) -> TimestampedOffset | None:
        return next((one for one in self._records() if one.timestamp_ms >= timestamp_ms), None)

    async def offset_of_max_timestamp(self) -> TimestampedOffset | None:
        return max(self._records(), key=lambda one: one.timestamp_ms, default=None)
