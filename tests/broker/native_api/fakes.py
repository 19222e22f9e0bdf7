"""An honest little broker in memory: topics, one partition each, committed offsets.

Appends are visible at once unless `hold()` keeps them from becoming durable; every fault is the
test's explicit choice.
"""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

import anyio

from broker.errors import (
    BatchTooLarge,
    InvalidTopic,
    NotLeader,
    OffsetOutOfRange,
    OutcomeUnknown,
    OutOfOrderSequence,
    RequestError,
    TopicExists,
    UnknownTopic,
)
from broker.ports import (
    ACKS_ALL,
    Appended,
    BrokerAddress,
    Buffer,
    Finish,
    NodeStatus,
    Produced,
    Reply,
    SegmentView,
    TimestampedOffset,
    TopicView,
    Waiter,
    Wake,
)
from engine.batch import check_batch, parse_header, patch

STATUS = NodeStatus(
    node_id=1,
    cluster_id="test-cluster",
    backend="memory",
    backend_reason="a test",
    fsync="each",
    data_dir="nowhere",
    ready=True,
    detail="",
)


class FakeClock:
    def __init__(self) -> None:
        self.monotonic_s = 1.0

    def now_ms(self) -> int:
        return 1_700_000_000_000

    def monotonic(self) -> float:
        return self.monotonic_s


