"""RecordBatch v2: the entry that travels, is stored and is served, byte for byte (pure).

Layout (big endian; source: Kafka's message format documentation, KIP-98):

    position  size  field
           0     8  base_offset          ┐ rewritten by the broker,
           8     4  batch_length         │ outside the CRC
          12     4  leader_epoch         │
          16     1  magic = 2            ┘
          17     4  crc                  CRC-32C of everything from byte 21 on
          21     2  attributes           bits 0-2 codec, 3 LogAppendTime, 4 transactional, 5 control
          23     4  last_offset_delta
          27     8  base_timestamp       milliseconds since 1970
          35     8  max_timestamp
          43     8  producer_id          -1: none
          51     2  producer_epoch
          53     4  base_sequence
          57     4  record_count
          61     …  records              one after another, or compressed as a whole

A log file is such batches back to back. The five words of this package: an *offset* is Kafka's
logical number of a record, an *index* counts from the segment's base offset, a *position* is a byte
in a file or buffer, a *size* counts bytes, a *count* counts things. Nothing here compresses or
decompresses; nothing on the produce path looks past the header.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

from crc32c import crc32c

from engine.errors import CorruptBatchError as CorruptBatchError

Buffer: TypeAlias = bytes | bytearray | memoryview
Offset: TypeAlias = int
Position: TypeAlias = int
Size: TypeAlias = int

HEADER_SIZE: Size = 61
MAGIC = 2
CRC_POSITION: Position = 17
CRC_START: Position = 21
"""First byte that the CRC covers."""
LENGTH_END: Position = 12
"""`batch_length` counts the bytes after itself."""

SEQUENCE_MAX = 2**31 - 1
CODEC_MASK, APPEND_TIME_BIT, TRANSACTIONAL_BIT, CONTROL_BIT = 0x07, 0x08, 0x10, 0x20

_HEADER = struct.Struct(">qiibIhiqqqhii")
_EXTENT = struct.Struct(">qi4xb6xi")
_PLACE = struct.Struct(">q4xi")
_BODY_TIMES = struct.Struct(">q")
_U16 = struct.Struct(">h")
_U32 = struct.Struct(">I")
assert _HEADER.size == HEADER_SIZE


class BatchHeader(NamedTuple):
    """The 61 bytes before the records. A named tuple, because a frozen dataclass takes three times
    as long to build."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> Size:
        """Bytes of the whole batch, header included."""
        return LENGTH_END + self.batch_length

    @property
    def last_offset(self) -> Offset:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> Offset:
        """One past the last record."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def codec(self) -> int:
        """0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd; 5-7 are unassigned."""
        return self.attributes & CODEC_MASK

    @property
    def is_log_append_time(self) -> bool:
        return bool(self.attributes & APPEND_TIME_BIT)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record; sequences wrap from 2^31-1 to 0. -1 without a base
        sequence."""
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + self.last_offset_delta) & SEQUENCE_MAX

    def placed(self, base_offset: Offset, leader_epoch: int) -> "BatchHeader":
        """The header that `patch` with the same values leaves behind."""
        return _header((base_offset, self[1], leader_epoch, *self[3:]))


_header = partial(tuple.__new__, BatchHeader)
"""From all thirteen fields. `_make` and `_replace` do the same in three Python calls."""


def parse_header(buf: Buffer, position: Position = 0) -> BatchHeader:
    """The header at `position`. Its body may be missing, see `check_batch`.

    Raises CorruptBatchError for fewer than 61 bytes, another magic, or a length below a header's.
    """
    if len(buf) - position < HEADER_SIZE:
        raise CorruptBatchError(
            f"{len(buf) - position} bytes are less than a {HEADER_SIZE}-byte header"
        )
    header = _header(_HEADER.unpack_from(buf, position))
    if header.magic != MAGIC:
        raise CorruptBatchError(f"magic {header.magic} is not {MAGIC}")
    if header.batch_length < HEADER_SIZE - LENGTH_END:
        raise CorruptBatchError(f"batch length {header.batch_length} is too small for a header")
    return header


def parse_extent(buf: Buffer, position: Position = 0) -> tuple[Offset, Offset, Size]:
    """(base offset, offset after the last record, size) of the batch at `position`, which has its
    whole header there: all that walking a log needs, at a third of the cost of `parse_header`.

    Raises CorruptBatchError for another magic, or a length below a header's.
    """
    base_offset, length, magic, last_delta = _EXTENT.unpack_from(buf, position)
    if magic != MAGIC or length < HEADER_SIZE - LENGTH_END:
        raise CorruptBatchError(f"magic {magic} and batch length {length} are no batch header's")
    return base_offset, base_offset + last_delta + 1, LENGTH_END + length


