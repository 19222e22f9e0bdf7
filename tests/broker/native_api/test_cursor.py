"""GET never repeats a record, never blocks on a bad batch, and moves nothing when there is
nothing."""

import anyio
import pytest

from broker.errors import NotLeader, StorageFailed
from broker.native_api.cursor import Cursors, Taken, group_of
from tests.broker.native_api.batches import CODECS, batch, garbage_batch
from tests.broker.native_api.fakes import FakeController, FakeOffsets, FakePartition


class Shared:
    """One topic and its shared cursor."""

    def __init__(self, *, section_size_max: int = 10**6, cache_size_max: int = 10**7) -> None:
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

    async def take(self, partition: FakePartition | None = None) -> Taken | None:
        return await self.cursors.take((partition or self.logs).topic)

    async def values(self) -> list[bytes]:
        """Everything that is left."""
        out = []
        while taken := await self.take():
            assert taken.failure == ""
            await taken.committed()
            out.append(taken.value)
        return out


async def test_records_come_once_in_order_and_then_nothing() -> None:
    shared = Shared()
    shared.logs.store(batch([b"a", b"b"]))
    shared.logs.store(batch([b"c"]))
    assert await shared.values() == [b"a", b"b", b"c"]
    assert await shared.take() is None
    shared.logs.store(batch([b"d"]))
    assert await shared.values() == [b"d"]


async def test_an_empty_get_commits_nothing() -> None:
    shared = Shared()
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


async def test_a_restart_goes_on_after_the_last_record_handed_out() -> None:
    shared = Shared()
    shared.logs.store(batch([b"a", b"b", b"c", b"d"]))
    await shared.take()
    await shared.take()
    shared.cursors = Cursors(shared.controller, shared.offsets)
    assert await shared.values() == [b"c", b"d"]


@pytest.mark.parametrize("codec", CODECS)
async def test_values_of_kafka_producers_come_out_whatever_their_codec(codec: str) -> None:
    shared = Shared()
    values = [b"value %d " % number * 50 for number in range(200)]
    shared.logs.store(batch(values, codec))
    assert await shared.values() == values


async def test_a_null_value_is_an_empty_one() -> None:
    shared = Shared()
    shared.logs.store(batch([None, b"", b"x"]))
    assert await shared.values() == [b"", b"", b"x"]


async def test_control_batches_are_passed_over() -> None:
    shared = Shared()
    shared.logs.store(batch([b"a"]))
    shared.logs.store(batch([b"marker"], is_control=True))
    shared.logs.store(batch([b"b"]))
    shared.logs.store(batch([b"marker"], is_control=True))
    assert await shared.values() == [b"a", b"b"]


async def test_many_gets_share_one_data_sync_and_keep_their_order() -> None:
    """None of the commits is durable yet, and still the next GET gets the next record."""
    shared = Shared()
    shared.logs.store(batch([b"%d" % number for number in range(50)]))
    shared.offsets.gate = anyio.Event()
    taken: list[bytes] = []

    async def get() -> None:
        got = await shared.take()
        assert got is not None
        taken.append(got.value)
        await got.committed()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(get)
            await anyio.wait_all_tasks_blocked()
            assert taken == [b"%d" % number for number in range(50)]
            shared.offsets.gate.set()
    assert shared.position == 50
    assert shared.logs.read_count == 1


async def test_what_retention_removed_is_skipped() -> None:
    shared = Shared()
    for number in range(5):
        shared.logs.store(batch([b"%d" % number]))
    assert (await shared.take()) is not None
    shared.logs.log_start_offset = 3
    assert await shared.values() == [b"3", b"4"]


async def test_a_cursor_moved_by_a_kafka_tool_is_followed_both_ways() -> None:
    shared = Shared()
    shared.logs.store(batch([b"a", b"b", b"c", b"d", b"e"]))
    assert await shared.values() == [b"a", b"b", b"c", b"d", b"e"]
    shared.position = 1
    assert await shared.values() == [b"b", b"c", b"d", b"e"]
    shared.position = 0
    await shared.take()
    shared.position = 4
    assert await shared.values() == [b"e"]


async def test_a_cursor_beyond_a_log_that_lost_its_tail_goes_back_to_its_end() -> None:
    shared = Shared()
    shared.logs.store(batch([b"a"]))
    shared.position = 10
    assert await shared.take() is None
    assert shared.position == 1
    shared.logs.store(batch([b"b"]))
    assert await shared.values() == [b"b"]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_batch_that_inflates_beyond_the_limit_is_reported_once_and_passed(
    codec: str,
) -> None:
    shared = Shared(section_size_max=100_000)
    shared.logs.store(batch([b"before"]))
    shared.logs.store(batch([bytes(60_000), bytes(60_000)], codec))
    shared.logs.store(batch([b"after"]))
    assert (await shared.take()) is not None
    bomb = await shared.take()
    assert bomb is not None
    assert bomb.failure.startswith("offsets 1 to 2 of topic logs cannot be read and are skipped")
    assert await shared.values() == [b"after"]


async def test_garbage_with_a_good_crc_is_reported_once_and_passed() -> None:
    shared = Shared()
    shared.logs.store(garbage_batch(3))
    shared.logs.store(batch([b"after"]))
    bad = await shared.take()
    assert bad is not None
    assert "offsets 0 to 2 of topic logs" in bad.failure
    assert await shared.values() == [b"after"]


async def test_a_damaged_stored_batch_is_an_error_each_time_and_nothing_is_skipped() -> None:
    shared = Shared()
    shared.logs.store(batch([b"precious"]))
    stored = bytearray(shared.logs.batches[0])
    stored[-3] ^= 1
    shared.logs.batches[0] = bytes(stored)
    for _ in range(2):
        with pytest.raises(StorageFailed, match="offset 0 is damaged"):
            await shared.take()
    assert shared.position is None


async def test_another_nodes_topic_is_not_read_here() -> None:
    shared = Shared()
    shared.logs.store(batch([b"a"]))
    shared.controller.is_leader = False
    with pytest.raises(NotLeader):
        await shared.take()
    assert shared.offsets.commit_count == 0


async def test_a_large_batch_is_read_and_decoded_once_for_all_its_records() -> None:
    shared = Shared()
    values = [b"%d" % number * 20 for number in range(5_000)]
    shared.logs.store(batch(values, "lz4"))
    assert await shared.values() == values
    assert shared.logs.read_count <= 2


async def test_memory_of_decoded_batches_is_bounded_over_topics() -> None:
    shared = Shared(cache_size_max=300_000)
    topics = [shared.controller.add(f"t{number}") for number in range(20)]
    for topic in topics:
        topic.store(batch([bytes(50_000), b"x"], "gzip"))
    for _ in range(2):
        for topic in topics:
            assert (await shared.take(topic)) is not None
            assert shared.cursors.held_size <= 300_000
    assert shared.cursors.held_size > 100_000
