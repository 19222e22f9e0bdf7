"""What nodes say to each other about segments (pure).

Calls are questions with one answer; the follow stream is a conversation between a follower and a
writer about all segments that the one copies from the other, each known by a small handle. Fields
are positional MessagePack, only ever appended; record batches travel behind a message, as they are.
"""

from typing import TypeVar

import msgspec

from broker import errors
from broker.ports import Buffer


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Root of the messages; the tag is the first element."""


# ---- calls and their answers ---------------------------------------------------------------------


class SealAsk(Message, frozen=True, tag="seal"):
    """Promise to accept nothing more from this segment's writer, then say where your copy ends."""

    topic_id: bytes
    sid: int
    seal_epoch: int


class SealReply(Message, frozen=True, tag="sealed"):
    """`kind`: definite (the four ends hold), unknown (`why`), refused (`promised_epoch`), later
    (ask again: `why`)."""

    kind: str
    end_offset: int = -1
    size: int = -1
    digest: int = -1
    max_timestamp: int = -1
    promised_epoch: int = 0
    why: str = ""


class CopyAsk(Message, frozen=True, tag="copy"):
    """Bring your copy up to this end with bytes of `source`; answer when they are durable.

    Only under the promise to `seal_epoch`.
    """

    topic_id: bytes
    sid: int
    seal_epoch: int
    source: int
    end_offset: int
    size: int
    digest: int
    max_timestamp: int


class CopyReply(Message, frozen=True, tag="copied"):
    """`end_offset` is durable now; below what was asked if `why` says so."""

    end_offset: int
    why: str = ""


class ReadAsk(Message, frozen=True, tag="read"):
    """Whole batches of a segment from `offset` on, below `end_offset`; at least one."""

    topic_id: bytes
    sid: int
    offset: int
    size_max: int
    end_offset: int


class ReadReply(Message, frozen=True, tag="batches"):
    """The batches follow. `why` is set when there is no such copy here. `head` is the segment's
    header object, with the first of its batches."""

    why: str = ""
    head: bytes = b""


class WindowAsk(Message, frozen=True, tag="window?"):
    """To a holder of a sealed segment: the idempotence window as of its end."""

    topic_id: bytes
    sid: int


class WindowReply(Message, frozen=True, tag="window"):
    """`ProducerState.snapshot()`; `why` is set when it cannot be told here now."""

    why: str = ""
    window: bytes = b""


class UnfencedAsk(Message, frozen=True, tag="unfenced?"):
    """From the writer of an open segment to its replicas: has your copy promised to anybody that it
    takes nothing more of me?"""

    topic_id: bytes
    sid: int
    epoch: int


class UnfencedReply(Message, frozen=True, tag="unfenced"):
    """`why` is "" if it has not. Not `is_known`: ask again."""

    is_known: bool
    why: str = ""


class AppendAsk(Message, frozen=True, tag="append"):
    """To a topic's leader: append the batch behind this, and answer when it is committed.

    A batch that carries a producer id and sequence may be sent again; any other only once.
    """

    topic_id: bytes
    timeout_ms: int
    leader_epoch: int = -1
    """Since when, to the asker's knowledge, the asked node leads."""


class AppendReply(Message, frozen=True, tag="appended"):
    """`error` is the name of a class in `broker/errors.py`, "" for success."""

    error: str
    text: str = ""
    base_offset: int = -1
    end_offset: int = -1
    log_start_offset: int = -1
    log_append_time_ms: int = -1
    """-1 unless the topic stamps."""


class FetchAsk(Message, frozen=True, tag="fetch"):
    """To a topic's leader: `Partition.read`."""

    topic_id: bytes
    offset: int
    size_max: int


class FetchReply(Message, frozen=True, tag="fetched"):
    """The batches follow; `error` as in AppendReply."""

    error: str
    text: str = ""


class TakeAsk(Message, frozen=True, tag="take"):
    """To the node that keeps a topic's shared cursor: one native GET."""

    topic_id: bytes


class TakeReply(Message, frozen=True, tag="taken"):
    """The value follows if there is one; `error` as in AppendReply."""

    is_empty: bool
    error: str = ""
    text: str = ""


class SeenAsk(Message, frozen=True, tag="seen?"):
    """Answer when your view of the metadata has reached this revision."""

    revision: int


class SeenReply(Message, frozen=True, tag="seen"):
    """It has, and is here."""

    revision: int


class WrittenAsk(Message, frozen=True, tag="written?"):
    """What do you write?"""


