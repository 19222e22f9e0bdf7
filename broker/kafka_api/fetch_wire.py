"""The usual Fetch and its usual answer, without kio (pure).

The usual one asks for partition 0 of one topic or of several, for whatever there is, and gets
records or nothing: in no fetch session, or in one that goes on. As in `produce_wire`, all others
take the general way, and a test with random requests holds these two functions equal to it.
"""

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple
from uuid import UUID

from broker.kafka_api.fetch_sessions import EPOCH_FINAL, ID_VERSION_MIN, NO_SESSION, Asked
from broker.kafka_api.framing import BORROW_SIZE_MIN
from broker.kafka_api.produce_wire import NAME_SIZE_MAX
from broker.ports import Buffer, Reply, Sendable

VERSION_MIN: Final = 10
"""The first that understands zstd: what it gets need not be looked through."""
RACK_MIN: Final = 11
FLEXIBLE_MIN: Final = 12
NO_REPLICA_MIN: Final = 15
"""The replica's id has become a tag."""

TOPIC_COUNT_MAX: Final = 64
"""Of one request. They are read in one turn of the loop."""

_REPLICA_SIZE: Final = 4
_HEAD: Final = Struct(">iiibii")
"""Wait, size at least, size at most, isolation, session id, session epoch."""
_SIZE_MIN_MAX: Final = 1
"""Bytes: who waits for more may not be served at once."""
_I16: Final = Struct(">h")
_I32: Final = Struct(">i")
_FIXED: Final = Struct(">iiiqqi")
"""Number of partitions, index, leader epoch, offset, log start, size at most."""
_FIXED_END: Final = bytes(4)
"""Nothing to forget."""
_FIXED_END_RACK: Final = bytes(6)
"""The same, and an empty rack."""
_FLEXIBLE: Final = Struct(">iiqiqi")
"""Index, leader epoch, offset, epoch of the last record, log start, size at most."""
_FLEXIBLE_END: Final = bytes((1, 1, 0))
"""Nothing to forget, an empty rack, no tags."""
_ID_SIZE: Final = 16
_NO_ID: Final = bytes(_ID_SIZE)

READ_COMMITTED: Final = 1


class Usual(NamedTuple):
    """What the usual Fetch says."""

    version: int
    wait_ms: int
    size_min: int
    size_max: int
    """Bytes of the whole answer."""
    is_committed: bool
    """Only records of committed transactions are to be read."""
    session_id: int
    epoch: int
    """Of the session: EPOCH_FINAL for none, else greater than 0."""
    named: tuple[Asked, ...]


def read(frame: memoryview, position: int, version: int) -> Usual | None:
    """The request whose body starts at `position`; None if it is not the usual one."""
    if version < VERSION_MIN:
        return None
    try:
        if version < NO_REPLICA_MIN:
            position += _REPLICA_SIZE
        head = _HEAD.unpack_from(frame, position)
        wait_ms, size_min, size_max, isolation, session_id, epoch = head
        is_alone = session_id == NO_SESSION and epoch == EPOCH_FINAL
        if size_min > _SIZE_MIN_MAX or not (is_alone or epoch > 0):
            return None
        read_topics = _read_fixed if version < FLEXIBLE_MIN else _read_flexible
        named = read_topics(frame, position + _HEAD.size, version)
    except (StructError, IndexError, ValueError):
        return None  # Whatever is wrong with it, the general way says so.
    if named is None:
        return None
    is_committed = isolation == READ_COMMITTED
    return Usual(
        version, wait_ms, size_min, size_max, is_committed, session_id, epoch, tuple(named)
    )


def _read_fixed(frame: memoryview, position: int, version: int) -> list[Asked] | None:
    (topic_count,) = _I32.unpack_from(frame, position)
    position += _I32.size
    if not 0 <= topic_count <= TOPIC_COUNT_MAX:
        return None
    named = []
    for _ in range(topic_count):
        (name_size,) = _I16.unpack_from(frame, position)
        start = position + _I16.size
        end = start + name_size
        partition_count, index, epoch, offset, _, size_max = _FIXED.unpack_from(frame, end)
        if name_size < 0 or partition_count != 1 or index:
            return None
        named.append(Asked(str(frame[start:end], "utf-8"), 0, epoch, offset, size_max))
        position = end + _FIXED.size
    end_wanted = _FIXED_END_RACK if version >= RACK_MIN else _FIXED_END
    return named if frame[position:] == end_wanted else None


