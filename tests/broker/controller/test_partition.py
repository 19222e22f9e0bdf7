"""One topic as clients see it: offsets, visibility, time, and a full or failing disk."""

import errno
import gc
from pathlib import Path

import anyio
import pytest

from broker.errors import (
    BatchTooLarge,
    CorruptBatch,
    FencedLeaderEpoch,
    InvalidRecord,
    InvalidTimestamp,
    NotLeader,
    OffsetOutOfRange,
    OutcomeUnknown,
    RequestError,
    StorageFailed,
    UnknownLeaderEpoch,
    UnknownTopicId,
)
from broker.ports import ACKS_ALL, ACKS_LEADER, ACKS_NONE
from engine.batch import iter_headers, parse_header
from engine.records import Record, build
from engine.segment import Segment
from tests.broker.one_node import batch, put, read_all, running, values


async def test_the_stored_bytes_are_the_clients_but_for_offset_and_epoch(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"first")
        sent = batch(b"second", b"third")
        await partition.append(sent, acks=ACKS_ALL)
        await partition.drained()
        stored = await partition.read(1, size_max=1)
        assert stored[16:] == sent[16:]
        assert parse_header(stored).base_offset == 1
        assert parse_header(stored).leader_epoch == partition.leader_epoch


async def test_a_client_that_leaves_work_for_the_cycle_collector(tmp_path: Path) -> None:
    """It stops everybody else. What a request leaves behind must be free without it."""
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"a")
        await partition.read(0, size_max=1)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                assert partition.append_now(bytearray(batch(b"b")), acks=ACKS_ALL) is not None
                await partition.drained()
                assert await partition.read(0, size_max=1)
            assert gc.collect() < 50
        finally:
            gc.enable()


async def test_a_batch_inside_a_larger_buffer_is_stored_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"a")
        sent = batch(b"b", b"c")
        frame = bytearray(b"before" + sent + b"after")
        view = memoryview(frame)[6:-5]
        for is_alone in (True, False):
            appended = partition.append_now(view, acks=ACKS_ALL, is_alone=is_alone)
            await partition.drained()
            assert appended is not None
            stored = await partition.read(appended.base_offset, size_max=1)
            assert parse_header(stored).base_offset == appended.base_offset
            assert stored[16:] == sent[16:]
            assert bytes(frame[:6] + frame[-5:]) == b"beforeafter"


async def test_an_offset_inside_a_batch_returns_the_whole_batch(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"a", b"b", b"c")
        await put(partition, b"d")
        for offset in (0, 1, 2):
            assert parse_header(await partition.read(offset, size_max=1)).base_offset == 0
        assert len(list(iter_headers(await partition.read(1, size_max=10_000)))) == 2


async def test_below_and_beyond_the_log_is_out_of_range_and_its_end_is_not(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"a")
        assert await partition.read(1, size_max=100) == b""
        for offset in (-1, 2):
            with pytest.raises(OffsetOutOfRange):
                await partition.read(offset, size_max=100)


async def test_what_is_not_yet_durable_is_not_visible(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"a")
        appended = await partition.append(batch(b"b"), acks=ACKS_ALL)
        assert partition.high_watermark == 1
        assert await partition.read(1, size_max=100) == b""
        await partition.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=10)
        assert partition.high_watermark == 2


async def test_what_is_read_at_once_or_for_a_socket_is_what_is_read(tmp_path: Path) -> None:
    async with running(tmp_path, entries_max=3, monitor_interval_ms=20) as node:
        partition = await node.topic()
        for number in range(8):
            await put(partition, b"%d" % number)
        for offset in range(-1, 10):
            at_once = partition.read_now(offset, size_max=1)
            assert at_once == partition.fetch_now(offset, size_max=1)
            if 0 <= offset <= 8:
                expected = await partition.read(offset, size_max=1)
                assert at_once == await partition.fetch(offset, size_max=1) == expected
            else:
                assert at_once is None
                with pytest.raises(OffsetOutOfRange):
                    await partition.fetch(offset, size_max=1)


