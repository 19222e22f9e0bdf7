"""Clients: idempotent producers that retry, plain ones that do not, consumers that follow, commit
and come back."""

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

import anyio

from broker.errors import (
    CorruptBatch,
    NotEnoughReplicas,
    NotLeader,
    OffsetOutOfRange,
    OutOfOrderSequence,
    RequestError,
    UnknownTopic,
)
from broker.ports import ACKS_ALL, ACKS_LEADER, Buffer
from engine.batch import HEADER_SIZE, CorruptBatchError, check_batch, iter_headers
from engine.records import Record, build, iter_records
from tests.sim.cluster.node import WALL_START_MS, Process
from tests.sim.cluster.produce import produce
from tests.sim.cluster.troubles import TOPIC
from tests.sim.cluster.world import World
from tests.sim.history import History, Send

T = TypeVar("T")

NOT_APPENDED = (NotLeader, NotEnoughReplicas, UnknownTopic)
RECORDS_MAX = 4


class Unanswered(Exception):
    """The connection broke, or patience ended: nobody knows what happened."""


async def ask(
    world: World, node: int, serve: Callable[[Process], Awaitable[T]], *, timeout_s: float
) -> T:
    """One request to one node and its answer. Raises Unanswered, RequestError."""
    answer: list[T | Exception] = []
    arrived = anyio.Event()
    loop, rng = world.loop, world.rng

    def put(result: T | Exception) -> None:
        if not answer:
            answer.append(result)
            arrived.set()

    def deliver() -> None:
        process = world.machines[node].process
        if process is None or not process.is_ready:
            put(Unanswered(f"node {node} is not there"))
            return
        number = len(process.requests) and max(process.requests) + 1
        process.requests[number] = partial(put, Unanswered(f"node {node} died"))
        process.start(run, process, number)

    async def run(process: Process, number: int) -> None:
        result: T | Exception
        try:
            result = await serve(process)
        except RequestError as error:
            result = error
        except CorruptBatchError as error:
            world.damage.noticed(error)
            result = CorruptBatch(str(error))
        except Exception as error:  # noqa: BLE001  a request that fails so is a bug, and told
            world.violated(f"a request to node {node} failed: {error!r}")
            result = Unanswered(str(error))
        process.requests.pop(number, None)
        if process.is_alive and rng.random() >= world.data.loss_rate:
            loop.after(world.data.draw_delay(), partial(put, result))

    loop.after(world.data.draw_delay(), deliver)
    with anyio.move_on_after(timeout_s):
        await arrived.wait()
    if not answer:
        raise Unanswered(f"node {node} did not answer")
    result = answer[0]
    if isinstance(result, Exception):
        raise result
    return result


class Client(ABC):
    """Finds the leader as clients do: asks anybody, believes it, asks again after an error."""

    def __init__(self, world: World, history: History, name: str) -> None:
        self.world = world
        self.history = history
        self.name = name
        self.rng = random.Random(f"{world.seed} client {name}")
        self.leader: int | None = None
        self.epoch = -1
        self.is_stopping = False

    @abstractmethod
    async def run(self) -> None:
        """Until `is_stopping`."""

    @property
    def now(self) -> float:
        return self.world.loop.time()

    async def lull(self) -> None:
        """Wait until there is something to be written again."""
        while self.now < self.world.lull_until:
            await anyio.sleep(0.05)

    async def pause(self, longest_s: float = 0.2) -> None:
        await anyio.sleep(self.rng.uniform(0.01, longest_s))

    async def anyone(
        self, serve: Callable[[Process], Awaitable[T]], *, timeout_s: float = 5.0
    ) -> T | None:
        """What some node answers; None if it refuses, or nobody knows."""
        return await self.of(self.rng.choice(sorted(self.world.machines)), serve, timeout_s)

    async def of(
        self, node: int, serve: Callable[[Process], Awaitable[T]], timeout_s: float
    ) -> T | None:
        try:
            return await ask(self.world, node, serve, timeout_s=timeout_s)
        except (RequestError, Unanswered):
            return None

    async def insist(self, serve: Callable[[Process], Awaitable[T | None]]) -> T:
        """Ask until somebody answers."""
        while True:
            answer = await self.anyone(serve)
            if answer is not None:
                return answer
            await self.pause()

    async def find_leader(self) -> int:
        while self.leader is None:
            node = self.rng.choice(sorted(self.world.machines))
            try:
                leader, epoch = await ask(self.world, node, _metadata, timeout_s=1.0)
            except (RequestError, Unanswered):
                await self.pause()
                continue
            if leader >= 0 and epoch >= self.epoch:
                self.leader, self.epoch = leader, epoch
            else:
                await self.pause()
        return self.leader


