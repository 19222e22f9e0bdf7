"""What came in one turn of the event loop goes to the log together, and nobody notices."""

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from broker.controller.bucket import Bucket
from broker.controller.partition import LocalPartition
from broker.errors import (
    CorruptBatch,
    NotLeader,
    OutcomeUnknown,
    OutOfTouch,
    RequestError,
    StorageFailed,
)
from broker.ports import ACKS_ALL, ACKS_LEADER, Appended
from broker.replication import store
from engine.batch import Offset
from engine.errors import QueueFullError
from engine.segment import Segment
from tests.broker.one_node import OneNode, batch, put, read_all, running, values

TURN_COUNT = 120


class Client:
    """Who brought one batch."""

    def __init__(self) -> None:
        self.appended: Appended | None = None
        self.refusal: Exception | None = None
        self.failure: Exception | None = None
        self.is_told = False

    def refused(self, error: Exception) -> None:
        assert not self.is_told
        self.refusal, self.is_told = error, True

    def committed(self, failure: Exception | None) -> None:
        assert not self.is_told
        self.failure, self.is_told = failure, True

    async def told(self) -> None:
        with anyio.fail_after(10):
            while not self.is_told:
                await anyio.lowlevel.checkpoint()


def soon(partition: LocalPartition, data: bytearray, *, acks: int = ACKS_ALL) -> Client:
    client = Client()
    assert partition.append_soon(data, client, acks=acks, timeout_s=10)
    assert client.appended is None, "its turn is not over"
    return client


# ---- the same as one by one


class Producers:
    """Batches as clients send them, most of them good."""

    def __init__(self, choose: random.Random) -> None:
        self._choose = choose
        self._next = dict.fromkeys(range(4), 0)
        self._count = 0

    def batch(self) -> bytearray:
        self._count += 1
        content = [b"%d" % self._count] * self._choose.randint(1, 3)
        if self._choose.random() < 0.4:
            return batch(*content)
        producer = self._choose.randrange(len(self._next))
        sequence = self._next[producer]
        match self._choose.random():
            case chance if chance < 0.1:
                sequence = max(0, sequence - len(content))  # sent before, or out of order
            case chance if chance < 0.15:
                sequence += 1
            case _:
                self._next[producer] = sequence + len(content)
        data = batch(*content, producer=(producer, 0, sequence))
        if self._choose.random() < 0.03:
            data[-1] ^= 1
        if self._choose.random() < 0.03:
            data = batch(b"x" * 2000)
        return data


async def _by_turn(partition: LocalPartition, turn: list[bytearray]) -> list[object]:
    """As the quick way does."""
    outcomes: list[object] = []
    for data in turn:
        client = Client()
        try:
            if partition.append_soon(data, client, acks=ACKS_ALL, timeout_s=10):
                outcomes.append(client)
            else:
                outcomes.append(partition.append_now(data, acks=ACKS_ALL))
        except RequestError as error:
            outcomes.append((type(error), str(error)))
    for outcome in outcomes:
        if isinstance(outcome, Client):
            await outcome.told()
            assert outcome.refusal is outcome.failure is None
    return [one.appended if isinstance(one, Client) else one for one in outcomes]


async def _one_by_one(partition: LocalPartition, turn: list[bytearray]) -> list[object]:
    outcomes: list[object] = []
    for data in turn:
        try:
            outcomes.append(await partition.append(bytes(data), acks=ACKS_ALL))
        except RequestError as error:
            outcomes.append((type(error), str(error)))
    return outcomes


