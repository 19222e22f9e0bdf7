"""Keys and values of the shards (pure). Drawn in docs/formats/state-log.md.

MessagePack arrays; fields are positional and only ever appended, new ones with a default.
"""

from dataclasses import dataclass
from uuid import UUID

import msgspec


class OffsetKey(msgspec.Struct, frozen=True, array_like=True, tag="offset"):
    """A position of a group in a topic."""

    group: str
    topic_id: bytes


class OffsetValue(msgspec.Struct, frozen=True, array_like=True):
    """`metadata` is the client's own; times are milliseconds since 1970."""

    offset: int
    leader_epoch: int
    """Of the record before the offset, as the client saw it; -1 if it did not say."""
    metadata: str
    commit_time_ms: int
    expire_time_ms: int = -1
    """When the client wants it forgotten (OffsetCommit before v5); -1: by the broker's rule."""


class GroupKey(msgspec.Struct, frozen=True, array_like=True, tag="group"):
    """A group that has, or had, members."""

    group: str


class MemberValue(msgspec.Struct, frozen=True, array_like=True):
    """A member as it was when its generation was settled."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    assignment: bytes


class GroupValue(msgspec.Struct, frozen=True, array_like=True):
    """A settled generation; without members, an empty group."""

    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    members: tuple[MemberValue, ...]
    state_time_ms: int = -1
    """Since when, in milliseconds since 1970."""


_key_decoder = msgspec.msgpack.Decoder(OffsetKey | GroupKey)
_offset_decoder = msgspec.msgpack.Decoder(OffsetValue)
_group_decoder = msgspec.msgpack.Decoder(GroupValue)

encode = msgspec.msgpack.encode


@dataclass(frozen=True, slots=True)
class LiveOffset:
    group: str
    topic_id: UUID
    value: OffsetValue


@dataclass(frozen=True, slots=True)
class LiveGroup:
    group: str
    value: GroupValue


def offset_key(group: str, topic_id: UUID) -> bytes:
    return encode(OffsetKey(group, topic_id.bytes))


def group_key(group: str) -> bytes:
    return encode(GroupKey(group))


def decode(key: bytes, value: bytes) -> LiveOffset | LiveGroup:
    """Raises ValueError for what this broker does not know."""
    decoded = _key_decoder.decode(key)
    if isinstance(decoded, OffsetKey):
        topic_id = UUID(bytes=decoded.topic_id)
        return LiveOffset(decoded.group, topic_id, _offset_decoder.decode(value))
    return LiveGroup(decoded.group, _group_decoder.decode(value))
