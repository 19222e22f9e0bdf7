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
in a file or buffer, a *size* counts bytes, a *count* counts things. Nothing here looks past
the header; who must finds the records by `records.py`.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import partial
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

HEADER = struct.Struct(">qiibIhiqqqhii")
"""The fields of `BatchHeader`, in their order."""
_EXTENT = struct.Struct(">qi4xb6xi")
_PLACE = struct.Struct(">q4xi")
_BASE_OFFSET = struct.Struct(">q")
_LEADER_EPOCH = struct.Struct(">i")
_MAX_TIMESTAMP = struct.Struct(">q")
_ATTRIBUTES = struct.Struct(">h")
CRC = struct.Struct(">I")
assert HEADER.size == HEADER_SIZE


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
        return as_header((base_offset, self[1], leader_epoch, *self[3:]))


Placed: TypeAlias = tuple[BatchHeader, Sequence[Buffer]]
"""A batch that has its place in the log: its header, and its bytes, the whole header in the first
buffer."""

as_header = partial(tuple.__new__, BatchHeader)
"""From all thirteen fields. `_make` and `_replace` do the same in three Python calls."""


def parse_header(buf: Buffer, position: Position = 0) -> BatchHeader:
    """The header at `position`. Its body may be missing, see `check_batch`.

    Raises CorruptBatchError for fewer than 61 bytes, another magic, or a length below a header's.
    """
    if len(buf) - position < HEADER_SIZE:
        raise CorruptBatchError(
            f"{len(buf) - position} bytes are less than a {HEADER_SIZE}-byte header"
        )
    header = as_header(HEADER.unpack_from(buf, position))
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
    _BASE_OFFSET.pack_into(buf, 0, base_offset)
    _LEADER_EPOCH.pack_into(buf, LENGTH_END, leader_epoch)


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
    _ATTRIBUTES.pack_into(buf, CRC_START, header.attributes | APPEND_TIME_BIT)
    _MAX_TIMESTAMP.pack_into(buf, 35, timestamp_ms)
    CRC.pack_into(buf, CRC_POSITION, crc32c(memoryview(buf)[CRC_START : header.size]))