class FakePartition:
    """`ports.Partition` over a list of batches."""

    def __init__(self, topic: TopicView) -> None:
        self._topic = topic
        self.batches: list[bytes] = []
        self.end_offset = 0
        self.high_watermark = 0
        self.log_start_offset = 0
        self.leader_epoch = 0
        self.failures: list[Exception] = []
        """Raised by the next appends, one each, before anything is appended."""
        self.read_count = 0
        self._next_sequence: dict[int, int] = {}
        self._gate = anyio.Event()
        self._gate.set()
        self._waiting: list[tuple[int, Wake]] = []
        self.is_cached = True
        """What is stored can be read without waiting."""
        self.must_wait = False
        """An append would have to wait for something."""
        self.is_lost = False

    def preferred_reader(self, offset: int) -> int:
        return -1

    @property
    def topic(self) -> TopicView:
        return self._topic

    async def confirmed(self) -> None:
        return

    def hold(self) -> None:
        """Nothing becomes durable until `let_go`."""
        self._gate = anyio.Event()

    def let_go(self) -> None:
        self._gate.set()
        waiting, self._waiting = self._waiting, []
        for end_offset, wake in waiting:
            self.when_committed(end_offset, wake, acks=ACKS_ALL, timeout_s=0)

    def check_epoch(self, leader_epoch: int) -> None:
        pass

    def store(self, batch: Buffer) -> int:
        """What another producer appended; returns the base offset."""
        header = parse_header(batch)
        stored = bytearray(batch)
        patch(stored, base_offset=self.end_offset, leader_epoch=0)
        self.batches.append(bytes(stored))
        base_offset = self.end_offset
        self.end_offset += header.last_offset_delta + 1
        if self._gate.is_set():
            self.high_watermark = self.end_offset
        return base_offset

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
        return None if self.must_wait else self._append(batch)

    def append_soon(
        self, batch: bytearray | memoryview, produced: Produced, *, acks: int, timeout_s: float
    ) -> bool:
        return False

    def _append(self, batch: Buffer) -> Appended:
        if self.failures:
            raise self.failures.pop(0)
        header = parse_header(batch)
        check_batch(batch, header)
        size_max = int(self._topic.configs.get("max.message.bytes", 1_048_588))
        if len(batch) > size_max:
            raise BatchTooLarge(f"the batch has {len(batch)} bytes, the topic takes {size_max}")
        expected = self._next_sequence.get(header.producer_id, header.base_sequence)
        if header.base_sequence != expected:
            raise OutOfOrderSequence(f"sequence {header.base_sequence}, expected {expected}")
        self._next_sequence[header.producer_id] = header.last_sequence + 1
        base_offset = self.store(batch)
        return Appended(base_offset, self.end_offset, -1, 0)

    def read_now(self, offset: int, *, size_max: int) -> Buffer | None:
        if not self.is_cached or not self.log_start_offset <= offset <= self.end_offset:
            return None
        self.read_count += offset < self.high_watermark
        return self._read(offset, size_max)

    async def fetch(self, offset: int, *, size_max: int) -> Buffer:
        return await self.read(offset, size_max=size_max)

    def fetch_now(self, offset: int, *, size_max: int) -> Buffer | None:
        return self.read_now(offset, size_max=size_max)

    def forget_appends_of(self, producer_id: int) -> None:
        """As if the last batch of that producer was given up by a seal."""
        self._next_sequence[producer_id] = 0

    async def committed(self, end_offset: int, *, acks: int, timeout_s: float) -> None:
        with anyio.move_on_after(timeout_s) as scope:
            await self._gate.wait()
        if scope.cancelled_caught or self.is_lost:
            raise OutcomeUnknown("not committed in time")
        self.high_watermark = max(self.high_watermark, end_offset)

    def when_committed(
        self,
        end_offset: int,
        wake: Wake,
        *,
        acks: int,
        timeout_s: float,
    ) -> None:
        if self.is_lost:
            wake(OutcomeUnknown("not committed in time"))
        elif self._gate.is_set():
            self.high_watermark = max(self.high_watermark, end_offset)
            wake(None)
        else:
            self._waiting.append((end_offset, wake))
            if timeout_s:
                late = OutcomeUnknown("not committed in time")
                asyncio.get_running_loop().call_later(timeout_s, self._give_up, wake, late)

    def _give_up(self, wake: Wake, failure: Exception) -> None:
        if any(waiting[1] is wake for waiting in self._waiting):
            self._waiting = [waiting for waiting in self._waiting if waiting[1] is not wake]
            wake(failure)

    async def read(self, offset: int, *, size_max: int) -> bytes:
        self.read_count += 1
        if not self.log_start_offset <= offset <= self.end_offset:
            raise OffsetOutOfRange(f"offset {offset}")
        return self._read(offset, size_max)

    def _read(self, offset: int, size_max: int) -> bytes:
        out = b""
        for batch in self.batches:
            header = parse_header(batch)
            if header.next_offset <= offset or header.next_offset > self.high_watermark:
                continue
            if out and len(out) + len(batch) > size_max:
                break
            out += batch
        return out

    def watch(self, waiter: Waiter) -> None:
        pass

    def unwatch(self, waiter: Waiter) -> None:
        pass

    async def offset_for_timestamp(self, timestamp_ms: int) -> TimestampedOffset | None:
        return None

    async def offset_of_max_timestamp(self) -> TimestampedOffset | None:
        return None


