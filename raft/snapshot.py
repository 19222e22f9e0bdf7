"""The state on disk, as of one raft index.

    file   := magic(8) version(u32) chunk*
    chunk  := size(u32) crc(u32) msgpack([kind, value])
    kinds  := "raft", then those of `state.parts`, then "end" with the number of chunks before it

The chunks come one by one, a topic each, so that writing a big state in another thread never holds
the interpreter for long. The same bytes go to a follower that is too far behind for the log.
Layout: docs/formats/metadata.md.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from crc32c import crc32c

from raft.commands import Uuid
from raft.disk import NEW, Disk
from raft.errors import REMEDY, CorruptSnapshotError
from raft.members import Members
from raft.pmap import PMap
from raft.state import Broker, Client, ClusterState, Topic, parts

SNAPSHOT_NAME = "snapshot"
FORMAT_VERSION = 1
CHUNK_SIZE_MAX = 64 * 1024 * 1024
SYNC_SIZE = 1024 * 1024
"""Bytes written between two syncs: one sync of everything would hold up the journal's own, on the
same disk."""

_MAGIC = b"WALRUSRS"
_HEADER = struct.Struct("<8sI")
_CHUNK = struct.Struct("<II")

_encode = msgspec.msgpack.Encoder().encode


class Snapshot(msgspec.Struct, frozen=True):
    """Everything the log said up to and including `index`."""

    index: int
    term: int
    members: Members
    state: ClusterState


def encode(snapshot: Snapshot) -> Iterator[bytes]:
    """The file, piece by piece."""
    yield _HEADER.pack(_MAGIC, FORMAT_VERSION)
    count = 0
    raft = ("raft", (snapshot.index, snapshot.term, snapshot.members))
    for kind, value in (raft, *parts(snapshot.state)):
        yield _chunk(kind, value)
        count += 1
    yield _chunk("end", count)


def decode(data: bytes, source: str) -> Snapshot:
    """Raises CorruptSnapshotError, naming `source`, for anything but a whole snapshot of a known
    version."""
    building = _Building()
    count = 0
    for position, kind, value in _chunks(data, source):
        try:
            if kind == "end":
                if msgspec.msgpack.decode(value, type=int) != count:
                    raise ValueError("chunks are missing")
                return building.snapshot()
            building.add(kind, value)
        except (ValueError, KeyError, msgspec.MsgspecError) as wrong:
            raise _corrupt(source, position, f"a chunk that makes no sense ({wrong})") from wrong
        count += 1
    raise _corrupt(source, len(data), "the end is missing")


def index_of(data: bytes, source: str) -> int:
    """Entry of this snapshot, read off its head alone. Raises CorruptSnapshotError."""
    for position, kind, value in _chunks(data, source):
        if kind == "raft":
            return msgspec.msgpack.decode(value, type=tuple[int, int, Members])[0]
        raise _corrupt(source, position, "it does not begin with its place in the log")
    raise _corrupt(source, len(data), "it is empty")


def write(disk: Disk, snapshot: Snapshot, name: str = SNAPSHOT_NAME) -> int:
    """Replace the snapshot on disk, durably. Answers its size in bytes. Raises OSError."""
    return store(disk, encode(snapshot), name)


def store(disk: Disk, chunks: Iterator[bytes], name: str = SNAPSHOT_NAME) -> int:
    """As `write`, for bytes that are encoded already."""
    file = disk.create(name + NEW)
    size = unsynced = 0
    try:
        for piece in _batches(chunks):
            file.append(piece)
            size += len(piece)
            unsynced += len(piece)
            if unsynced >= SYNC_SIZE:
                file.sync()
                unsynced = 0
        file.sync()
    finally:
        file.close()
    disk.replace(name + NEW, name)
    disk.sync_directory()
    return size


def load(disk: Disk, name: str = SNAPSHOT_NAME) -> Snapshot | None:
    """The snapshot on disk, None when there is none. Raises CorruptSnapshotError, OSError."""
    disk.remove(name + NEW)
    data = disk.read(name)
    return None if data is None else decode(data, disk.describe(name))


class _Building:
    """A snapshot while its chunks arrive."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._raft: tuple[int, int, Members] | None = None
        self._topics: list[Topic] = []
        self._clients: list[tuple[bytes, Client]] = []

    def add(self, kind: str, value: msgspec.Raw) -> None:
        """Raises KeyError for an unknown kind, msgspec.MsgspecError for a value that is not of its
        kind."""
        self._ADD[kind](self, value)

    def snapshot(self) -> Snapshot:
        """Raises ValueError if the chunk that says where in the log this is, is missing."""
        if self._raft is None:
            raise ValueError("it does not say where in the log it belongs")
        topics = PMap((topic.topic_id, topic) for topic in self._topics)
        names = PMap((topic.name, topic.topic_id) for topic in self._topics)
        state = ClusterState(
            topics=topics, names=names, clients=PMap(self._clients), **self._fields
        )
        return Snapshot(*self._raft, state)

    def _add_raft(self, value: msgspec.Raw) -> None:
        self._raft = msgspec.msgpack.decode(value, type=tuple[int, int, Members])

    def _add_head(self, value: msgspec.Raw) -> None:
        fields = ("cluster_id", "next_producer_id", "revision", "trail")
        decoded = msgspec.msgpack.decode(value, type=tuple[str, int, int, int])
        self._fields.update(zip(fields, decoded, strict=True))

    def _add_brokers(self, value: msgspec.Raw) -> None:
        brokers = msgspec.msgpack.decode(value, type=list[Broker])
        self._fields["brokers"] = PMap((broker.node, broker) for broker in brokers)

    def _add_deleted(self, value: msgspec.Raw) -> None:
        self._fields["deleted_topics"] = dict(
            msgspec.msgpack.decode(value, type=list[tuple[Uuid, str]])
        )

    def _add_groups(self, value: msgspec.Raw) -> None:
        groups = msgspec.msgpack.decode(value, type=list[tuple[str, dict[str, str]]])
        self._fields["group_configs"] = PMap(groups)

    def _add_client(self, value: msgspec.Raw) -> None:
        self._clients.append(msgspec.msgpack.decode(value, type=tuple[bytes, Client]))

    def _add_topic(self, value: msgspec.Raw) -> None:
        self._topics.append(_decode_topic(value))

    _ADD: dict[str, Callable[["_Building", msgspec.Raw], None]] = {
        "raft": _add_raft,
        "head": _add_head,
        "brokers": _add_brokers,
        "deleted": _add_deleted,
        "groups": _add_groups,
        "client": _add_client,
        "topic": _add_topic,
    }


