"""On-disk names and constants of a segment, shared by reader and writer (pure). Drawn in
docs/formats/segment.md.

    <directory>/<topic, at most 200 characters>-<topic id, 32 hex digits>/<sid>/
        <base offset, 20 digits>.log         RecordBatches back to back
        <base offset, 20 digits>.index       Kafka's offset index, derived, written at seal
        <base offset, 20 digits>.timeindex   Kafka's time index, derived, written at seal
        meta                                 two slots of 4 KiB, see SegmentMeta
        head                                 opaque object of the owner, see pack_head
    <directory>/…/<sid>.window               what an emptied segment leaves, see pack_head

A directory being made is called `<name>.new`, one being deleted `<name>.deleted`, and one that was
damaged and is made anew `<sid>.damaged`; none of them is ever read as data.
"""

import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from crc32c import crc32c

from engine.errors import EngineError, FormatVersionError

META_NAME = "meta"
HEAD_NAME = "head"
WINDOW_SUFFIX = ".window"
NEW_SUFFIX = ".new"
DELETED_SUFFIX = ".deleted"
DAMAGED_SUFFIX = ".damaged"
TOPIC_CHARACTER_COUNT_MAX = 200
"""Of the topic's name, in its directory name: Linux allows 255 bytes, the id takes 33 and a suffix
8."""

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_TOPIC_DIRECTORY = re.compile(r"([a-zA-Z0-9._-]+)-([0-9a-f]{32})")
_SEGMENT_DIRECTORY = re.compile(r"[1-9][0-9]*|0")


class FormatError(EngineError):
    """A small file that fails its own checks."""


def log_name(base_offset: int) -> str:
    return f"{base_offset:020}.log"


def index_name(base_offset: int) -> str:
    return f"{base_offset:020}.index"


def time_index_name(base_offset: int) -> str:
    return f"{base_offset:020}.timeindex"


def topic_directory(name: str, topic_id: bytes) -> str:
    """Raises ValueError for a name that Kafka would not allow, or an id that is not 16 bytes."""
    if not _TOPIC_NAME.fullmatch(name) or len(topic_id) != 16:
        raise ValueError(f"no topic directory for {name!r} with an id of {len(topic_id)} bytes")
    return f"{name[:TOPIC_CHARACTER_COUNT_MAX]}-{topic_id.hex()}"


def parse_topic_directory(directory: str) -> tuple[str, bytes] | None:
    """(name, possibly cut to 200 characters, and id), or None if the directory is no topic's."""
    match = _TOPIC_DIRECTORY.fullmatch(directory)
    return None if match is None else (match[1], bytes.fromhex(match[2]))


def parse_segment_directory(directory: str) -> int | None:
    """The sid, or None if the directory is no segment's."""
    return int(directory) if _SEGMENT_DIRECTORY.fullmatch(directory) else None


def parse_window(name: str) -> int | None:
    """The sid, or None if the file is no window's."""
    return parse_segment_directory(name.removesuffix(WINDOW_SUFFIX)) if "." in name else None


# ---- meta: what a segment must remember besides its batches --------------------------------------


class SegmentEnd(NamedTuple):
    """Where a segment ends, in every unit that lets a copy be checked without parsing it."""

    end_offset: int
    size: int
    digest: int
    """CRC-32C chained over the 61-byte headers of its batches; 0 for none."""
    max_timestamp: int
    """-1 for an empty segment."""


class SegmentState(IntEnum):
    OPEN = 1
    SEALED = 2


META_VERSION = 1
META_SLOT_SIZE = 4096
META_SIZE = 2 * META_SLOT_SIZE
_META_MAGIC = b"WSEG"
_META = struct.Struct(">4sHQqBqqqqIqq")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentMeta:
    """The durable facts of one segment copy, other than its batches."""

    counter: int
    """Grows with every write; the valid slot with the larger counter is the truth."""
    promised_epoch: int
    """0: none. Appends are refused for ever once it is not 0."""
    state: SegmentState
    base_offset: int
    epoch: int
    sealed_end: int
    """This and the three below are -1, 0, 0, -1 until SEALED."""
    sealed_size: int
    digest: int
    max_timestamp: int
    ack_mark: int
    """A lower bound of the end offset that was both acknowledged and synced: recovery never goes
    below it."""

    @property
    def end(self) -> SegmentEnd:
        """Only of a sealed segment."""
        return SegmentEnd(self.sealed_end, self.sealed_size, self.digest, self.max_timestamp)


