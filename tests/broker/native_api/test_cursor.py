"""GET never repeats a record, never blocks on a bad batch, and moves nothing when there is
nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from broker.errors import NotLeader, OffsetOutOfRange, StorageFailed
from broker.native_api.cursor import Cursors, Ticket, group_of
from broker.native_api.reader import UnreadableBatch
from tests.broker.native_api.batches import CODECS, batch, garbage_batch, torn_batch
from tests.broker.native_api.fakes import FakeController, FakeOffsets, FakePartition


class Shared:
    """One topic and its shared cursor."""

    def __init__(
        self, *, section_size_max: int = 10**6, cache_size_max: int = 10**7, is_quick: bool = False
    ) -> None:
        self._is_quick = is_quick
        self.controller = FakeController()
        self.offsets = FakeOffsets()
        self.logs = self.controller.add("logs")
        self.cursors = Cursors(
            self.controller,
            self.offsets,
            section_size_max=section_size_max,
            cache_size_max=cache_size_max,
        )

    @property
    def position(self) -> int | None:
        return self.offsets.positions.get((group_of("logs"), self.logs.topic.topic_id))

    @position.setter
    def position(self, offset: int) -> None:
        self.offsets.positions[group_of("logs"), self.logs.topic.topic_id] = offset

    async def take(self, partition: FakePartition | None = None) -> bytes | None:
        return await self.ticket(partition, is_quick=self._is_quick).taken()

    def ticket(
        self,
        partition: FakePartition | None = None,
        *,
        is_quick: bool,
        is_alone: bool = False,
    ) -> Ticket:
        """A GET's place in the line, as a session asks for one."""
        topic = (partition or self.logs).topic
        ticket = self.cursors.get_now(topic, is_alone=is_alone) if is_quick else None
        return ticket or self.cursors.get(topic)

    async def values(self) -> list[bytes]:
        """Everything that is left."""
        out = []
        while (value := await self.take()) is not None:
            out.append(value)
        return out