_decode_topic = msgspec.msgpack.Decoder(Topic).decode
_decode_chunk = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw]).decode


def _chunk(kind: str, value: object) -> bytes:
    payload = _encode((kind, value))
    return _CHUNK.pack(len(payload), crc32c(payload)) + payload


def _batches(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Fewer, larger writes."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        if len(buffer) >= 64 * 1024:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _chunks(data: bytes, source: str) -> Iterator[tuple[int, str, msgspec.Raw]]:
    if len(data) < _HEADER.size or data[:8] != _MAGIC:
        raise _corrupt(source, 0, "the header is bad")
    version = _HEADER.unpack_from(data)[1]
    if version != FORMAT_VERSION:
        raise _corrupt(source, 8, f"format {version}, and this program reads {FORMAT_VERSION}")
    at = _HEADER.size
    view = memoryview(data)
    while at < len(data):
        if at + _CHUNK.size > len(data):
            raise _corrupt(source, at, "it ends in the middle of a chunk")
        size, crc = _CHUNK.unpack_from(data, at)
        payload = view[at + _CHUNK.size : at + _CHUNK.size + size]
        if size > CHUNK_SIZE_MAX or len(payload) != size or crc32c(payload) != crc:
            raise _corrupt(source, at, "a bad chunk")
        try:
            kind, value = _decode_chunk(payload)
        except msgspec.MsgspecError as wrong:
            raise _corrupt(source, at, f"a chunk that makes no sense ({wrong})") from wrong
        yield at, kind, value
        at += _CHUNK.size + size


def _corrupt(source: str, position: int, text: str) -> CorruptSnapshotError:
    return CorruptSnapshotError(
        f"{source}, position {position}: {text}. The metadata snapshot was damaged after it was"
        f" written. {REMEDY}"
    )