async def _metadata(process: Process) -> tuple[int, int]:
    view = process.controller.topic(TOPIC)
    return view.leader_id, view.leader_epoch


class Producer(Client):
    """Idempotent, acks=all, several batches under way. Now and then it crashes, and another one
    takes its place."""

    def __init__(self, world: World, history: History, name: str) -> None:
        super().__init__(world, history, name)
        self.depth = self.rng.choice([1, 1, 2, 5])
        self.rate_s = self.rng.choice([0.01, 0.05, 0.2])
        self.crash_rate = self.rng.choice([0.0, 0.01])
        self._window: deque[tuple[int, Send, bytes]] = deque()
        self._life = 0
        self._sequence = 0
        self._producer_id = -1
        self._is_over = False

    async def run(self) -> None:
        while not self.is_stopping:
            await self._begin()
            await self._live()

    async def _live(self) -> None:
        """Until it is to stop and everything is acknowledged, or it crashes."""
        while True:
            while len(self._window) < self.depth and not self.is_stopping:
                self._make_batch()
            if not self._window:
                return
            await self._send_window()
            if self._is_over:
                return
            if self.rng.random() < self.crash_rate and not self.is_stopping:
                return
            await anyio.sleep(self.rng.expovariate(1 / self.rate_s))
            await self.lull()

    def _has_lost(self) -> bool:
        """What this life was told is stored, and is gone for good."""
        name = f"{self.name}.{self._life}"
        return any(send.is_lost for send in self.history.sends if send.producer == name)

    async def _begin(self) -> None:
        self._life += 1
        self._is_over = False
        self._sequence = 0
        self._window.clear()
        self._producer_id = await self.insist(lambda process: process.controller.producer_id())

    def _make_batch(self) -> None:
        count = self.rng.randint(1, RECORDS_MAX)
        values = tuple(
            b"%s.%d.%d" % (self.name.encode(), self._life, self._sequence + index)
            for index in range(count)
        )
        send = Send(f"{self.name}.{self._life}", values, self.now, is_durable=True)
        self.history.sent(send)
        batch = bytes(make_batch(values, producer=(self._producer_id, 0, self._sequence)))
        self._window.append((self._sequence, send, batch))
        self._sequence += count

    async def _send_window(self) -> None:
        """Send all that waits on one connection; keep what is not known to be safe."""
        leader = await self.find_leader()
        batches = [batch for _, _, batch in self._window]
        timeout_s = self.rng.choice([0.5, 3.0, 8.0])
        serve = partial(produce, batches, ACKS_ALL, self.rng.choice([0.3, 2.0]))
        try:
            outcomes = await ask(self.world, leader, serve, timeout_s=timeout_s)
        except (Unanswered, RequestError):
            self.leader = None
            await self.pause()
            return
        for outcome in outcomes:
            if isinstance(outcome, RequestError):
                sequence, _, _ = self._window[0]
                if isinstance(outcome, OutOfOrderSequence) and self._has_lost():
                    self._window.clear()  # As clients that give up begin again: see `_live`.
                    self._is_over = True
                    return
                if isinstance(outcome, OutOfOrderSequence):
                    self.history.anomaly(
                        "forgotten", f"{self.name} sequence {sequence} is out of order: {outcome}"
                    )
                self.leader = None
                await self.pause()
                return
            _, send, _ = self._window.popleft()
            self.history.acknowledged(send, outcome, self.now)


class PlainProducer(Client):
    """Not idempotent and never retries: what it is told has failed must not be there, what it is
    told with acks=all must stay."""

    async def run(self) -> None:
        number = 0
        while not self.is_stopping:
            await anyio.sleep(self.rng.expovariate(10.0))
            await self.lull()
            leader = await self.find_leader()
            number += 1
            value = b"%s.%d" % (self.name.encode(), number)
            acks = self.rng.choice([ACKS_ALL, ACKS_LEADER])
            send = Send(self.name, (value,), self.now, is_durable=acks == ACKS_ALL)
            self.history.sent(send)
            serve = partial(produce, [bytes(make_batch([value]))], acks, 2.0)
            try:
                (outcome,) = await ask(self.world, leader, serve, timeout_s=3.0)
            except (Unanswered, RequestError):
                self.leader = None
                continue
            if isinstance(outcome, int):
                self.history.acknowledged(send, outcome, self.now)
            else:
                send.has_failed = isinstance(outcome, NOT_APPENDED)
                self.leader = None


