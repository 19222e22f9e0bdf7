"""What members of a classic group send, as bytes: for those that no client library would be.

Old, fixed-width versions: JoinGroup 2 (4 is written alike), SyncGroup, Heartbeat and LeaveGroup 0,
OffsetCommit 2.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from harness.wire import framed, string

OFFSET_COMMIT, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP, LIST_GROUPS = 8, 11, 12, 13, 14, 16

ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, UNKNOWN_MEMBER_ID, INVALID_SESSION_TIMEOUT = (
    22,
    23,
    25,
    26,
)
REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED, GROUP_MAX_SIZE_REACHED = 27, 79, 81


def join(
    group: str,
    member: str = "",
    *,
    protocol_type: str = "consumer",
    protocol: str = "range",
    metadata: bytes = b"",
    session_ms: int = 6_000,
) -> bytes:
    """JoinGroup 2, in which a new member gets its id at once, or 4, in which it must come again."""
    timeouts = struct.pack(">ii", session_ms, 6_000)
    protocols = (
        struct.pack(">i", 1) + string(protocol) + struct.pack(">i", len(metadata)) + metadata
    )
    return string(group) + timeouts + string(member) + string(protocol_type) + protocols


def subscription(topic: str) -> bytes:
    """Version 0 of what a consumer says when it joins: one topic, no user data."""
    return struct.pack(">hi", 0, 1) + string(topic) + struct.pack(">i", -1)


def heartbeat(group: str, generation: int, member: str) -> bytes:
    """Heartbeat 0."""
    return string(group) + struct.pack(">i", generation) + string(member)


def commit(group: str, generation: int, member: str, topic: str, offset: int) -> bytes:
    """OffsetCommit 2."""
    who = string(group) + struct.pack(">i", generation) + string(member)
    what = struct.pack(">iiq", 1, 0, offset) + string("")
    return who + struct.pack(">qi", -1, 1) + string(topic) + what


def leave(group: str, member: str) -> bytes:
    """LeaveGroup 0."""
    return string(group) + string(member)


def sync(group: str, generation: int, member: str, shares: Mapping[str, bytes]) -> bytes:
    """SyncGroup 0; only the leader brings shares."""
    who = string(group) + struct.pack(">i", generation) + string(member)
    dealt = b"".join(string(one) + framed(share) for one, share in shares.items())
    return who + struct.pack(">i", len(shares)) + dealt


@dataclass(frozen=True, slots=True)
class Joined:
    """An answer to JoinGroup 2."""

    error: int
    generation: int
    leader: str
    member: str


def parse_joined(body: bytes) -> Joined:
    """Without the members, whom only the leader is told."""
    error, generation = struct.unpack_from(">hi", body, 4)
    words, position = [], 10
    for _ in range(3):
        (size,) = struct.unpack_from(">h", body, position)
        words.append(body[position + 2 : position + 2 + size].decode())
        position += 2 + size
    return Joined(error, generation, words[1], words[2])


def first_error(body: bytes) -> int:
    """The error with which an answer to Heartbeat, SyncGroup or LeaveGroup 0 begins."""
    return int(struct.unpack_from(">h", body)[0])


def commit_error(body: bytes) -> int:
    """The error of the one partition in an answer to OffsetCommit 2."""
    return int(struct.unpack(">h", body[-2:])[0])
