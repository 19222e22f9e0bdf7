"""Concurrent PUTs of one topic become one RecordBatch.

Every PUT that arrives in the same turn of the event loop joins the topic's pack. When the loop gets
round, the pack is built and appended as a whole, so it is stored as a whole or not at all, and
everyone in it is answered once it is durable. A lone PUT is a pack of one and waits for nobody; who
comes back from a pack of many waits for those who were in it, too (see gathering.py).

Where nothing has to be waited for, a pack is appended and answered without a task; the task takes
over where something has.

Packs carry this process's own producer id and a sequence per topic, so that a batch which the
broker itself sends twice is stored once.
"""

import asyncio
from collections import deque
from functools import partial
from uuid import UUID

import anyio
import anyio.abc
import structlog

from broker.controller.topic_config import value_of
from broker.errors import OutcomeUnknown, OutOfOrderSequence, RequestError, StorageFailed
from broker.gate import Gate
from broker.native_api.gathering import SIZE_MAX, Gathering
from broker.ports import ACKS_ALL, AnyPartition, Appended, Clock, Controller, Pending, TopicView
from engine.batch import HEADER_SIZE, SEQUENCE_MAX
from engine.records import build_pairs

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RECORDS_PER_PACK_MAX = 2_000
"""A bound on the time that building one batch holds the event loop: about 10 ms."""

RECORD_OVERHEAD_SIZE = 20
"""Bytes of a record beside its value, at most, when it has no key and no headers."""

SEQUENCES_MAX = 10_000
"""Topics whose next sequence is remembered; beyond it everything starts anew under another producer
id."""

GATHERINGS_MAX = 100
"""Topics whose clients are waited for. They come back within a moment, and are forgotten then."""


class Pack:
    """PUTs that share one batch, and one fate."""

    __slots__ = ("_size_max", "done", "failure", "payloads", "puts", "size")

    def __init__(self, payload: bytes, size_max: int) -> None:
        """A first payload is taken whatever its size: whether it is too large for the topic is the
        partition's to say."""
        self.payloads = [payload]
        self.size = HEADER_SIZE + RECORD_OVERHEAD_SIZE + len(payload)
        """An upper bound of the batch's bytes."""
        self._size_max = size_max
        self.done = Gate()
        """Durable, or failed."""
        self.puts: list[Pending] = []
        """Those of its PUTs for which no task waits."""
        self.failure: RequestError | None = None

    def takes(self, payload: bytes) -> bool:
        """Add a record, unless the batch would become too large."""
        size = self.size + len(payload) + RECORD_OVERHEAD_SIZE
        if size > self._size_max or len(self.payloads) >= RECORDS_PER_PACK_MAX:
            return False
        self.size = size
        self.payloads.append(payload)
        return True

    async def settled(self) -> None:
        """Wait until the fate is known. Raises the RequestError that befell the pack."""
        if not self.done.is_set():  # A finish that is ready must not yield: see connection.py.
            await self.done.wait()
        if self.failure is not None:
            raise self.failure

    def end(self, failure: RequestError | None = None) -> None:
        """Tell everyone."""
        self.failure = failure
        self.done.set()
        puts, self.puts = self.puts, []
        for put in puts:
            put.settle()