async def test_what_is_appended_together_is_what_is_appended_one_by_one(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    producers = Producers(choose)
    async with running(tmp_path) as node:
        configs = {"max_message_bytes": "1000"}
        together, apart = await node.topic("t", **configs), await node.topic("u", **configs)
        for number in range(TURN_COUNT):
            turn = [producers.batch() for _ in range(choose.randrange(1, 12))]
            got = await _by_turn(together, [bytearray(data) for data in turn])
            assert got == await _one_by_one(apart, turn), (seed, number)
        await apart.drained()
        assert together.high_watermark == apart.high_watermark > 100
        offset = 0
        while data := await together.read(offset, size_max=1):
            assert bytes(data[16:]) == bytes((await apart.read(offset, size_max=1))[16:])
            offset += data[60]
        segments = [one.log.get(1) for one in (together, apart)]
        assert segments[0] is not None and segments[1] is not None
        assert segments[0].end == segments[1].end


async def test_a_thousand_records_of_one_turn_are_one_write(tmp_path: Path) -> None:
    async with running(tmp_path, fsync="none") as node:
        partition = await node.topic()
        await put(partition, b"warm")
        operations: list[str] = []
        node.backend.fs.on_operation = lambda name, _: operations.append(name)
        clients = [soon(partition, batch(b"%d" % n)) for n in range(1000)]
        for client in clients:
            await client.told()
        assert operations.count("write") == 1
        assert [one.appended and one.appended.base_offset for one in clients] == [*range(1, 1001)]


# ---- what comes between


async def test_what_is_appended_at_once_does_not_overtake_what_came_before(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        first = soon(partition, batch(b"1"))
        assert partition.append_now(batch(b"2"), acks=ACKS_ALL) is not None
        third = soon(partition, batch(b"3"), acks=ACKS_LEADER)
        await put(partition, b"4")
        await first.told()
        await third.told()
        assert values(await read_all(partition)) == [b"1", b"2", b"3", b"4"]


async def test_a_rollover_that_begins_in_the_turn_loses_and_refuses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"1")
        client = soon(partition, batch(b"2"))
        assert partition.bucket is not None
        partition.bucket.park()
        assert client.appended is not None and client.appended.base_offset == 1
        assert not partition.append_soon(batch(b"3"), Client(), acks=ACKS_ALL, timeout_s=10)
        await client.told()
        assert client.failure is None


def _lose_the_lead(node: OneNode, partition: LocalPartition) -> None:
    partition.close(NotLeader("it has moved"))


def _promise(node: OneNode, partition: LocalPartition) -> None:
    assert partition.bucket is not None
    assert partition.bucket.copy.replica.ask_promise(9) is None


def _lose_touch(node: OneNode, partition: LocalPartition) -> None:
    assert partition.bucket is not None
    partition.bucket._is_lease_good = lambda _: False


@pytest.mark.parametrize(
    ("happens", "error"),
    [(_lose_the_lead, NotLeader), (_promise, NotLeader), (_lose_touch, OutOfTouch)],
)
async def test_who_may_write_no_more_when_the_turn_ends_has_written_nothing(
    tmp_path: Path,
    happens: Callable[[OneNode, LocalPartition], None],
    error: type[RequestError],
) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"before")
        clients = [soon(partition, batch(b"too late")) for _ in range(3)]
        segment = partition.log.get(1)
        assert segment is not None
        happens(node, partition)
        for client in clients:
            await client.told()
            assert isinstance(client.refusal, error)
        assert segment.end_offset == 1


async def test_what_comes_behind_a_refused_batch_is_refused_or_it_would_overtake_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        client = soon(partition, batch(b"1", producer=(7, 0, 0)))
        _lose_touch(node, partition)
        bucket = partition.bucket
        assert bucket is not None
        with pytest.raises(OutOfTouch):
            partition.append_now(batch(b"2", producer=(7, 0, 1)), acks=ACKS_ALL)
        await client.told()
        assert isinstance(client.refusal, OutOfTouch)

        bucket._is_lease_good = lambda _: True
        client = soon(partition, batch(b"1", producer=(7, 0, 0)))
        bucket._is_lease_good = lambda _: False
        assert not partition.append_soon(
            batch(b"2", producer=(7, 0, 1)), Client(), acks=ACKS_ALL, timeout_s=10
        )
        await client.told()
        assert partition.end_offset == 0


