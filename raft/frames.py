"""The bytes of the journal: frames, and the records in them (pure).

    file   := header frame*
    header := magic(8) version(u32) generation(u32) crc(u32)
    frame  := size(u32) crc(u32) record*         size of the records together, in bytes
    record := HARD term vote | BASE index term | ENTRY index term command
            | TRUNCATE index | COMMIT index

The CRC of a frame covers the file's generation and the frame's position, so that neither stale
bytes nor bytes inside a command can pass for a frame. Byte order is little-endian. The layout is
drawn in docs/formats/metadata.md.
"""

import struct
from collections.abc import Iterator

from crc32c import crc32c

FORMAT_VERSION = 1
MAGIC = b"WALRUSRJ"
FRAME_SIZE_MAX = 16 * 1024 * 1024

HEADER = struct.Struct("<8sIII")
FRAME = struct.Struct("<II")
_SEED = struct.Struct("<IQI")

HARD, BASE, ENTRY, TRUNCATE, COMMIT = range(1, 6)
_HARD_HEAD = struct.Struct("<BQB")
_BASE_HEAD = struct.Struct("<BQQ")
_ENTRY_HEAD = struct.Struct("<BQQI")
_INDEX_HEAD = struct.Struct("<BQ")


def header(generation: int, version: int = FORMAT_VERSION) -> bytes:
    head = HEADER.pack(MAGIC, version, generation, 0)[:-4]
    return head + struct.pack("<I", crc32c(head))


def frame(generation: int, position: int, records: bytes) -> bytes:
    """The frame that holds `records`, for this position of a file of this generation."""
    return FRAME.pack(len(records), _crc(generation, position, records)) + records


def _crc(generation: int, position: int, records: bytes) -> int:
    return crc32c(records, crc32c(_SEED.pack(generation, position, len(records))))


def frame_at(data: bytes, position: int, generation: int) -> bytes | None:
    """The records of the frame at `position`; None when there is no good frame."""
    if position + FRAME.size > len(data):
        return None
    size, crc = FRAME.unpack_from(data, position)
    start = position + FRAME.size
    if not 0 < size <= min(FRAME_SIZE_MAX, len(data) - start):
        return None
    records = data[start : start + size]
    return records if _crc(generation, position, records) == crc else None


def good_frame_behind(data: bytes, bad: int, generation: int) -> int | None:
    """Where the first good frame behind the bad one begins, if there is one. Any position counts:
    the size field of the bad frame may be what is bad."""
    for position in range(bad + 1, len(data) - FRAME.size):
        if frame_at(data, position, generation) is not None:
            return position
    return None


# ---- records -------------------------------------------------------------------------------------


def hard_record(term: int, vote: str | None) -> bytes:
    voter = (vote or "").encode()
    return _HARD_HEAD.pack(HARD, term, len(voter)) + voter


def base_record(index: int, term: int) -> bytes:
    return _BASE_HEAD.pack(BASE, index, term)


def entry_record(command: bytes, index: int, term: int) -> bytes:
    return _ENTRY_HEAD.pack(ENTRY, index, term, len(command)) + command


def truncate_record(index: int) -> bytes:
    return _INDEX_HEAD.pack(TRUNCATE, index)


def commit_record(index: int) -> bytes:
    return _INDEX_HEAD.pack(COMMIT, index)


def records_of(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(kind, index, term, rest) of each record; fields a kind does not have are 0 or empty.

    Raises ValueError or struct.error for what is no record."""
    at = 0
    while at < len(data):
        kind = data[at]
        if kind == HARD:
            _, term, size = _HARD_HEAD.unpack_from(data, at)
            at += _HARD_HEAD.size + size
            yield kind, 0, term, data[at - size : at]
        elif kind == BASE:
            _, index, term = _BASE_HEAD.unpack_from(data, at)
            at += _BASE_HEAD.size
            yield kind, index, term, b""
        elif kind == ENTRY:
            _, index, term, size = _ENTRY_HEAD.unpack_from(data, at)
            at += _ENTRY_HEAD.size + size
            yield kind, index, term, data[at - size : at]
        elif kind in (TRUNCATE, COMMIT):
            _, index = _INDEX_HEAD.unpack_from(data, at)
            at += _INDEX_HEAD.size
            yield kind, index, 0, b""
        else:
            raise ValueError(f"record of unknown kind {kind}")
