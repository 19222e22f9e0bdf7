"""The records inside a batch, only for what the broker itself writes, or must look into.

Layout of one (Kafka protocol guide, "Record"); every number is a zigzag varint, a length of -1 is
null, timestamps and offsets are deltas to those of the batch:

    size │ attributes (1 byte, 0) │ timestamp │ offset │ key length, key │ value length, value
         │ header count │ then, a header: name length, name │ value length, value
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from crc32c import crc32c

from engine.batch import (
    CRC,
    CRC_POSITION,
    CRC_START,
    HEADER,
    HEADER_SIZE,
    LENGTH_END,
    MAGIC,
    Buffer,
    CorruptBatchError,
    Offset,
    Position,
)


class Record(NamedTuple):
    """One record of a batch. Timestamps are deltas to the batch's base timestamp, in
    milliseconds."""

    offset_delta: int
    timestamp_delta: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    """Keys that are not UTF-8 survive as surrogate escapes."""


_as_record = partial(tuple.__new__, Record)
"""From all five fields."""


def build(
    records: Sequence[Record],
    *,
    base_timestamp: int,
    base_offset: Offset = 0,
    leader_epoch: int = -1,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    attributes: int = 0,
    codec: int = 0,
    compress: Callable[[bytes], bytes] | None = None,
) -> bytearray:
    """Encode a batch. Offset deltas must be 0, 1, 2, …; `compress` must be given exactly if `codec`
    is not 0.

    Raises ValueError for an empty list or deltas that leave a gap.
    """
    if not records or any(record.offset_delta != i for i, record in enumerate(records)):
        raise ValueError("a batch needs at least one record and offset deltas 0, 1, 2, …")
    if (codec != 0) != (compress is not None):
        raise ValueError(f"codec {codec} and its compressor go together")
    payload = bytes(_encode_records(records))
    if compress is not None:
        payload = compress(payload)
    batch = bytearray(HEADER_SIZE + len(payload))
    HEADER.pack_into(
        batch, 0, base_offset, len(batch) - LENGTH_END, leader_epoch, MAGIC, 0,
        attributes | codec, len(records) - 1, base_timestamp,
        base_timestamp + max(record.timestamp_delta for record in records),
        producer_id, producer_epoch, base_sequence, len(records),
    )  # fmt: skip
    batch[HEADER_SIZE:] = payload
    CRC.pack_into(batch, CRC_POSITION, crc32c(memoryview(batch)[CRC_START:]))
    return batch


def build_pairs(
    pairs: Sequence[tuple[bytes | None, bytes | None]],
    *,
    base_timestamp: int,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> bytearray:
    """`build` of records of which each is a key and a value, for what the broker writes at every
    request: a third of the work. The pairs must not be empty."""
    parts: list[bytes] = [_NO_HEADER]
    for index, (key, value) in enumerate(pairs):
        head = _own_head(index) if key is None else _head(index) + _encoded(len(key)) + key
        if value is None:
            parts += (_encoded(len(head) + 2), head, _NULL, b"\0")
        else:
            head += _encoded(len(value))
            parts += (_encoded(len(head) + len(value) + 1), head, value, b"\0")
    count = len(pairs)
    batch = bytearray().join(parts)
    HEADER.pack_into(
        batch, 0, 0, len(batch) - LENGTH_END, -1, MAGIC, 0, 0, count - 1, base_timestamp,
        base_timestamp, producer_id, producer_epoch, base_sequence, count,
    )  # fmt: skip
    CRC.pack_into(batch, CRC_POSITION, crc32c(memoryview(batch)[CRC_START:]))
    return batch


_NO_HEADER = bytes(HEADER_SIZE)
_NULL = b"\1"  # zigzag of -1


@lru_cache(maxsize=4096)
def _encoded(value: int) -> bytes:
    out = bytearray()
    _put_varint(out, value)
    return bytes(out)


def _encode_records(records: Iterable[Record]) -> bytearray:
    out = bytearray()
    for record in records:
        body = bytearray(b"\x00")  # record attributes: unused by Kafka
        _put_varint(body, record.timestamp_delta)
        _put_varint(body, record.offset_delta)
        _put_bytes(body, record.key)
        _put_bytes(body, record.value)
        _put_varint(body, len(record.headers))
        for key, value in record.headers:
            _put_bytes(body, key.encode("utf-8", "surrogateescape"))
            _put_bytes(body, value)
        _put_varint(out, len(body))
        out += body
    return out


def _put_varint(out: bytearray, value: int) -> None:
    number = (value << 1) ^ (value >> 63)
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _put_bytes(out: bytearray, value: bytes | None) -> None:
    if value is None:
        out.append(1)  # zigzag of -1
    else:
        _put_varint(out, len(value))
        out += value


def iter_records(payload: Buffer, count: int) -> Iterator[Record]:
    """Decode a records section that is already decompressed: exactly `count` records and nothing
    after them.

    Raises CorruptBatchError on anything else; never reads past `payload`, never allocates beyond
    its size.
    """
    data = bytes(payload)
    position = length = 0
    said = b""  # How the length of the record before it is written; most are as long.
    for index in range(count):
        start = position + len(said)
        if not said or data[position:start] != said:
            length, start = _varint(data, position)
            said = data[position:start]
        if length < 0 or start + length > len(data):
            raise CorruptBatchError(f"a record of {length} bytes at {position} leaves its batch")
        position = start + length
        yield _own_record(data, start, position, index) or _record(data, start, position)
    if position != len(data):
        raise CorruptBatchError(f"{len(data) - position} bytes after the last record")


def _own_record(data: bytes, position: Position, end: Position, index: int) -> Record | None:
    """`_record` of the one that PUT writes as the `index`-th of its batch, if its value's length
    takes a byte or two. None for any other."""
    head = _own_head(index)
    start = position + len(head)
    size = end - start - 2
    if size > 0x3F:
        size -= 1  # Its length has a second byte.
    first = end - 1 - size
    if size < 0 or data[position:start] != head or data[start:first] != _encoded(size):
        return None
    if data[end - 1]:
        return None  # It has headers.
    return _as_record((index, 0, None, data[first : end - 1], ()))


@lru_cache(maxsize=4096)
def _own_head(index: int) -> bytes:
    """Of a record without a key, up to its value."""
    return _head(index) + _NULL


def _head(index: int) -> bytes:
    """Of a record of this moment: attributes, timestamp delta, offset delta."""
    return b"\0\0" + _encoded(index)


def _record(data: bytes, position: Position, end: Position) -> Record:
    timestamp_delta, position = _varint(data, position + 1, bits=64)
    offset_delta, position = _varint(data, position)
    key, position = _bytes(data, position, end)
    value, position = _bytes(data, position, end)
    header_count, position = _varint(data, position)
    if not 0 <= header_count <= (end - position) // 2:
        raise CorruptBatchError(f"{header_count} record headers in {end - position} bytes")
    headers = []
    for _ in range(header_count):
        name, position = _bytes(data, position, end)
        if name is None:
            raise CorruptBatchError("a record header without a key")
        header_value, position = _bytes(data, position, end)
        headers.append((name.decode("utf-8", "surrogateescape"), header_value))
    if position != end:
        raise CorruptBatchError(f"a record's fields end at {position}, its length says {end}")
    return Record(offset_delta, timestamp_delta, key, value, tuple(headers))


def _varint(data: bytes, position: Position, bits: int = 32) -> tuple[int, Position]:
    """Zigzag varint of at most `bits` bits; (value, position after it)."""
    if position + 1 < len(data):  # Most take a byte or two.
        number = data[position]
        if number < 0x80:
            return (number >> 1) ^ -(number & 1), position + 1
        if (second := data[position + 1]) < 0x80:
            number = number & 0x7F | second << 7
            return (number >> 1) ^ -(number & 1), position + 2
    number = shift = 0
    while True:
        if position >= len(data) or shift >= bits:
            raise CorruptBatchError(f"a number at {position} does not end")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if number >> bits:
        raise CorruptBatchError(f"a number before {position} does not fit in {bits} bits")
    return (number >> 1) ^ -(number & 1), position


def _bytes(data: bytes, position: Position, end: Position) -> tuple[bytes | None, Position]:
    length, position = _varint(data, position)
    if length == -1:
        return None, position
    if length < 0 or position + length > end:
        raise CorruptBatchError(f"a field of {length} bytes at {position} leaves its record")
    return data[position : position + length], position + length