class Written(msgspec.Struct, frozen=True, array_like=True):
    """One topic, as its writer knows it."""

    topic_id: bytes
    high_watermark: int
    lag: dict[int, int]
    """By follower: offsets that it does not have on its disk yet."""


class WrittenReply(Message, frozen=True, tag="written"):
    """All topics that the node writes."""

    topics: list[Written]


class ClockAsk(Message, frozen=True, tag="clock?"):
    """What does your wall clock show?"""


class ClockReply(Message, frozen=True, tag="clock"):
    """Milliseconds since 1970."""

    now_ms: int


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """`node` lives, as `incarnation`."""

    node: int
    incarnation: int


class HeartbeatReply(Message, frozen=True, tag="alive"):
    """`granted`: the lease is good for its time to live from when the heartbeat was sent."""

    granted: bool
    is_fenced: bool
    is_removed: bool = False
    """`node` was taken out of the cluster."""


# ---- the follow stream ---------------------------------------------------------------------------


class Follow(Message, frozen=True, tag="follow"):
    """Follower to writer: send me this segment from here on, under this handle."""

    handle: int
    topic_id: bytes
    sid: int
    epoch: int
    from_offset: int
    incarnation: int


class Unfollow(Message, frozen=True, tag="unfollow"):
    """Follower to writer: no more of this."""

    handle: int


class Acknowledge(Message, frozen=True, tag="ack"):
    """Follower to writer: everything below `end_offset` is durable here."""

    handle: int
    end_offset: int


class Head(Message, frozen=True, tag="head"):
    """Writer to follower, first: the segment's header object."""

    handle: int
    head: bytes


class Frames(Message, frozen=True, tag="frames"):
    """Writer to follower: whole batches follow, the first with base offset `base_offset`."""

    handle: int
    base_offset: int


class Refuse(Message, frozen=True, tag="refuse"):
    """Writer to follower: I am not, or no longer, the writer of that."""

    handle: int
    why: str


Call = (
    SealAsk
    | CopyAsk
    | ReadAsk
    | WindowAsk
    | UnfencedAsk
    | AppendAsk
    | FetchAsk
    | TakeAsk
    | SeenAsk
    | WrittenAsk
    | ClockAsk
    | Heartbeat
)
CallReply = (
    SealReply
    | CopyReply
    | ReadReply
    | WindowReply
    | UnfencedReply
    | AppendReply
    | FetchReply
    | TakeReply
    | SeenReply
    | WrittenReply
    | ClockReply
    | HeartbeatReply
)
ToWriter = Follow | Unfollow | Acknowledge
ToFollower = Head | Frames | Refuse

M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()
_call = msgspec.msgpack.Decoder(Call)
_reply = msgspec.msgpack.Decoder(CallReply)
_to_writer = msgspec.msgpack.Decoder(ToWriter)
_to_follower = msgspec.msgpack.Decoder(ToFollower)

PREFIX_SIZE = 4


_REFUSALS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.RequestError)
}


def raise_refusal(error: str, text: str) -> None:
    """Raise what another node has refused a request with; nothing for ""."""
    if error:
        raise _REFUSALS.get(error, errors.StorageFailed)(text)


def encode(message: Message, *batches: Buffer) -> list[Buffer]:
    """Size of the message, the message, and the batches behind it."""
    data = _encoder.encode(message)
    return [len(data).to_bytes(PREFIX_SIZE, "big") + data, *batches]


def decode_call(frame: memoryview) -> tuple[Call, memoryview]:
    """The message and what follows it. Raises ValueError for anything that is none."""
    data, rest = _split(frame)
    return _call.decode(data), rest


def decode_reply(frame: memoryview) -> tuple[CallReply, memoryview]:
    """As `decode_call`."""
    data, rest = _split(frame)
    return _reply.decode(data), rest


def decode_to_writer(frame: memoryview) -> ToWriter:
    """As `decode_call`."""
    message: ToWriter = _to_writer.decode(_split(frame)[0])
    return message


def decode_to_follower(frame: memoryview) -> tuple[ToFollower, memoryview]:
    """As `decode_call`."""
    data, rest = _split(frame)
    return _to_follower.decode(data), rest


def _split(frame: memoryview) -> tuple[memoryview, memoryview]:
    size = int.from_bytes(frame[:PREFIX_SIZE], "big")
    if len(frame) < PREFIX_SIZE + size:
        raise ValueError("the message is longer than its frame")
    return frame[PREFIX_SIZE : PREFIX_SIZE + size], frame[PREFIX_SIZE + size :]