@asynccontextmanager
async def sharing(
    *, section_size_max: int = 10**6, cache_size_max: int = 10**7, is_quick: bool = False
) -> AsyncIterator[Shared]:
    shared = Shared(
        section_size_max=section_size_max, cache_size_max=cache_size_max, is_quick=is_quick
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(shared.cursors.run)
        yield shared
        tasks.cancel_scope.cancel()


@pytest.fixture(params=[False, True], ids=["with a task", "without a task"])
async def shared(request: pytest.FixtureRequest) -> AsyncIterator[Shared]:
    async with sharing(is_quick=request.param) as shared:
        yield shared


async def test_records_come_once_in_order_and_then_nothing(shared: Shared) -> None:
    shared.logs.store(batch([b"a", b"b"]))
    shared.logs.store(batch([b"c"]))
    assert await shared.values() == [b"a", b"b", b"c"]
    assert await shared.take() is None
    shared.logs.store(batch([b"d"]))
    assert await shared.values() == [b"d"]


async def test_an_empty_get_commits_nothing(shared: Shared) -> None:
    assert await shared.take() is None
    assert shared.offsets.commit_count == 0
    assert shared.position is None
    shared.logs.store(batch([b"a"]))
    await shared.values()
    count = shared.offsets.commit_count
    for _ in range(3):
        assert await shared.take() is None
    assert shared.offsets.commit_count == count
    assert shared.position == 1


async def test_a_restart_goes_on_after_the_last_record_handed_out(shared: Shared) -> None:
    shared.logs.store(batch([b"a", b"b", b"c", b"d"]))
    await shared.take()
    await shared.take()
    async with sharing() as restarted:
        restarted.cursors._controller = shared.controller
        restarted.cursors._offsets = shared.offsets
        assert await restarted.take(shared.logs) == b"c"


@pytest.mark.parametrize("codec", CODECS)
async def test_values_of_kafka_producers_come_out_whatever_their_codec(
    shared: Shared, codec: str
) -> None:
    values = [b"value %d " % number * 50 for number in range(200)]
    shared.logs.store(batch(values, codec))
    assert await shared.values() == values


async def test_a_null_value_is_an_empty_one(shared: Shared) -> None:
    shared.logs.store(batch([None, b"", b"x"]))
    assert await shared.values() == [b"", b"", b"x"]


async def test_control_batches_are_passed_over(shared: Shared) -> None:
    shared.logs.store(batch([b"a"]))
    shared.logs.store(batch([b"marker"], is_control=True))
    shared.logs.store(batch([b"b"]))
    shared.logs.store(batch([b"marker"], is_control=True))
    assert await shared.values() == [b"a", b"b"]


async def test_gets_of_one_loop_turn_share_one_commit_and_keep_their_order(shared: Shared) -> None:
    shared.logs.store(batch([b"%d" % number for number in range(50)]))
    tickets = [shared.cursors.get(shared.logs.topic) for _ in range(60)]
    values = [await ticket.taken() for ticket in tickets]
    assert values == [*(b"%d" % number for number in range(50)), *[None] * 10]
    assert shared.offsets.commit_count == 1
    assert shared.position == 50
    assert shared.logs.read_count <= 2


async def test_the_next_round_does_not_wait_for_the_sync_of_the_last(shared: Shared) -> None:
    shared.logs.store(batch([b"a", b"b"]))
    shared.offsets.gate = gate = anyio.Event()
    first = shared.cursors.get(shared.logs.topic)
    await anyio.wait_all_tasks_blocked()
    assert not first.done.is_set()
    shared.offsets.gate = anyio.Event()
    shared.offsets.gate.set()
    assert await shared.take() == b"b"
    assert not first.done.is_set()
    gate.set()
    assert await first.taken() == b"a"


async def test_a_commit_that_fails_hands_out_nothing(shared: Shared) -> None:
    shared.logs.store(batch([b"a", b"b"]))
    shared.offsets.failure = StorageFailed("the disk is full")
    with pytest.raises(StorageFailed):
        await shared.take()
    shared.offsets.failure = None
    assert await shared.take() == b"b"


async def test_a_round_hands_out_a_bounded_number_of_bytes(shared: Shared) -> None:
    values = [bytes([number]) * 400_000 for number in range(10)]
    for value in values:
        shared.logs.store(batch([value]))
    tickets = [shared.cursors.get(shared.logs.topic) for _ in range(11)]
    assert [await ticket.taken() for ticket in tickets] == [*values, None]
    assert shared.offsets.commit_count == 4


async def test_what_retention_removed_is_skipped(shared: Shared) -> None:
    for number in range(5):
        shared.logs.store(batch([b"%d" % number]))
    assert await shared.take() == b"0"
    shared.logs.log_start_offset = 3
    assert await shared.values() == [b"3", b"4"]


async def test_a_cursor_moved_by_a_kafka_tool_is_followed_both_ways(shared: Shared) -> None:
    shared.logs.store(batch([b"a", b"b", b"c", b"d", b"e"]))
    assert await shared.values() == [b"a", b"b", b"c", b"d", b"e"]
    shared.position = 1
    assert await shared.values() == [b"b", b"c", b"d", b"e"]
    shared.position = 0
    await shared.take()
    shared.position = 4
    assert await shared.values() == [b"e"]


async def test_a_cursor_beyond_a_log_that_lost_its_tail_goes_back_to_its_end(
    shared: Shared,
) -> None:
    shared.logs.store(batch([b"a"]))
    shared.position = 10
    assert await shared.take() is None
    assert shared.position == 1
    shared.logs.store(batch([b"b"]))
    assert await shared.values() == [b"b"]


async def test_records_that_are_kept_are_not_skipped_while_the_log_start_moves(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node leads the topic, and knows of a DeleteRecords before this one does."""
    shared.logs.store(batch([b"deleted", b"deleted", b"kept", b"kept too"]))
    shared.position = 0
    log_start_offset, read = 2, shared.logs.read

    async def read_there(offset: int, *, size_max: int) -> bytes:
        if offset < log_start_offset:
            raise OffsetOutOfRange(f"offset {offset}")
        return await read(offset, size_max=size_max)

    monkeypatch.setattr(shared.logs, "read", read_there)
    shared.logs.is_cached = False
    with pytest.raises(NotLeader):
        await shared.take()
    assert shared.position == 0
    shared.logs.log_start_offset = log_start_offset
    assert await shared.values() == [b"kept", b"kept too"]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_batch_that_inflates_beyond_the_limit_is_reported_once_and_passed(
    codec: str,
) -> None:
    async with sharing(section_size_max=100_000) as shared:
        shared.logs.store(batch([b"before"]))
        shared.logs.store(batch([bytes(60_000), bytes(60_000)], codec))
        shared.logs.store(batch([b"after"]))
        tickets = [shared.cursors.get(shared.logs.topic) for _ in range(3)]
        assert await tickets[0].taken() == b"before"
        with pytest.raises(UnreadableBatch, match="^offsets 1 to 2 of topic logs cannot be read"):
            await tickets[1].taken()
        assert await tickets[2].taken() == b"after"


async def test_garbage_with_a_good_crc_is_reported_once_and_passed(shared: Shared) -> None:
    shared.logs.store(garbage_batch(3))
    shared.logs.store(batch([b"after"]))
    with pytest.raises(UnreadableBatch, match="offsets 0 to 2 of topic logs"):
        await shared.take()
    assert await shared.values() == [b"after"]


async def test_garbage_in_the_middle_costs_the_rest_of_its_batch_only(shared: Shared) -> None:
    shared.logs.store(torn_batch([b"good", b"torn", b"lost"]))
    shared.logs.store(batch([b"after"]))
    assert await shared.take() == b"good"
    with pytest.raises(UnreadableBatch, match="offsets 0 to 2"):
        await shared.take()
    assert await shared.values() == [b"after"]


async def test_a_damaged_stored_batch_is_an_error_each_time_and_nothing_is_skipped(
    shared: Shared,
) -> None:
    shared.logs.store(batch([b"precious"]))
    stored = bytearray(shared.logs.batches[0])
    stored[-3] ^= 1
    shared.logs.batches[0] = bytes(stored)
    for _ in range(2):
        with pytest.raises(StorageFailed, match="offset 0 is damaged"):
            await shared.take()
    assert shared.position is None


async def test_records_before_a_damaged_batch_are_still_handed_out(shared: Shared) -> None:
    shared.logs.store(batch([b"fine"]))
    shared.logs.store(batch([b"precious"]))
    shared.logs.batches[1] = shared.logs.batches[1][:-1] + b"?"
    tickets = [shared.cursors.get(shared.logs.topic) for _ in range(2)]
    assert await tickets[0].taken() == b"fine"
    with pytest.raises(StorageFailed):
        await tickets[1].taken()
    assert shared.position == 1


async def test_another_nodes_topic_is_not_read_here(shared: Shared) -> None:
    shared.logs.store(batch([b"a"]))
    shared.controller.is_leader = False
    with pytest.raises(NotLeader):
        await shared.take()
    assert shared.offsets.commit_count == 0


async def test_a_fault_of_ours_ends_the_round_and_not_the_cursor(shared: Shared) -> None:
    shared.logs.store(batch([b"a"]))
    partition = shared.controller.partitions.pop(shared.logs.topic.topic_id)
    with pytest.raises(StorageFailed, match="KeyError"):
        await shared.take()
    shared.controller.partitions[shared.logs.topic.topic_id] = partition
    assert await shared.take() == b"a"


async def test_a_large_batch_is_read_and_decoded_once_for_all_its_records(shared: Shared) -> None:
    values = [b"%d" % number * 20 for number in range(5_000)]
    shared.logs.store(batch(values, "lz4"))
    assert await shared.values() == values
    assert shared.logs.read_count <= 2


async def test_memory_of_decoded_batches_is_bounded_over_topics() -> None:
    async with sharing(cache_size_max=300_000) as shared:
        topics = [shared.controller.add(f"t{number}") for number in range(20)]
        for topic in topics:
            topic.store(batch([bytes(50_000), b"x"], "gzip"))
        for expected in (bytes(50_000), b"x"):
            for topic in topics:
                assert await shared.take(topic) == expected
                await anyio.wait_all_tasks_blocked()
                assert shared.cursors.held_size <= 300_000
        assert shared.cursors.held_size > 100_000


async def test_clients_that_were_answered_together_share_the_next_commit_too() -> None:
    async with sharing(is_quick=True) as shared:
        shared.logs.store(batch([b"%d" % number for number in range(7)]))
        assert await shared.take() == b"0"
        for is_alone in (False, True):
            tickets = []
            for _ in range(3):
                tickets.append(shared.ticket(is_quick=True, is_alone=is_alone))
                if is_alone:
                    await anyio.lowlevel.checkpoint()
            for ticket in tickets:
                await ticket.ended()
        assert shared.position == 7
        assert shared.offsets.commit_count == 3
