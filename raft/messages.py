"""What members say to each other (pure): typed msgpack, and nothing that could be executed.

Whoever sends has been authenticated by the connection; these limits are against bugs, not only
against strangers. `term` is always the sender's, except in a pre-vote, where it is the term the
sender would like to have."""

import msgspec

from raft.members import MemberChange

MESSAGE_SIZE_MAX = 2 * 1024 * 1024
"""Bytes of an encoded message."""
BATCH_SIZE = 256 * 1024
"""Bytes of commands in one Append, or of snapshot in one Chunk. At least one command goes along,
whatever its size."""


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Root of the messages. Fields are only ever appended."""


class Append(Message, frozen=True, tag="append"):
    """Entries, or none: then it is a heartbeat."""

    term: int
    prev_index: int
    prev_term: int
    commit_index: int
    entries: tuple[tuple[int, bytes], ...]
    """(term, command), from `prev_index` + 1 on."""
    check: tuple[int, int] | None = None
    """(index, trail) of the leader's state, for whoever has the same index to compare."""


class AppendReply(Message, frozen=True, tag="append_reply"):
    term: int
    ok: bool
    index: int
    """ok: everything up to here is the leader's, and durable. Otherwise: from here on it should
    send again."""


class Vote(Message, frozen=True, tag="vote"):
    term: int
    last_index: int
    last_term: int
    is_pre: bool
    """Would you vote for me? Binds nobody, and spares a cluster elections that cannot be won."""
    is_transfer: bool
    """The leader itself asked for this election."""


class VoteReply(Message, frozen=True, tag="vote_reply"):
    term: int
    is_pre: bool
    granted: bool


class Chunk(Message, frozen=True, tag="chunk"):
    """A piece of the snapshot of entry `index`."""

    term: int
    index: int
    position: int
    size: int
    """Of the whole snapshot."""
    data: bytes


class ChunkReply(Message, frozen=True, tag="chunk_reply"):
    term: int
    index: int
    position: int
    """How much of it is here: what to send next begins there."""
    installed: bool


class TimeoutNow(Message, frozen=True, tag="timeout_now"):
    """The leader's wish that the receiver takes over."""

    term: int


class Forward(Message, frozen=True, tag="forward"):
    """Commands for the leader's log. No reply: the log itself is the answer, and a lost one is sent
    again."""

    commands: tuple[bytes, ...]


class MemberRequest(Message, frozen=True, tag="member_request"):
    """Repeated until it is fulfilled; whoever does not lead says nothing."""

    change: MemberChange


class MemberReply(Message, frozen=True, tag="member_reply"):
    """`change` is committed. Whoever left does not see that in the log any more."""

    change: MemberChange


AnyMessage = (
    Append
    | AppendReply
    | Vote
    | VoteReply
    | Chunk
    | ChunkReply
    | TimeoutNow
    | Forward
    | MemberRequest
    | MemberReply
)

encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def decode(data: bytes) -> AnyMessage:
    """Raises msgspec.MsgspecError for anything that is no message of reasonable size and values."""
    if len(data) > MESSAGE_SIZE_MAX:
        raise msgspec.ValidationError(f"message of {len(data)} bytes")
    try:
        message: AnyMessage = _decoder.decode(data)
    except UnicodeDecodeError as wrong:  # msgspec lets this one through as it is
        raise msgspec.DecodeError(str(wrong)) from wrong
    numbers = [value for value in msgspec.structs.astuple(message) if isinstance(value, int)]
    if any(not 0 <= number < 2**62 for number in numbers):
        raise msgspec.ValidationError("a number out of range")
    return message