async def test_a_moment_without_room_does_not_let_a_later_batch_overtake_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        client = soon(partition, batch(b"1"))
        with monkeypatch.context() as context:
            context.setattr(Segment, "append", _no_room)
            context.setattr(Bucket, "_append", _once_more(context, Bucket._append))
            with pytest.raises(StorageFailed):
                partition.append_now(batch(b"2"), acks=ACKS_ALL)
        await client.told()
        assert isinstance(client.refusal, StorageFailed)
        assert partition.end_offset == 0


def _no_room(*_: object) -> Offset:
    raise QueueFullError("too many bytes wait")


def _once_more(context: pytest.MonkeyPatch, append: Callable[..., int]) -> Callable[..., int]:
    """The room is there again as soon as it was asked for."""

    def wrapped(*args: Any) -> int:
        try:
            return append(*args)
        finally:
            context.undo()

    return wrapped


@pytest.mark.parametrize("acks", [ACKS_ALL, ACKS_LEADER])
async def test_a_disk_that_refuses_the_write_of_a_turn_answers_all_of_it(
    tmp_path: Path, acks: int
) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"safe")
        node.backend.fail_next("write", errno.ENOSPC, path=".log")
        clients = [soon(partition, batch(b"lost"), acks=acks) for _ in range(3)]
        for client in clients:
            await client.told()
            assert isinstance(client.failure, StorageFailed)
        assert values(await read_all(partition)) == [b"safe"]
        with pytest.raises(StorageFailed):
            await partition.append(batch(b"more"), acks=acks)


async def test_a_full_segment_refuses_the_turn_and_stores_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.segment.POSITION_MAX", 300)
    async with running(tmp_path) as node:
        partition = await node.topic()
        clients = [soon(partition, batch(b"x" * 20)) for _ in range(4)]
        for client in clients:
            await client.told()
            assert isinstance(client.refusal, StorageFailed)
        assert partition.end_offset == 0
        await put(partition, b"small")


async def test_a_turn_brings_no_more_than_may_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has no place in it waits for one, with its bytes unread."""
    monkeypatch.setattr(store, "WRITE_QUEUE_SIZE_MAX", 1000)
    async with running(tmp_path) as node:
        one, other = await node.topic("t"), await node.topic("u")
        clients = [soon(one, batch(b"x" * 300)), soon(other, batch(b"x" * 300))]
        for partition in (one, other):
            late = batch(b"x" * 300)
            assert not partition.append_soon(late, Client(), acks=ACKS_ALL, timeout_s=10)
        for client in clients:
            await client.told()
        clients = [soon(one, batch(b"x" * 300))]
        await clients[0].told()
        assert one.high_watermark == 2


async def test_each_of_a_turn_waits_only_as_long_as_it_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"warm")
        segment = partition.log.get(1)
        assert isinstance(segment, Segment)
        segment.on_durable = lambda _: None  # A disk that never answers.
        hasty, patient = Client(), Client()
        for client, timeout_s in ((hasty, 0.01), (patient, 60.0)):
            data = batch(b"x")
            assert partition.append_soon(data, client, acks=ACKS_ALL, timeout_s=timeout_s)
        await hasty.told()
        assert isinstance(hasty.failure, OutcomeUnknown)
        assert not patient.is_told


async def test_what_is_not_the_usual_batch_is_left_to_the_other_ways(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        stamped = await node.topic("s", message_timestamp_type="LogAppendTime")
        compacted = await node.topic("c", cleanup_policy="compact")
        damaged = batch(b"x")
        damaged[-1] ^= 1
        for topic, data in (
            (partition, damaged),
            (stamped, batch(b"x")),
            (compacted, batch(b"x", key=b"k")),
        ):
            assert not topic.append_soon(data, Client(), acks=ACKS_ALL, timeout_s=10)
        with pytest.raises(CorruptBatch):
            partition.append_now(damaged, acks=ACKS_ALL)
        assert partition.end_offset == 0
