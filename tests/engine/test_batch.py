"""A batch that another program wrote must be understood, and one that was damaged must not."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import (
    HEADER_SIZE,
    SEQUENCE_MAX,
    CorruptBatchError,
    Record,
    build,
    build_pairs,
    check_batch,
    checked_batches,
    iter_headers,
    iter_records,
    parse_extent,
    parse_header,
    patch,
    placed_at,
    stamp_append_time,
)


def client_batch(*, transactional: bool = False, codec: int = 0) -> bytes:
    """What aiokafka's producer puts on the wire."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=1 if transactional else 0,
        producer_id=1000,
        producer_epoch=2,
        base_sequence=5,
        batch_size=10_000,
    )
    builder.append(0, 1_700_000_000_000, b"key", b"value", [("h", b"1"), ("n", None)])
    builder.append(1, 1_700_000_000_010, None, b"", [])
    builder.append(2, 1_700_000_000_005, b"", None, [])
    return bytes(builder.build())


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


def test_our_batch_is_what_a_real_client_would_have_written() -> None:
    records = [
        Record(0, 0, b"key", b"value", (("h", b"1"), ("n", None))),
        Record(1, 10, None, b""),
        Record(2, 5, b"", None),
    ]
    ours = build(
        records,
        base_timestamp=1_700_000_000_000,
        leader_epoch=0,
        producer_id=1000,
        producer_epoch=2,
        base_sequence=5,
    )
    theirs = client_batch()
    assert ours[16:] == theirs[16:], "all that the CRC covers, and the CRC"


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


_bytes = st.none() | st.binary(max_size=30)
_headers = st.lists(st.tuples(st.text(max_size=5), _bytes), max_size=3).map(tuple)


@given(
    st.lists(
        st.tuples(st.integers(-(2**40), 2**40), _bytes, _bytes, _headers), min_size=1, max_size=20
    )
)
def test_records_survive_a_round_trip(fields: list[tuple[int, bytes, bytes, tuple]]) -> None:  # type: ignore[type-arg]
    records = [Record(i, *rest) for i, rest in enumerate(fields)]
    batch = build(records, base_timestamp=2**41)
    header = parse_header(batch)
    check_batch(batch, header)
    assert list(iter_records(memoryview(batch)[HEADER_SIZE:], header.record_count)) == records
    assert header.max_timestamp == 2**41 + max(record.timestamp_delta for record in records)


_bytes_or_none = st.none() | st.binary(max_size=300)


@given(
    st.lists(st.tuples(_bytes_or_none, _bytes_or_none), min_size=1, max_size=200),
    st.integers(0, 2**41),
    st.sampled_from([(-1, -1, -1), (4000, 0, 0), (2**62, 7, SEQUENCE_MAX)]),
)
def test_the_quick_way_to_build_a_batch_that_builds_another_one(
    pairs: list[tuple[bytes | None, bytes | None]], now_ms: int, name: tuple[int, int, int]
) -> None:
    producer_id, epoch, sequence = name
    records = [Record(index, 0, key, value) for index, (key, value) in enumerate(pairs)]
    expected = build(
        records,
        base_timestamp=now_ms,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )
    got = build_pairs(
        pairs,
        base_timestamp=now_ms,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )
    assert got == expected


def test_header_key_that_is_no_text_keeps_its_bytes() -> None:
    records = [Record(0, 0, None, None, ((b"\xff\xfe".decode("utf-8", "surrogateescape"), b""),))]
    batch = build(records, base_timestamp=0)
    assert b"\xff\xfe" in batch
    assert list(iter_records(batch[HEADER_SIZE:], 1)) == records


@given(st.binary(max_size=200), st.integers(-5, 50))
def test_garbage_records_raise_one_kind_of_error(payload: bytes, count: int) -> None:
    try:
        list(iter_records(payload, count))
    except CorruptBatchError:
        pass


def test_damaged_records_raise_one_kind_of_error() -> None:
    payload = client_batch()[HEADER_SIZE:]
    for position in range(len(payload)):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            damaged = bytearray(payload)
            damaged[position] = value
            try:
                list(iter_records(damaged, 3))
            except CorruptBatchError:
                pass


def test_compressor_sees_the_records_and_nothing_else() -> None:
    records = [Record(0, 0, b"k", b"v")]
    plain = build(records, base_timestamp=0)
    packed = build(records, base_timestamp=0, codec=4, compress=lambda data: data[::-1])
    assert packed[HEADER_SIZE:] == plain[HEADER_SIZE:][::-1]
    check_batch(packed, parse_header(packed))
    assert parse_header(packed).codec == 4


@pytest.mark.parametrize("records", [[], [Record(1, 0, None, None)]])
def test_batch_without_records_or_with_gaps_is_not_built(records: list[Record]) -> None:
    with pytest.raises(ValueError, match="offset deltas"):
        build(records, base_timestamp=0)