class FakeController:
    """`ports.Controller` on one node, which leads everything."""

    node_id = 1
    cluster_id = "test-cluster"

    def __init__(self) -> None:
        self.views: dict[str, TopicView] = {}
        self.partitions: dict[UUID, FakePartition] = {}
        self.producer_ids: list[int] = []
        self.is_leader = True
        self.create_count = 0

    def add(
        self,
        name: str,
        *,
        configs: Mapping[str, str] | None = None,
        is_internal: bool = False,
        segments: tuple[SegmentView, ...] = (SegmentView(1, 0, None, 1, 0, None),),
    ) -> FakePartition:
        view = TopicView(
            name=name,
            topic_id=uuid4(),
            leader_id=1,
            leader_epoch=0,
            replicas=(1,),
            in_sync=(1,),
            offline=(),
            is_internal=is_internal,
            replication_factor=1,
            configs=configs or {},
            log_start_offset=0,
            segments=segments,
        )
        self.views[name] = view
        partition = self.partitions[view.topic_id] = FakePartition(view)
        return partition

    def brokers(self, listener: str, *, lately: bool = False) -> tuple[BrokerAddress, ...]:
        return ()

    def topics(self) -> Sequence[TopicView]:
        return tuple(self.views.values())

    def topic(self, name: str) -> TopicView:
        if name not in self.views:
            raise UnknownTopic(name)
        return self.views[name]

    def topic_by_id(self, topic_id: UUID) -> TopicView:
        return self.partitions[topic_id].topic

    async def create_topic(
        self,
        name: str,
        *,
        configs: Mapping[str, str],
        replication_factor: int = -1,
        validate_only: bool = False,
    ) -> TopicView:
        if not name or " " in name or not name.isascii():
            raise InvalidTopic(f"topic name {name!r} is not allowed")
        if name in self.views:
            raise TopicExists(name)
        self.create_count += 1
        return self.add(name, configs=configs).topic

    async def delete_topic(self, topic_id: UUID) -> None:
        del self.views[self.partitions.pop(topic_id).topic.name]

    def anywhere(self, topic: TopicView, *, resends: bool = True) -> FakePartition:
        return self.partition(topic)

    def partition(self, topic: TopicView) -> FakePartition:
        if not self.is_leader:
            raise NotLeader(f"node 2 leads {topic.name}", leader_id=2)
        return self.partitions[topic.topic_id]

    def led(self, name: str) -> FakePartition | None:
        view = self.views.get(name)
        return self.partitions[view.topic_id] if view is not None and self.is_leader else None

    async def producer_id(self) -> int:
        await anyio.lowlevel.checkpoint()
        self.producer_ids.append(4_000 + len(self.producer_ids))
        return self.producer_ids[-1]


class FakeOffsets:
    """`ports.GroupOffsets`: a dict, and commits that a test may hold back or fail."""

    def __init__(self) -> None:
        self.positions: dict[tuple[str, UUID], int] = {}
        self.leader_id = 1
        self.commit_count = 0
        self.failure: RequestError | None = None
        self.gate = anyio.Event()
        self.gate.set()
        self.is_quick = True
        """Whether positions can be had without a task."""
        self.must_wait = False
        """Whether they cannot be moved without one."""
        self.quick_count = 0
        """Commits without a task."""
        self.held: list[asyncio.Future[None]] = []

    def position_now(self, group: str, topic_id: UUID) -> "FakePosition | None":
        offset = self.positions.get((group, topic_id))
        if offset is None or not self.is_quick or self.leader_id != 1:
            return None
        return FakePosition(self, group, topic_id, offset)

    async def leader_of(self, group_id: str) -> int:
        return self.leader_id

    async def position(self, group: str, topic_id: UUID) -> int | None:
        await anyio.lowlevel.checkpoint()
        return self.positions.get((group, topic_id))

    async def commit(self, group: str, topic_id: UUID, offset: int, metadata: str = "") -> Finish:
        await anyio.lowlevel.checkpoint()
        self.positions[group, topic_id] = offset
        self.commit_count += 1
        failure, gate = self.failure, self.gate

        async def durable() -> Reply:
            await gate.wait()
            if failure is not None:
                raise failure
            return ()

        return durable


class FakePosition:
    """`ports.QuickPosition` over `FakeOffsets`."""

    def __init__(self, offsets: FakeOffsets, group: str, topic_id: UUID, offset: int) -> None:
        self._offsets = offsets
        self._key = group, topic_id
        self.offset = offset

    def commit_now(self, offset: int, wake: Wake, *, is_alone: bool) -> bool:
        offsets, failure = self._offsets, self._offsets.failure
        if offsets.must_wait:
            return False
        offsets.positions[self._key] = offset
        offsets.commit_count += 1
        offsets.quick_count += 1
        if offsets.gate.is_set():
            wake(failure)
        else:
            held = asyncio.ensure_future(offsets.gate.wait())
            held.add_done_callback(lambda _: wake(failure))
            offsets.held.append(held)
        return True
