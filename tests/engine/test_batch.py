"""A batch that another program wrote must be understood, and one that was damaged must not."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from engine.batch import (
    HEADER_SIZE,
    SEQUENCE_MAX,
    CorruptBatchError,
    check_batch,
    checked_batches,
    iter_headers,
    parse_extent,
    parse_header,
    patch,
    placed_at,
    stamp_append_time,
)
from engine.records import Record, build, iter_records
from tests.engine.support import client_batch


def test_batch_of_a_real_client_is_read() -> None:
    batch = client_batch()
    header = parse_header(batch)
    check_batch(batch, header)
    assert header.size == len(batch)
    assert (header.base_offset, header.last_offset, header.next_offset) == (0, 2, 3)
    assert (header.base_timestamp, header.max_timestamp) == (1_700_000_000_000, 1_700_000_000_010)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (1000, 2, 5)
    assert header.last_sequence == 7
    assert (header.codec, header.is_transactional, header.is_control) == (0, False, False)
    assert list(iter_records(memoryview(batch)[HEADER_SIZE:], 3)) == [
        Record(0, 0, b"key", b"value", (("h", b"1"), ("n", None))),
        Record(1, 10, None, b""),
        Record(2, 5, b"", None),
    ]


def test_extent_is_what_the_header_says() -> None:
    batch = bytearray(client_batch())
    patch(batch, base_offset=77, leader_epoch=1)
    assert parse_extent(b"xx" + batch, 2) == (77, 80, len(batch))
    for position, value in ((16, 1), (11, 48), (8, 0xFF)):
        damaged = bytearray(batch)
        damaged[8:11] = bytes(3)
        damaged[position] = value
        with pytest.raises(CorruptBatchError):
            parse_extent(damaged)


def test_attributes_of_a_transactional_compressed_batch() -> None:
    header = parse_header(client_batch(transactional=True, codec=1))
    assert header.is_transactional
    assert header.codec == 1


def test_every_flipped_byte_under_the_crc_is_caught() -> None:
    batch = client_batch()
    for position in range(16, len(batch)):
        for mask in (0x01, 0x80):
            damaged = bytearray(batch)
            damaged[position] ^= mask
            with pytest.raises(CorruptBatchError):
                check_batch(damaged, parse_header(damaged))


def test_every_cut_is_caught() -> None:
    batch = client_batch()
    for size in range(len(batch)):
        with pytest.raises(CorruptBatchError):
            check_batch(batch[:size], parse_header(batch[:size]))


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 48])
def test_length_that_cannot_hold_a_header(length: int) -> None:
    batch = bytearray(client_batch())
    batch[8:12] = length.to_bytes(4, signed=True)
    with pytest.raises(CorruptBatchError, match="length"):
        parse_header(batch)


@pytest.mark.parametrize("count", [-1, 0, 2, 4])
def test_record_count_that_is_not_the_offset_span(count: int) -> None:
    batch = bytearray(client_batch())
    batch[57:61] = count.to_bytes(4, signed=True)
    stamp_append_time(batch, 0)  # a correct CRC again
    with pytest.raises(CorruptBatchError, match="records"):
        check_batch(batch, parse_header(batch))


def test_placing_a_batch_leaves_its_crc_alone() -> None:
    batch = bytearray(client_batch())
    before = parse_header(batch)
    patch(batch, base_offset=2**40, leader_epoch=9)
    after = parse_header(batch)
    check_batch(batch, after)
    assert after == before.placed(2**40, 9)
    assert placed_at(batch) == (2**40, 9)


def test_append_time_is_seen_by_a_real_client() -> None:
    batch = bytearray(client_batch())
    stamp_append_time(batch, 1_800_000_000_000)
    header = parse_header(batch)
    check_batch(batch, header)
    assert header.is_log_append_time
    theirs = DefaultRecordBatch(batch)
    assert theirs.validate_crc()
    assert {record.timestamp for record in theirs} == {1_800_000_000_000}


def test_walk_stops_before_a_partial_batch_and_at_garbage() -> None:
    batch = client_batch()
    data = batch * 3
    assert [position for position, _ in iter_headers(data)] == [0, len(batch), 2 * len(batch)]
    assert [position for position, _ in iter_headers(data[:-1], len(batch))] == [len(batch)]
    with pytest.raises(CorruptBatchError):
        list(iter_headers(batch + bytes(HEADER_SIZE)))


def test_what_stands_before_a_damaged_batch_is_told_and_the_damage_is_not() -> None:
    batch = client_batch()
    damaged = bytearray(batch * 3)
    damaged[-1] ^= 1
    walk = checked_batches(damaged[:-1])
    assert [bytes(each) for _, each in walk] == [batch, batch]
    walk = checked_batches(damaged)
    assert [bytes(next(walk)[1]) for _ in range(2)] == [batch, batch]
    with pytest.raises(CorruptBatchError, match="CRC"):
        next(walk)


def test_sequence_wraps_inside_a_batch() -> None:
    batch = build(
        [Record(i, 0, None, b"") for i in range(3)], base_timestamp=0, base_sequence=SEQUENCE_MAX
    )
    assert parse_header(batch).last_sequence == 1
