"""Records that another program wrote must be understood, and garbage must not."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import records
from engine.batch import HEADER_SIZE, SEQUENCE_MAX, CorruptBatchError, check_batch, parse_header
from engine.records import Record, build, build_pairs, iter_records
from tests.engine.support import client_batch


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


@given(
    st.tuples(
        st.sampled_from([0, 0, 0, -1, 1, 70]),
        st.one_of(st.integers(-2, 140), st.integers(8_190, 8_193)),
        st.one_of(st.none(), st.binary(max_size=3)),
        st.one_of(st.none(), st.integers(0, 200), st.sampled_from([8_190, 8_191, 8_192, 8_193])),
        st.sampled_from([(), (("name", b"value"),)]),
    ),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255)), max_size=2),
)
def test_the_quick_way_to_read_a_record_that_reads_another_one(
    fields: tuple[int, int, bytes | None, int | None, tuple[tuple[str, bytes], ...]],
    damages: list[tuple[int, int]],
) -> None:
    timestamp_delta, offset_delta, key, size, headers = fields
    value = None if size is None else bytes(size)
    data = bytearray(
        records._encode_records([Record(offset_delta, timestamp_delta, key, value, headers)])
    )
    _, start = records._varint(bytes(data), 0)
    for position, byte in damages:
        data[min(start + position, len(data) - 1)] = byte

    quick = records._own_record(bytes(data), start, len(data), offset_delta)

    if quick is not None:
        assert quick == records._record(bytes(data), start, len(data))
    elif not damages:
        assert (
            key is not None
            or value is None
            or headers
            or len(value) > 8_191
            or timestamp_delta != 0
        )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 0, 1]),
            st.sampled_from([None, None, b"k"]),
            st.sampled_from([None, 0, 3, 3, 3, 63, 64, 64]),
        ),
        max_size=90,
    ),
    st.lists(st.tuples(st.integers(0, 2**13), st.integers(0, 255)), max_size=1),
)
def test_records_that_are_as_long_as_those_before_them_are_read_as_if_each_were_alone(
    fields: list[tuple[int, bytes | None, int | None]], damages: list[tuple[int, int]]
) -> None:
    written = [
        Record(index, timestamp_delta, key, None if size is None else bytes(size))
        for index, (timestamp_delta, key, size) in enumerate(fields)
    ]
    data = records._encode_records(written)
    for position, byte in damages:
        if data:
            data[position % len(data)] = byte

    found, expected = _until_corrupt(iter_records(data, len(written))), list[Record]()
    position, is_whole = 0, True
    try:
        for _ in written:
            length, start = records._varint(bytes(data), position)
            if length < 0 or start + length > len(data):
                raise CorruptBatchError("too long")
            position = start + length
            expected.append(records._record(bytes(data), start, position))
        is_whole = position == len(data)
    except CorruptBatchError:
        is_whole = False

    assert found == (expected, is_whole)
    assert damages or found == (written, True)


def _until_corrupt(decoded: Iterator[Record]) -> tuple[list[Record], bool]:
    """What is decoded before an error, and whether there is none."""
    found: list[Record] = []
    try:
        found.extend(decoded)
    except CorruptBatchError:
        return found, False
    return found, True


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
