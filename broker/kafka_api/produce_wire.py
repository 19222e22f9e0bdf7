"""The usual Produce and its usual answer, without kio (pure).

The usual one brings one batch for partition 0 of one topic, in no transaction, and succeeds. All
others take the general way through `wire`, which is also what these two functions are held equal to
by a test with random requests. What they save is the larger part of a small request's cost.
"""

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Final

from broker.codecs import ZSTD
from broker.errors import FrameError
from broker.kafka_api.header import PREFIX_SIZE
from broker.kafka_api.skim import uvarint
from engine.batch import CODEC_MASK, HEADER_SIZE

FLEXIBLE_MIN: Final = 9
ZSTD_VERSION_MIN: Final = 7
CODEC_POSITION: Final = 22
"""Of the byte of a batch that names its codec."""

_ID_POSITION: Final = 4
"""Of the correlation id in a frame."""
_FIXED: Final = Struct(">hhiih")
"""Size of the transactional id, acks, timeout, number of topics, size of the first one's name."""
_FIXED_PARTITION: Final = Struct(">ii")
"""Number of partitions, index of the first."""
_COMPACT: Final = Struct(">Bhi")
"""Size of the transactional id, plus 1, acks, timeout."""
_I32: Final = Struct(">i")
NAME_SIZE_MAX: Final = 0x7F
"""Bytes, exclusive: what a length of one byte can say."""
_NO_TAGS_SIZE: Final = 3
"""Bytes after the records of a flexible request: the tags of partition, topic and request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the usual Produce says before its records: the same in each request of most clients."""

    version: int
    topic: str
    acks: int
    timeout_ms: int
    start: bytes
    """The bytes of the frame before the correlation id, which say which API this is."""
    head: bytes
    """Those behind it, the client id included."""
    end: int
    """Where in the frame they end."""


_shared: Final = lru_cache(maxsize=512)(Asked)
"""One for all connections that say the same, so that it is in the processor's cache. What a client
may call itself bounds it at 16 MiB."""


def read(frame: memoryview, position: int, version: int) -> tuple[Asked, memoryview] | None:
    """The request whose body starts at `position`, and its records, as a view into the frame; None
    if it is not the usual one."""
    try:
        asked = (_flexible_head if version >= FLEXIBLE_MIN else _fixed_head)(
            frame, position, version
        )
        records = None if asked is None else _records(frame, asked)
    except (StructError, IndexError, ValueError, FrameError):
        return None  # Whatever is wrong with it, the general way says so.
    return None if asked is None or records is None else (asked, records)


def is_again(frame: memoryview, last: Asked) -> bool:
    """Whether a request says the same as `last` before its records, but for its correlation id."""
    return frame[PREFIX_SIZE : last.end] == last.head and frame[:_ID_POSITION] == last.start


def read_again(frame: memoryview, last: Asked) -> tuple[int, memoryview] | None:
    """The correlation id and the records of a request of which that is so; None if it is not a
    usual one. What `read` finds, at a third of the cost."""
    try:
        records = _records(frame, last)
    except (StructError, IndexError, FrameError):
        return None
    return None if records is None else (_I32.unpack_from(frame, _ID_POSITION)[0], records)


def _records(frame: memoryview, asked: Asked) -> memoryview | None:
    """Those whose size stands behind what is asked, if they are all that is left."""
    if asked.version >= FLEXIBLE_MIN:
        return _flexible_records(frame, asked.end)
    (size,) = _I32.unpack_from(frame, asked.end)
    start = asked.end + _I32.size
    if size < HEADER_SIZE or start + size != len(frame):
        return None
    if asked.version < ZSTD_VERSION_MIN and frame[start + CODEC_POSITION] & CODEC_MASK == ZSTD:
        return None
    return frame[start:]


def _asked(
    frame: memoryview, version: int, topic: str, acks: int, timeout_ms: int, end: int
) -> Asked:
    start, head = bytes(frame[:_ID_POSITION]), bytes(frame[PREFIX_SIZE:end])
    return _shared(version, topic, acks, timeout_ms, start, head, end)