class Consumer(Client):
    """Follows the log from the group's position, commits now and then, and sometimes begins again
    from what it had committed."""

    def __init__(self, world: World, history: History, name: str) -> None:
        super().__init__(world, history, name)
        self.position = 0
        self.committed = 0
        self.size_max = self.rng.choice([1, 300, 64 * 1024])
        self.commit_rate = self.rng.choice([0.0, 0.05, 0.2])

    async def run(self) -> None:
        while not self.is_stopping:
            await anyio.sleep(self.rng.uniform(0.0, 0.1))
            if self.rng.random() < self.commit_rate:
                await self._use_group()
            await self.poll()

    async def poll(self) -> int | None:
        """One fetch; the leader's high watermark, None if there was no answer."""
        leader = await self.find_leader()
        serve = partial(_fetch, self.position, self.epoch, self.size_max)
        try:
            data, high_watermark = await ask(self.world, leader, serve, timeout_s=2.0)
        except OffsetOutOfRange as error:
            await self._begin_at_the_start(error)
            return None
        except (Unanswered, RequestError):
            self.leader = None
            await self.pause()
            return None
        found = [each for each in records_of(data) if each[0] >= self.position]
        self.history.polled(self.name, self.position, found)
        if found:
            self.position = found[-1][0] + 1
        return high_watermark

    async def _begin_at_the_start(self, error: OffsetOutOfRange) -> None:
        """What was deleted on purpose is not there; nothing else may be missing."""
        self.leader = None
        start = self.world.log_start_offset()
        end = self.world.losses.end_before(self.position)
        if end is not None:
            self.position = max(end, start)
            self.committed = min(self.committed, self.position)
            return
        if start <= self.position:
            self.history.anomaly("went back", f"{self.name} at {self.position}: {error}")
        self.position = max(self.position, start)

    async def _use_group(self) -> None:
        """Commit the position, or come back as a new member and go on from the committed one."""
        is_commit = self.rng.random() < 0.7
        serve = (
            partial(commit, self.name, self.position) if is_commit else partial(position, self.name)
        )
        leader = await self.anyone(partial(coordinator, self.name), timeout_s=3.0)
        if leader is None or leader < 0:
            return
        offset = await self.of(leader, serve, 3.0)
        if offset is None:
            return
        self.history.note("group", self.name, is_commit, offset)
        if offset < self.committed:
            self.history.anomaly(
                "commit lost", f"{self.name} had committed {self.committed}, and reads {offset}"
            )
        self.committed = offset
        self.position = offset


async def _fetch(position: int, epoch: int, size_max: int, process: Process) -> tuple[bytes, int]:
    partition = process.controller.partition(process.controller.topic(TOPIC))
    partition.check_epoch(epoch)
    is_quick = process.world.takes_quick_way()
    data = partition.read_now(position, size_max=size_max) if is_quick else None
    if data is None:
        data = await partition.read(position, size_max=size_max)
    found = records_of(data)
    if found:
        topic_id = partition.topic.topic_id.bytes
        process.world.committed(topic_id, found[-1][0] + 1, "a consumer was served")
    return bytes(data), partition.high_watermark


async def coordinator(group: str, process: Process) -> int:
    return await process.groups.leader_of(group)


async def commit(group: str, offset: int, process: Process) -> int:
    topic_id = process.controller.topic(TOPIC).topic_id
    finish = await process.groups.commit(group, topic_id, offset)
    await finish()
    return offset


async def position(group: str, process: Process) -> int:
    topic_id: UUID = process.controller.topic(TOPIC).topic_id
    offsets, durable = await process.groups.offsets(group)
    await durable()
    return offsets[topic_id].offset if topic_id in offsets else 0


def make_batch(values: Sequence[bytes], producer: tuple[int, int, int] = (-1, -1, -1)) -> bytearray:
    """As a client sends it."""
    producer_id, epoch, sequence = producer
    records = [
        Record(offset_delta=index, timestamp_delta=0, key=None, value=value, headers=())
        for index, value in enumerate(values)
    ]
    return build(
        records,
        base_timestamp=WALL_START_MS,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )


def records_of(data: Buffer) -> list[tuple[int, bytes]]:
    """(offset, value) of every record. Raises CorruptBatchError, as clients do that check."""
    found: list[tuple[int, bytes]] = []
    for position, header in iter_headers(data):
        check_batch(data, header, position)
        payload = memoryview(data)[position + HEADER_SIZE : position + header.size]
        found += [
            (header.base_offset + record.offset_delta, bytes(record.value or b""))
            for record in iter_records(payload, header.record_count)
        ]
    return found
