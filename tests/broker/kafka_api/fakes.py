"""A small honest log in memory, behind the ports that the Kafka protocol uses.

Honest: offsets, epochs, the watermark and the errors are those that a real node would give. What a
test needs to go wrong (a disk that waits, a leader elsewhere) is set on the object.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import anyio
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from broker.controller import group_config
from broker.controller.checks import accepted
from broker.controller.topic_config import TopicConfig, validate
from broker.controller.topic_name import check_topic_name
from broker.errors import (
    BatchTooLarge,
    CorruptBatch,
    FencedLeaderEpoch,
    InvalidRecord,
    InvalidRequest,
    NotLeader,
    OffsetOutOfRange,
    OutcomeUnknown,
    TopicExists,
    UnknownLeaderEpoch,
    UnknownTopic,
    UnknownTopicId,
)
from broker.ports import (
    ACKS_ALL,
    Appended,
    BrokerAddress,
    Buffer,
    EditConfigs,
    LogDir,
    Produced,
    SegmentView,
    StoredLog,
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


class FakeController:
    """Node 1 of a cluster; `others` adds live nodes."""

    node_id = 1
    cluster_id = "walrus-test-cluster"

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.lived: list[BrokerAddress] = []
        """Until a moment ago."""
        self.live = [BrokerAddress(1, "127.0.0.1", 9092), BrokerAddress(2, "127.0.0.2", 9092, "b")]
        self.silent: set[int] = set()
        """Nodes that have just died, or cannot be reached from here."""
        self.partitions: dict[str, FakePartition] = {}
        self.routes: dict[str, FakePartition] = {}
        """Where `anywhere` finds a topic, if not here."""
        self.handed_on: dict[str, FakePartition] = {}
        """Where `send_on` sends."""
        self.sealed: dict[str, FakePartition] = {}
        """Sealed copies of topics that others lead."""
        self.configs_of_groups: dict[str, dict[str, str]] = {}
        self.next_producer_id = 4000
        self.producer_id_error: Exception | None = None
        self.create_wait = anyio.Event()
        self.create_wait.set()

    async def other_clocks(self) -> list[int]:
        return []

    def brokers(self, listener: str, *, lately: bool = False) -> tuple[BrokerAddress, ...]:
        port_offset = {"PLAINTEXT": 0, "OUTSIDE": 10_000}[listener]
        listed = (*self.live, *self.lived) if lately else self.live
        return tuple(replace(one, port=one.port + port_offset) for one in listed)

    async def answers(self, node_id: int) -> bool:
        return node_id not in self.silent

    def topics(self) -> Sequence[TopicView]:
        return [partition.view for partition in self.partitions.values()]

    def topic(self, name: str) -> TopicView:
        if name not in self.partitions:
            raise UnknownTopic(f"no topic {name!r}")
        return self.partitions[name].view

    def topic_by_id(self, topic_id: UUID) -> TopicView:
        for partition in self.partitions.values():
            if partition.view.topic_id == topic_id:
                return partition.view
        raise UnknownTopicId(f"no topic with id {topic_id}")

    async def create_topic(
        self,
        name: str,
        *,
        configs: Mapping[str, str],
        replication_factor: int = -1,
        validate_only: bool = False,
        is_internal: bool = False,
    ) -> TopicView:
        check_topic_name(name)
        validate(configs)
        if name in self.partitions:
            raise TopicExists(f"{name} exists")
        await self.create_wait.wait()
        if name in self.partitions:
            raise TopicExists(f"{name} exists")
        view = self.view(name, configs, max(replication_factor, 1))
        if not validate_only:
            self.partitions[name] = FakePartition(view, self.clock)
        return view

    @staticmethod
    def view(name: str, configs: Mapping[str, str], replication_factor: int) -> TopicView:
        return TopicView(
            name=name,
            topic_id=uuid4(),
            leader_id=1,
            leader_epoch=3,
            replicas=(1,),
            in_sync=(1,),
            offline=(),
            is_internal=name.startswith("__"),
            replication_factor=replication_factor,
            configs=dict(configs),
            log_start_offset=0,
            segments=(SegmentView(0, 0, None, 1, 3, None),),
        )

    def group_configs(self, group: str) -> Mapping[str, str]:
        if not group:
            raise InvalidRequest("a group has a name")
        return self.configs_of_groups.get(group, {})

    async def configure_group(
        self, group: str, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        configs = edit(self.group_configs(group))
        group_config.validate(configs)
        if not validate_only:
            self.configs_of_groups[group] = dict(configs)

    def led(self, name: str) -> FakePartition | None:
        partition = self.partitions.get(name)
        return partition if partition is not None and partition.view.leader_id == 1 else None

    async def configure(
        self, topic_id: UUID, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        partition = self.partitions[self.topic_by_id(topic_id).name]
        configs = edit(partition.view.configs)
        validate(configs)
        if not validate_only:
            partition.view = replace(partition.view, configs=dict(configs))

    async def delete_records(self, topic: TopicView, before_offset: int) -> int:
        partition = self.partition(topic)
        end_offset = partition.high_watermark
        offset = end_offset if before_offset == -1 else before_offset
        if not 0 <= offset <= end_offset:
            raise OffsetOutOfRange(f"{offset} of {end_offset}")
        start = max(offset, partition.log_start_offset)
        partition.view = replace(partition.view, log_start_offset=start)
        return start

    async def log_dir(self) -> LogDir:
        logs = tuple(
            StoredLog(name, sum(len(data) for _, _, data in partition.batches), 0)
            for name, partition in self.partitions.items()
        )
        return LogDir("/data", 1000, 400, logs)

    async def delete_topic(self, topic_id: UUID) -> None:
        view = self.topic_by_id(topic_id)
        self.partitions.pop(view.name).wake()

    def sealed_copies(self, topic: TopicView) -> FakePartition:
        found = self.sealed.get(topic.name)
        if found is None:
            raise NotLeader(f"nothing of {topic.name} is held here")
        return found

    def anywhere(self, topic: TopicView, *, resends: bool = True) -> FakePartition:
        return self.routes.get(topic.name) or self.partition(topic)

    async def send_on(
        self, topic: TopicView, batch: Buffer, *, acks: int
    ) -> tuple[FakePartition, Appended] | None:
        partition = self.handed_on.get(topic.name)
        return None if partition is None else (partition, await partition.append(batch, acks=acks))

    async def caught_up(self) -> None:
        return

    def partition(self, topic: TopicView) -> FakePartition:
        partition = self.partitions.get(topic.name)
        if partition is None or partition.view.topic_id != topic.topic_id:
            raise UnknownTopicId(f"{topic.name} is gone")
        if partition.view.leader_id != self.node_id:
            raise NotLeader(f"node {partition.view.leader_id} leads {topic.name}")
        return partition

    async def producer_id(self) -> int:
        if self.producer_id_error is not None:
            raise self.producer_id_error
        self.next_producer_id += 1
        return self.next_producer_id - 1