def _fixed_head(frame: memoryview, position: int, version: int) -> Asked | None:
    id_size, acks, timeout_ms, topic_count, name_size = _FIXED.unpack_from(frame, position)
    name_start = position + _FIXED.size
    name_end = name_start + name_size
    partition_count, index = _FIXED_PARTITION.unpack_from(frame, name_end)
    if (id_size, topic_count, partition_count, index) != (-1, 1, 1, 0) or name_size < 0:
        return None
    topic, end = str(frame[name_start:name_end], "utf-8"), name_end + _FIXED_PARTITION.size
    return _asked(frame, version, topic, acks, timeout_ms, end)


def _flexible_head(frame: memoryview, position: int, version: int) -> Asked | None:
    id_size, acks, timeout_ms = _COMPACT.unpack_from(frame, position)
    start = position + _COMPACT.size
    name_start = start + 2
    name_end = name_start + frame[start + 1] - 1
    if (
        id_size != 0
        or frame[start] != 2
        or not name_start <= name_end < name_start + NAME_SIZE_MAX
        or frame[name_end] != 2
    ):
        return None
    (index,) = _I32.unpack_from(frame, name_end + 1)
    if index != 0:
        return None
    topic, end = str(frame[name_start:name_end], "utf-8"), name_end + 1 + _I32.size
    return _asked(frame, version, topic, acks, timeout_ms, end)


def _flexible_records(frame: memoryview, position: int) -> memoryview | None:
    """Those whose size is at `position`, if nothing but empty tags stands behind them."""
    size, start = uvarint(frame, position)
    end = start + size - 1
    if size <= HEADER_SIZE or end + _NO_TAGS_SIZE != len(frame):
        return None
    return None if frame[end] or frame[end + 1] or frame[end + 2] else frame[start:end]


_PREFIX: Final = Struct(">ii")
"""Size of the reply, correlation id."""
_UP_TO_APPEND_TIME: Final = Struct(">qq")
_OFFSETS: Final = Struct(">qqq")
"""Base offset, append time, log start."""
LOG_START_MIN: Final = 5
ERRORS_MIN: Final = 8


def answer(
    topic: str,
    version: int,
    correlation_id: int,
    *,
    base_offset: int,
    log_append_time_ms: int,
    log_start_offset: int,
) -> bytes:
    """The framed answer to a request of `version` for `topic` that succeeded."""
    size, before, after = _around(topic, version)
    if version < LOG_START_MIN:
        offsets = _UP_TO_APPEND_TIME.pack(base_offset, log_append_time_ms)
    else:
        offsets = _OFFSETS.pack(base_offset, log_append_time_ms, log_start_offset)
    return _PREFIX.pack(size, correlation_id) + before + offsets + after


@lru_cache(maxsize=4096)
def _around(topic: str, version: int) -> tuple[int, bytes, bytes]:
    """The size of the reply, and what is the same in all of them, before and after the offsets."""
    name = topic.encode()
    partition = bytes(_I32.size + 2)  # index 0, no error
    if version >= FLEXIBLE_MIN:
        assert len(name) < NAME_SIZE_MAX, "`read` takes none that is longer"
        before = bytes((0, 2, len(name) + 1)) + name + b"\2" + partition
        # No record errors, no message, three times no tags, and the throttle time in between.
        after = b"\1\0\0\0" + bytes(_I32.size) + b"\0"
    else:
        before = b"\0\0\0\1" + len(name).to_bytes(2) + name + b"\0\0\0\1" + partition
        errors = bytes(_I32.size) + b"\xff\xff" if version >= ERRORS_MIN else b""
        after = errors + bytes(_I32.size)
    offsets = _UP_TO_APPEND_TIME if version < LOG_START_MIN else _OFFSETS
    return _I32.size + len(before) + offsets.size + len(after), before, after
