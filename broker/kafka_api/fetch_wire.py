"""The usual Fetch and its usual answer, without kio (pure).

The usual one asks for partition 0 of one topic, in no fetch session, for whatever there is, and
gets records. As in `produce_wire`, all others take the general way, and a test with random requests
holds these two functions equal to it.
"""

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Final
from uuid import UUID

from broker.kafka_api.fetch_sessions import EPOCH_FINAL, ID_VERSION_MIN, NO_SESSION
from broker.kafka_api.framing import BORROW_SIZE_MIN
from broker.kafka_api.produce_wire import NAME_SIZE_MAX
from broker.ports import Buffer, Reply

VERSION_MIN: Final = 10
"""The first that understands zstd: what it gets need not be looked through."""
RACK_MIN: Final = 11
FLEXIBLE_MIN: Final = 12
NO_REPLICA_MIN: Final = 15
"""The replica's id has become a tag."""

_REPLICA_SIZE: Final = 4
_HEAD: Final = Struct(">iiibii")
"""Wait, size at least, size at most, isolation, session id, session epoch."""
_NO_SESSION: Final = (NO_SESSION, EPOCH_FINAL)
_SIZE_MIN_MAX: Final = 1
"""Bytes: who waits for more may not be served at once."""
_NAME: Final = Struct(">ih")
_I32: Final = Struct(">i")
_FIXED: Final = Struct(">iiiqqii")
"""Number of partitions, index, leader epoch, offset, log start, size at most; number of topics that
a session is to forget."""
_NO_RACK: Final = bytes(2)
_FLEXIBLE: Final = Struct(">iiqiqi")
"""Index, leader epoch, offset, epoch of the last record, log start, size at most."""
_FLEXIBLE_END: Final = bytes((0, 0, 1, 1, 0))
"""No tags of partition and topic, nothing to forget, an empty rack, no tags."""
_ID_SIZE: Final = 16
_NO_ID: Final = bytes(_ID_SIZE)

READ_COMMITTED: Final = 1


@dataclass(slots=True)
class Asked:
    """What the usual Fetch says."""

    version: int
    topic: bytes
    """Name or id, as it came."""
    leader_epoch: int
    offset: int
    size_max: int
    """Bytes, of the request and of the partition."""
    is_committed: bool
    """Only records of committed transactions are to be read."""

    @property
    def topic_id(self) -> UUID | None:
        return UUID(bytes=self.topic) if self.version >= ID_VERSION_MIN else None


def read(frame: memoryview, position: int, version: int) -> Asked | None:
    """The request whose body starts at `position`; None if it is not the usual one."""
    if version < VERSION_MIN:
        return None
    try:
        if version < NO_REPLICA_MIN:
            position += _REPLICA_SIZE
        _, size_min, size_max, isolation, *session = _HEAD.unpack_from(frame, position)
        if tuple(session) != _NO_SESSION or size_min > _SIZE_MIN_MAX:
            return None
        position += _HEAD.size
        if version < FLEXIBLE_MIN:
            asked = _read_fixed(frame, position, version)
        else:
            asked = _read_flexible(frame, position, version)
    except (StructError, IndexError):
        return None  # Whatever is wrong with it, the general way says so.
    if asked is not None:
        asked.size_max = max(min(asked.size_max, size_max), 0)
        asked.is_committed = isolation == READ_COMMITTED
    return asked


def _read_fixed(frame: memoryview, position: int, version: int) -> Asked | None:
    topic_count, name_size = _NAME.unpack_from(frame, position)
    start = position + _NAME.size
    end = start + name_size
    partition_count, index, epoch, offset, _, size_max, forgotten = _FIXED.unpack_from(frame, end)
    if (topic_count, partition_count, index, forgotten) != (1, 1, 0, 0) or name_size < 0:
        return None
    if bytes(frame[end + _FIXED.size :]) != (_NO_RACK if version >= RACK_MIN else b""):
        return None
    return Asked(version, bytes(frame[start:end]), epoch, offset, size_max, is_committed=False)


def _read_flexible(frame: memoryview, position: int, version: int) -> Asked | None:
    if version >= ID_VERSION_MIN:
        start, end = position + 1, position + 1 + _ID_SIZE
    else:
        start = position + 2
        end = start + frame[position + 1] - 1
        if not start <= end < start + NAME_SIZE_MAX:
            return None
    topic = bytes(frame[start:end])
    if frame[position] != 2 or frame[end] != 2 or topic == _NO_ID:
        return None
    index, epoch, offset, _, _, size_max = _FLEXIBLE.unpack_from(frame, end + 1)
    if index != 0 or bytes(frame[end + 1 + _FLEXIBLE.size :]) != _FLEXIBLE_END:
        return None
    return Asked(version, topic, epoch, offset, size_max, is_committed=False)


_PREFIX: Final = Struct(">ii")
"""Size of the reply, correlation id."""
_MARKS: Final = Struct(">qqq")
"""High watermark, last stable offset, log start."""
_NOBODY: Final = b"\xff\xff\xff\xff"
"""No preferred replica."""


def answer(
    asked: Asked,
    correlation_id: int,
    *,
    high_watermark: int,
    log_start_offset: int,
    records: Buffer,
) -> Reply:
    """The framed answer that brings `records`."""
    before, middle, after = _around(asked.version, asked.topic, asked.is_committed)
    size = len(records)
    count = _I32.pack(size) if asked.version < FLEXIBLE_MIN else _uvarint(size + 1)
    marks = _MARKS.pack(high_watermark, high_watermark, log_start_offset)
    whole = len(before) + len(marks) + len(middle) + len(count) + size + len(after)
    head = _PREFIX.pack(_I32.size + whole, correlation_id) + before + marks + middle + count
    if size < BORROW_SIZE_MIN:
        return (head + records + after,)
    return (head, records, after) if after else (head, records)


@lru_cache(maxsize=4096)
def _around(version: int, topic: bytes, is_committed: bool) -> tuple[bytes, bytes, bytes]:
    """What is the same in all answers: before the marks, between them and the size of the records,
    and at the end."""
    top = bytes(10)  # no throttling, no error, no session
    partition = bytes(6)  # index 0, no error
    if version >= FLEXIBLE_MIN:
        name = topic if version >= ID_VERSION_MIN else bytes((len(topic) + 1,)) + topic
        before = b"\0" + top + b"\2" + name + b"\2" + partition
        return before, (b"\1" if is_committed else b"\0") + _NOBODY, bytes(3)
    before = top + _NAME.pack(1, len(topic)) + topic + _I32.pack(1) + partition
    aborted = _I32.pack(0 if is_committed else -1)
    return before, aborted + (_NOBODY if version >= RACK_MIN else b""), b""


def _uvarint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