def check_batch(buf: Buffer, header: BatchHeader, position: Position = 0) -> None:
    """Everything that can be checked without decompressing. `header` was parsed at `position`.

    Raises CorruptBatchError if the batch is not complete, its CRC does not hold, or its record
    count is not its offset span. Bytes after the batch are not looked at.
    """
    size = LENGTH_END + header.batch_length
    if len(buf) - position < size:
        raise CorruptBatchError(f"{len(buf) - position} bytes of a batch of {size}")
    if header.record_count < 1 or header.record_count != header.last_offset_delta + 1:
        raise CorruptBatchError(
            f"{header.record_count} records up to offset delta {header.last_offset_delta}"
        )
    crc = crc32c(memoryview(buf)[position + CRC_START : position + size])
    if crc != header.crc:
        raise CorruptBatchError(f"CRC-32C is {crc:#010x}, the header says {header.crc:#010x}")


def iter_headers(buf: Buffer, position: Position = 0) -> Iterator[tuple[Position, BatchHeader]]:
    """Walk the complete batches of `buf` from `position` on, as (position, header). A partial one
    at the end is left out.

    Raises CorruptBatchError at bytes that are no header.
    """
    size = len(buf)
    while size - position >= HEADER_SIZE:
        header = parse_header(buf, position)
        if position + header.size > size:
            return
        yield position, header
        position += header.size


def checked_batches(buf: Buffer) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Walk the complete batches of `buf`, each checked when its turn comes, as (header, its bytes).

    Raises CorruptBatchError as `iter_headers` and `check_batch` do.
    """
    view = memoryview(buf)
    for position, header in iter_headers(buf):
        batch = view[position : position + header.size]
        check_batch(batch, header)
        yield header, batch


def patch(buf: bytearray | memoryview, *, base_offset: Offset, leader_epoch: int) -> None:
    """Give the batch at the start of `buf` its place in the log, in place. The CRC covers neither
    field."""
    struct.pack_into(">q", buf, 0, base_offset)
    struct.pack_into(">i", buf, 12, leader_epoch)


def placed_at(buf: Buffer) -> tuple[Offset, int]:
    """(base_offset, leader_epoch) as the bytes have them: the pair of `patch`, for assertions."""
    base_offset, leader_epoch = _PLACE.unpack_from(buf)
    return base_offset, leader_epoch


def stamp_append_time(buf: bytearray | memoryview, timestamp_ms: int) -> None:
    """Make the batch at the start of `buf` a LogAppendTime batch: max timestamp, attribute bit 3,
    and a new CRC.

    As Kafka does, the records keep their own deltas: a reader of such a batch takes max_timestamp
    for all.
    """
    header = parse_header(buf)
    _U16.pack_into(buf, CRC_START, header.attributes | APPEND_TIME_BIT)
    _BODY_TIMES.pack_into(buf, 35, timestamp_ms)
    _U32.pack_into(buf, CRC_POSITION, crc32c(memoryview(buf)[CRC_START : header.size]))


# ---- records: only for what the broker itself writes, or must look into ----------------------


class Record(NamedTuple):
    """One record of a batch. Timestamps are deltas to the batch's base timestamp, in
    milliseconds."""

    offset_delta: int
    timestamp_delta: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    """Keys that are not UTF-8 survive as surrogate escapes."""


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
    _HEADER.pack_into(
        batch, 0, base_offset, len(batch) - LENGTH_END, leader_epoch, MAGIC, 0,
        attributes | codec, len(records) - 1, base_timestamp,
        base_timestamp + max(record.timestamp_delta for record in records),
        producer_id, producer_epoch, base_sequence, len(records),
    )  # fmt: skip
    batch[HEADER_SIZE:] = payload
    _U32.pack_into(batch, CRC_POSITION, crc32c(memoryview(batch)[CRC_START:]))
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
        head = b"\0\0" + _encoded(index)  # attributes, timestamp delta, offset delta
        head += _NULL if key is None else _encoded(len(key)) + key
        if value is None:
            parts += (_encoded(len(head) + 2), head, _NULL, b"\0")
        else:
            head += _encoded(len(value))
            parts += (_encoded(len(head) + len(value) + 1), head, value, b"\0")
    count = len(pairs)
    batch = bytearray().join(parts)
    _HEADER.pack_into(
        batch, 0, 0, len(batch) - LENGTH_END, -1, MAGIC, 0, 0, count - 1, base_timestamp,
        base_timestamp, producer_id, producer_epoch, base_sequence, count,
    )  # fmt: skip
    _U32.pack_into(batch, CRC_POSITION, crc32c(memoryview(batch)[CRC_START:]))
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
    position = 0
    for _ in range(count):
        length, start = _varint(data, position)
        if length < 0 or start + length > len(data):
            raise CorruptBatchError(f"a record of {length} bytes at {position} leaves its batch")
        position = start + length
        yield _record(data, start, position)
    if position != len(data):
        raise CorruptBatchError(f"{len(data) - position} bytes after the last record")


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
    if position < len(data) and (number := data[position]) < 0x80:
        return (number >> 1) ^ -(number & 1), position + 1
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