def _read_flexible(frame: memoryview, position: int, version: int) -> list[Asked] | None:
    topic_count = frame[position] - 1
    position += 1
    if not 0 <= topic_count <= TOPIC_COUNT_MAX:
        return None
    named = []
    for _ in range(topic_count):
        topic: str | UUID
        if version >= ID_VERSION_MIN:
            end = position + _ID_SIZE
            topic_id = bytes(frame[position:end])
            if topic_id == _NO_ID:
                return None
            topic = _id_of(topic_id)
        else:
            start = position + 1
            end = start + frame[position] - 1
            if not start <= end < start + NAME_SIZE_MAX:
                return None
            topic = str(frame[start:end], "utf-8")
        index, epoch, offset, _, _, size_max = _FLEXIBLE.unpack_from(frame, end + 1)
        position = end + 1 + _FLEXIBLE.size
        # One partition; no tags, neither of it nor of the topic.
        if index or frame[end] != 2 or frame[position] or frame[position + 1]:
            return None
        named.append(Asked(topic, 0, epoch, offset, size_max))
        position += 2
    return named if frame[position:] == _FLEXIBLE_END else None


@lru_cache(maxsize=4096)
def _id_of(topic_id: bytes) -> UUID:
    """Always the same object for the same topic: what is looked up by it need not compare."""
    return UUID(bytes=topic_id)


class Row(NamedTuple):
    """What is told of one partition."""

    topic: str | UUID
    high_watermark: int
    log_start_offset: int
    records: Sendable


_PREFIX: Final = Struct(">ii")
"""Size of the reply, correlation id."""
_TOP: Final = Struct(">ihi")
"""No throttling, no error, the session."""
_MARKS: Final = Struct(">qqq")
"""High watermark, last stable offset, log start."""
_NOBODY: Final = b"\xff\xff\xff\xff"
"""No preferred replica."""


def answer(usual: Usual, correlation_id: int, rows: Sequence[Row]) -> Reply:
    """The framed answer of `rows`."""
    version, is_committed = usual.version, usual.is_committed
    is_flexible = version >= FLEXIBLE_MIN
    text = _TOP.pack(0, 0, usual.session_id)
    if is_flexible:
        text = b"\0" + text + _uvarint(len(rows) + 1)
    else:
        text += _I32.pack(len(rows))
    reply: list[Sendable] = []
    for topic, high_watermark, log_start_offset, records in rows:
        before, middle, after = _around(version, topic, is_committed)
        size = len(records)
        marks = _MARKS.pack(high_watermark, high_watermark, log_start_offset)
        text += before + marks + middle + (_uvarint(size + 1) if is_flexible else _I32.pack(size))
        if size < BORROW_SIZE_MIN and isinstance(records, Buffer):
            text = text + records + after
        else:
            reply += (text, records)
            text = after
    if is_flexible:
        text += b"\0"
    if text:
        reply.append(text)
    size = sum(map(len, reply))
    first = reply[0]
    assert isinstance(first, bytes)
    reply[0] = _PREFIX.pack(_I32.size + size, correlation_id) + first
    return reply


@lru_cache(maxsize=4096)
def _around(version: int, topic: str | UUID, is_committed: bool) -> tuple[bytes, bytes, bytes]:
    """What is the same in all answers about a topic: before the marks, between them and the size of
    the records, and at its end."""
    name = topic.encode() if isinstance(topic, str) else topic.bytes
    partition = bytes(6)  # index 0, no error
    if version >= FLEXIBLE_MIN:
        if version < ID_VERSION_MIN:
            name = _uvarint(len(name) + 1) + name
        return name + b"\2" + partition, (b"\1" if is_committed else b"\0") + _NOBODY, bytes(2)
    before = _I16.pack(len(name)) + name + _I32.pack(1) + partition
    aborted = _I32.pack(0 if is_committed else -1)
    return before, aborted + (_NOBODY if version >= RACK_MIN else b""), b""


def _uvarint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