async def test_what_a_disk_has_of_a_segment_that_nobody_has_all_of_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disks with the rest are lost."""
    async with running(tmp_path, entries_max=3, monitor_interval_ms=20) as node:
        partition = await node.topic()
        for number in range(3):
            await put(partition, b"%d" % number)
        while partition.offset_map.last.sid == 1:
            await anyio.sleep(0.01)
        await put(partition, b"later")
        cut, whole = partition.log.get(1), vars(Segment)["durable_offset"].fget
        assert cut is not None
        durable = property(lambda segment: 2 if segment is cut else whole(segment))
        monkeypatch.setattr(Segment, "durable_offset", durable)
        data = await partition.read(0, size_max=64 * 1024)
        assert [header.base_offset for _, header in iter_headers(data)] == [0, 1]
        with pytest.raises(RequestError):
            await partition.read(2, size_max=64 * 1024)
        assert await partition.read(cut.end_offset, size_max=1)


async def test_a_watcher_is_told_of_every_commit(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        woken = anyio.Event()
        partition.watch(woken)
        await partition.append(batch(b"a"), acks=ACKS_NONE)
        with anyio.fail_after(10):
            await woken.wait()
        partition.unwatch(woken)
        assert partition.high_watermark == 1


async def test_many_appends_share_few_syncs(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"warm")
        syncs: list[str] = []
        node.backend.fs.on_operation = lambda name, _: syncs.append(name)
        last = [await partition.append(batch(b"x"), acks=ACKS_ALL) for _ in range(500)][-1]
        await partition.committed(last.end_offset, acks=ACKS_ALL, timeout_s=10)
        assert 1 <= syncs.count("sync") <= 2


@pytest.mark.parametrize("acks", [ACKS_ALL, ACKS_LEADER])
async def test_a_full_disk_refuses_writers_and_still_serves_readers(
    tmp_path: Path, acks: int
) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"safe")
        node.backend.fail_next("write", errno.ENOSPC, path=".log")
        appended = await partition.append(batch(b"lost"), acks=acks)
        with pytest.raises(StorageFailed):
            await partition.committed(appended.end_offset, acks=acks, timeout_s=10)
        with pytest.raises(StorageFailed):
            await partition.append(batch(b"more"), acks=acks)
        assert values(await read_all(partition)) == [b"safe"]
        assert not node.disk_failures


async def test_a_sealed_segment_without_room_for_its_index_stops_no_writes_to_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.replication.space.CHECK_S", 0.02)
    async with running(tmp_path, entries_max=1, monitor_interval_ms=20) as node:
        partition = await node.topic()
        node.backend.fail_next("write", errno.ENOSPC, path=".index")
        await put(partition, b"sealed")
        with anyio.fail_after(20):
            while node.backend.fs.faults:
                await anyio.sleep(0.01)
            while True:
                try:
                    await put(partition, b"after")
                except StorageFailed:
                    await anyio.sleep(0.01)  # As long as the disk counts as full.
                else:
                    break
        assert values(await read_all(partition)) == [b"sealed", b"after"]


async def test_a_failed_sync_acknowledges_nothing_and_is_not_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"safe")
        node.backend.fail_next("sync", errno.EIO, path=".log")
        appended = await partition.append(batch(b"unknown"), acks=ACKS_ALL)
        with pytest.raises(StorageFailed):
            await partition.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=10)
        assert partition.high_watermark == 1
        assert [failure.errno for failure in node.disk_failures] == [errno.EIO]


async def test_waiting_too_long_for_the_disk_is_an_unknown_outcome(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"a")
        with pytest.raises(OutcomeUnknown):
            await partition.committed(99, acks=ACKS_ALL, timeout_s=0)


async def test_bad_batches_are_told_apart_and_append_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic(max_message_bytes="500")
        good = batch(b"x")
        flipped = bytearray(good)
        flipped[-1] ^= 1
        old_magic = bytearray(good)
        old_magic[16] = 1
        control = batch(b"x")
        control[22] |= 0x20
        refusals: list[tuple[bytes | bytearray, type[RequestError]]] = [
            (flipped, CorruptBatch),
            (old_magic, CorruptBatch),
            (good[:-1], CorruptBatch),
            (good[:60], CorruptBatch),
            (b"", CorruptBatch),
            (good + good, InvalidRecord),
            (batch(b"x" * 500), BatchTooLarge),
            (batch(b"x", timestamp_ms=1_700_000_000_000 + 2 * 3_600_000), InvalidTimestamp),
        ]
        for data, error in refusals:
            with pytest.raises(error):
                await partition.append(data, acks=ACKS_ALL)
        with pytest.raises((CorruptBatch, InvalidRecord)):
            await partition.append(control, acks=ACKS_ALL)
        assert partition.end_offset == 0


async def test_a_compacted_topic_takes_no_record_without_a_key(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic(cleanup_policy="compact")
        with pytest.raises(InvalidRecord):
            await partition.append(batch(b"x"), acks=ACKS_ALL)
        await put(partition, b"x", key=b"k")


async def test_log_append_time_stamps_the_brokers_clock_with_a_valid_crc(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic(message_timestamp_type="LogAppendTime")
        node.clock.wall_ms = 1_800_000_000_000
        appended = await put(partition, b"a", b"b", timestamp_ms=5)
        assert appended.log_append_time_ms == 1_800_000_000_000
        stored = await partition.read(0, size_max=1000)
        header = parse_header(stored)
        assert header.is_log_append_time
        assert header.max_timestamp == 1_800_000_000_000
        assert values(await read_all(partition)) == [b"a", b"b"]
        found = await partition.offset_for_timestamp(1_799_999_999_999)
        assert found is not None
        assert (found.offset, found.timestamp_ms) == (0, 1_800_000_000_000)


async def test_a_timestamp_is_found_exact_to_the_record_across_segments(tmp_path: Path) -> None:
    start_ms = 1_600_000_000_000
    async with running(tmp_path, entries_max=5, monitor_interval_ms=10) as node:
        partition = await node.topic()
        for number in range(10):
            await put(partition, b"a", b"b", b"c", timestamp_ms=start_ms + 1000 * number)
        await put(partition, b"last", timestamp_ms=start_ms + 20_000)
        assert len(partition.topic.segments) > 2
        for number in range(10):
            for delta in range(3):
                found = await partition.offset_for_timestamp(start_ms + 1000 * number + delta)
                assert found is not None
                assert found.offset == 3 * number + delta
                assert found.timestamp_ms == start_ms + 1000 * number + delta
        between = await partition.offset_for_timestamp(start_ms + 3)
        assert between is not None
        assert between.offset == 3
        assert await partition.offset_for_timestamp(start_ms + 999_999) is None
        newest = await partition.offset_of_max_timestamp()
        assert newest is not None
        assert newest.timestamp_ms == start_ms + 20_000


@pytest.mark.parametrize("stamps", ["CreateTime", "LogAppendTime"])
async def test_a_record_that_was_deleted_is_found_by_its_time(tmp_path: Path, stamps: str) -> None:
    """A consumer that is sent there is out of range, and goes on at the end: what is between is
    lost to it."""
    async with running(tmp_path) as node:
        partition = await node.topic(message_timestamp_type=stamps)
        await put(partition, b"a", b"b", b"c", timestamp_ms=node.clock.now_ms())
        await node.controller.delete_records(partition.topic, 2)
        partition = await node.topic()
        assert partition.log_start_offset == 2
        for found in (
            await partition.offset_for_timestamp(0),
            await partition.offset_of_max_timestamp(),
        ):
            assert found is not None and found.offset == 2


async def test_the_largest_timestamp_is_that_of_a_record_that_was_deleted(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        records = [(9_000, b"a"), (5_000, b"b"), (7_000, b"c"), (6_000, b"d")]
        data = build(
            [
                Record(index, timestamp_ms, None, value, ())
                for index, (timestamp_ms, value) in enumerate(records)
            ],
            base_timestamp=0,
        )
        await partition.append(data, acks=ACKS_ALL)
        await partition.drained()
        await node.controller.delete_records(partition.topic, 1)
        found = await (await node.topic()).offset_of_max_timestamp()
        assert found is not None and (found.offset, found.timestamp_ms) == (2, 7_000)


async def test_the_largest_timestamp_is_found_though_it_is_not_the_last(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        assert await partition.offset_of_max_timestamp() is None
        await put(partition, b"a", b"b", timestamp_ms=9_000_000)
        await put(partition, b"c", timestamp_ms=5)
        found = await partition.offset_of_max_timestamp()
        assert found is not None
        assert (found.offset, found.timestamp_ms) == (1, 9_000_001)


async def test_epochs_of_this_leader_pass_and_others_are_told_apart(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await node.topic()
        disk = node.backend.kill_clone()
    async with running(tmp_path, disk, entries_max=1, monitor_interval_ms=10) as node:
        partition = await node.topic()
        first = partition.leader_epoch
        await put(partition, b"x")
        with anyio.fail_after(10):
            while partition.leader_epoch == first:
                await anyio.sleep(0.01)
        for epoch in (-1, first, partition.leader_epoch):
            partition.check_epoch(epoch)
        with pytest.raises(FencedLeaderEpoch):
            partition.check_epoch(first - 1)
        with pytest.raises(UnknownLeaderEpoch):
            partition.check_epoch(partition.leader_epoch + 1)


async def test_deleting_a_topic_frees_its_name_and_ends_those_who_wait(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"x")
        old_id = partition.topic.topic_id
        await node.controller.delete_topic(old_id)
        with pytest.raises(UnknownTopicId):
            await partition.committed(99, acks=ACKS_ALL, timeout_s=10)
        with pytest.raises(NotLeader):
            await partition.append(batch(b"y"), acks=ACKS_ALL)
        with pytest.raises(UnknownTopicId):
            node.controller.topic_by_id(old_id)
        again = await node.topic()
        assert again.topic.topic_id != old_id
        assert again.high_watermark == 0
        assert await read_all(again) == []


async def test_a_reader_of_a_topic_whose_files_are_gone_is_sent_away(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"x")
        await node.controller.delete_topic(partition.topic.topic_id)
        with anyio.fail_after(10):
            while partition.log.get(1) is not None:
                await anyio.sleep(0.001)
        with pytest.raises(NotLeader):
            await partition.read(0, size_max=1000)