class Packer:
    """The packs of all topics. `run` must be running while `put` is used."""

    def __init__(self, controller: Controller, clock: Clock, *, timeout_s: float) -> None:
        self._controller = controller
        self._clock = clock
        self._timeout_s = timeout_s
        self._lanes: dict[UUID, deque[Pack]] = {}
        """Per topic with packs that are not appended yet: those packs, in order. The last may
        grow."""
        self._gatherings: dict[UUID, Gathering] = {}
        """Of topics whose PUTs were answered last, by topic id."""
        self._identity = _Identity(controller)
        self._tasks: anyio.abc.TaskGroup | None = None

        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Append packs until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            await anyio.sleep_forever()

    def put(self, topic: TopicView, payload: bytes, *, is_alone: bool = False) -> Pack:
        """Fix the place of `payload` behind every earlier `put` of this topic. `is_alone`: nothing
        that it could share a batch with is to be expected in this turn."""
        assert self._loop is not None and self._tasks is not None, "the packer is not running"
        lane = self._lanes.get(topic.topic_id)
        if lane and lane[-1].takes(payload):
            return lane[-1]
        pack = Pack(payload, int(value_of(topic.configs, "max.message.bytes")))
        if lane is not None:
            lane.append(pack)
        elif not is_alone or topic.topic_id in self._gatherings:
            lane = self._lanes[topic.topic_id] = deque((pack,))
            self._loop.call_soon(self._end_turn, topic, lane)
        elif not self._append_now(topic, pack, is_alone=not self._lanes):
            lane = self._lanes[topic.topic_id] = deque((pack,))
            self._tasks.start_soon(self._append_all, topic, lane)
        return pack

    def _end_turn(self, topic: TopicView, lane: deque[Pack]) -> None:
        """Append what came in it, unless more is about to come."""
        gathering = self._gatherings.get(topic.topic_id)
        if gathering is not None:
            assert self._loop is not None
            pack = lane[-1]
            is_small = len(lane) == 1 and pack.size < SIZE_MAX
            if is_small and gathering.expects(len(pack.payloads), self._loop.time()):
                self._loop.call_soon(self._end_turn, topic, lane)
                return
            del self._gatherings[topic.topic_id]
        self._append_lane(topic, lane)

    def _append_lane(self, topic: TopicView, lane: deque[Pack]) -> None:
        """Append its packs, as long as nothing has to be waited for."""
        while lane:
            # Another pack may be about to share the submission.
            is_alone = len(self._lanes) == len(lane) == 1
            if not self._append_now(topic, lane[0], is_alone=is_alone):
                assert self._tasks is not None
                self._tasks.start_soon(self._append_all, topic, lane)
                return
            lane.popleft()
        del self._lanes[topic.topic_id]

    def _append_now(self, topic: TopicView, pack: Pack, *, is_alone: bool) -> bool:
        """Append the pack without a task. False, and nothing has happened, if there is something to
        wait for, or wrong: a task meets it again and knows what to do."""
        partition, name = self._controller.led(topic.name), self._identity.names.get(topic.topic_id)
        if partition is None or name is None or partition.topic.topic_id != topic.topic_id:
            return False
        try:
            batch = self._build(pack, name)
            appended = partition.append_now(batch, acks=ACKS_ALL, is_alone=is_alone, is_ours=True)
        except Exception:  # noqa: BLE001  As above.
            return False
        if appended is None:
            return False
        self._named(topic, pack, name)
        partition.when_committed(
            appended.end_offset,
            partial(self._committed, topic, pack),
            acks=ACKS_ALL,
            timeout_s=self._timeout_s,
        )
        return True

    def _committed(self, topic: TopicView, pack: Pack, failure: Exception | None) -> None:
        answered_count = len(pack.puts)
        if failure is None or isinstance(failure, RequestError):
            pack.end(failure)
        else:
            pack.end(self._fault(topic, failure))
        if answered_count > 1:
            self._gather(topic.topic_id, answered_count)

    def _gather(self, topic_id: UUID, answered_count: int) -> None:
        assert self._loop is not None
        if len(self._gatherings) >= GATHERINGS_MAX:
            self._gatherings.clear()
        self._gatherings[topic_id] = Gathering(answered_count, self._loop.time())

    def _fault(self, topic: TopicView, error: Exception) -> StorageFailed:
        """Whatever it is, it befell this pack alone."""
        _log.error("a native PUT failed by a fault of ours", topic=topic.name, exc_info=error)
        return StorageFailed(f"internal error: {type(error).__name__}")

    async def _append_all(self, topic: TopicView, lane: deque[Pack]) -> None:
        while lane:
            pack = lane.popleft()
            try:
                partition = self._controller.anywhere(topic)
                appended = await self._append(topic, partition, pack)
            except RequestError as error:
                pack.end(error)
            except Exception as error:  # noqa: BLE001
                pack.end(self._fault(topic, error))
            else:
                assert self._tasks is not None
                if lane:
                    self._tasks.start_soon(self._settle, partition, pack, appended)
                    continue
                # Nothing follows, so this task has time to wait; a PUT from now on brings its own.
                del self._lanes[topic.topic_id]
                await self._settle(partition, pack, appended)
                return
        del self._lanes[topic.topic_id]

    async def _append(self, topic: TopicView, partition: AnyPartition, pack: Pack) -> Appended:
        try:
            return await self._append_once(topic, partition, pack)
        except OutOfOrderSequence:
            # An earlier pack of ours was given up after it was appended and before it was safe.
            # This one was refused for the gap, so nothing of it is stored: it goes again under a
            # name without a past.
            self._identity.forget(topic.topic_id)
            return await self._append_once(topic, partition, pack)
        except (OutcomeUnknown, StorageFailed):
            # It may be stored all the same. Another pack under its sequence would be taken for
            # its repetition: acknowledged, and never stored.
            self._identity.forget(topic.topic_id)
            raise

    async def _append_once(self, topic: TopicView, partition: AnyPartition, pack: Pack) -> Appended:
        name = await self._identity.name(topic.topic_id)
        appended = await partition.append(self._build(pack, name), acks=ACKS_ALL)
        self._named(topic, pack, name)
        return appended

    def _build(self, pack: Pack, name: tuple[int, int]) -> bytearray:
        producer_id, sequence = name
        return build_pairs(
            [(None, payload) for payload in pack.payloads],
            base_timestamp=self._clock.now_ms(),
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=sequence,
        )

    def _named(self, topic: TopicView, pack: Pack, name: tuple[int, int]) -> None:
        """The pack is appended under that name; the next one has the next."""
        producer_id, sequence = name
        next_sequence = (sequence + len(pack.payloads)) & SEQUENCE_MAX
        self._identity.names[topic.topic_id] = producer_id, next_sequence
        pack.payloads = []

    async def _settle(self, partition: AnyPartition, pack: Pack, appended: Appended) -> None:
        try:
            await partition.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=self._timeout_s)
        except RequestError as error:
            pack.end(error)
        except Exception as error:  # noqa: BLE001
            pack.end(self._fault(partition.topic, error))
        else:
            pack.end()


class _Identity:
    """The producer that this process is, towards the idempotence windows."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._producer_id: int | None = None
        self._asking = anyio.Lock(fast_acquire=True)
        self.names: dict[UUID, tuple[int, int]] = {}
        """Producer id and next sequence, by topic id."""

    async def name(self, topic_id: UUID) -> tuple[int, int]:
        """Producer id and sequence of the topic's next batch."""
        if len(self.names) > SEQUENCES_MAX:
            self.names.clear()
            self._producer_id = None
        if topic_id not in self.names:
            async with self._asking:
                if self._producer_id is None:
                    self._producer_id = await self._controller.producer_id()
            self.names[topic_id] = self._producer_id, 0
        return self.names[topic_id]

    def forget(self, topic_id: UUID) -> None:
        """Towards this topic, become a producer that nobody has seen before."""
        self.names.pop(topic_id, None)
        self._producer_id = None