def new_meta(base_offset: int, epoch: int) -> SegmentMeta:
    return SegmentMeta(
        counter=0, promised_epoch=0, state=SegmentState.OPEN, base_offset=base_offset, epoch=epoch,
        sealed_end=-1, sealed_size=0, digest=0, max_timestamp=-1, ack_mark=base_offset,
    )  # fmt: skip


def pack_meta(meta: SegmentMeta) -> bytes:
    """One slot: the fields, zeros, and a CRC-32C in the last four bytes."""
    body = _META.pack(
        _META_MAGIC, META_VERSION, meta.counter, meta.promised_epoch, meta.state,
        meta.base_offset, meta.epoch, meta.sealed_end, meta.sealed_size, meta.digest,
        meta.max_timestamp, meta.ack_mark,
    ).ljust(META_SLOT_SIZE - 4, b"\0")  # fmt: skip
    return body + crc32c(body).to_bytes(4)


def unpack_meta(data: bytes) -> tuple[SegmentMeta, int]:
    """The newest valid slot of a meta file, and its number (0 or 1).

    Raises FormatVersionError if a valid slot is of a newer version, FormatError if neither slot is
    valid.
    """
    found: tuple[SegmentMeta, int] | None = None
    for slot in (0, 1):
        meta = _unpack_slot(data[slot * META_SLOT_SIZE : (slot + 1) * META_SLOT_SIZE])
        if meta is not None and (found is None or meta.counter > found[0].counter):
            found = (meta, slot)
    if found is None:
        raise FormatError("neither slot of the segment's meta file is valid")
    return found


def _unpack_slot(slot: bytes) -> SegmentMeta | None:
    if len(slot) != META_SLOT_SIZE or crc32c(slot[:-4]) != int.from_bytes(slot[-4:]):
        return None
    magic, version, *fields = _META.unpack_from(slot)
    if magic != _META_MAGIC:
        return None
    if version > META_VERSION:
        raise FormatVersionError("segment meta", version, META_VERSION)
    counter, promised, state, base_offset, epoch, end, size, digest, timestamp, ack_mark = fields
    return SegmentMeta(
        counter=counter, promised_epoch=promised, state=SegmentState(state),
        base_offset=base_offset, epoch=epoch, sealed_end=end, sealed_size=size, digest=digest,
        max_timestamp=timestamp, ack_mark=ack_mark,
    )  # fmt: skip


# ---- head: the owner's object at the start of a segment
# -------------------------------------------

HEAD_VERSION = 2
HEAD_SIZE_MAX = 64 * 1024 * 1024
_HEAD_MAGIC = b"WHED"
_HEAD = struct.Struct(">4sHII")
_HEAD_CRC_AT = _HEAD.size - 4


def pack_head(content: bytes) -> bytes:
    """Magic, version, length, and the CRC-32C of these and of `content`, which follows. Raises
    ValueError above HEAD_SIZE_MAX."""
    if len(content) > HEAD_SIZE_MAX:
        raise ValueError(f"a segment head of {len(content)} bytes is above {HEAD_SIZE_MAX}")
    begin = _HEAD.pack(_HEAD_MAGIC, HEAD_VERSION, len(content), 0)[:_HEAD_CRC_AT]
    return begin + crc32c(content, crc32c(begin)).to_bytes(4) + content


def unpack_head(data: bytes) -> bytes:
    """The content. Raises FormatError for damage, FormatVersionError for a newer version."""
    if len(data) < _HEAD.size:
        raise FormatError(f"a segment head of {len(data)} bytes is cut short")
    magic, version, length, crc = _HEAD.unpack_from(data)
    content = data[_HEAD.size :]
    if magic != _HEAD_MAGIC or version == 0:
        raise FormatError("the segment head does not start as one")
    # Version 1 did not cover its own number. Later ones do: else damage would look like the future.
    before = 0 if version == 1 else crc32c(data[:_HEAD_CRC_AT])
    if len(content) != length or crc32c(content, before) != crc:
        raise FormatError("the segment head fails its checksum")
    if version > HEAD_VERSION:
        raise FormatVersionError("segment head", version, HEAD_VERSION)
    return content
