"""The seams of the broker: what the two protocols ask of the log, and what a connection asks of a
protocol.

Everything here is an interface or a value; the implementations live one layer down each
(`controller`, `groups`, `net`). Offsets are Kafka offsets; sizes are bytes; `_ms` is milliseconds
since 1970 unless the name says otherwise.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

Buffer = bytes | bytearray | memoryview

ACKS_NONE, ACKS_LEADER, ACKS_ALL = 0, 1, -1


# ---- a connection and its protocol -------------------------------------------------------------


Reply = Sequence[Buffer]
"""The bytes of one reply, already framed, as the buffers that `sendmsg` will take. Empty: nothing
is sent."""

Finish = Callable[[], Awaitable[Reply]]
"""Stage 2 of a request: may wait (durability, long poll). Awaited in the order of the requests."""

Wake = Callable[[Exception | None], object]
"""Called once for somebody who waits without a task, perhaps at once: with None when what was
waited for has happened, else with what awaiting it would raise. It must not raise itself."""


class Pending:
    """Stage 2 of a request that no task waits for: it is settled by whatever it depends on.

    A fast way beside `Finish`, for the requests that come by the thousand.
    """

    __slots__ = ("is_ready", "on_ready")

    def __init__(self) -> None:
        self.is_ready = False
        self.on_ready: Callable[[], None] = _nobody

    def settle(self) -> None:
        """The reply can be taken from now on."""
        self.is_ready = True
        self.on_ready()

    def take(self) -> Reply:
        """The reply, once it is ready, in the order of the requests. Raises PeerError."""
        return ()


def _nobody() -> None:
    return


class Session(Protocol):
    """One connection's protocol state. `begin` runs for each frame in order, before the next frame
    is looked at."""

    def begin_now(self, frame: memoryview, *, is_alone: bool, is_next: bool) -> Pending | None:
        """Stage 1 of a frame for which nothing has to be waited for, if this is one.

        `is_alone`: probably no other request comes in this turn of the loop that could share what
        this one costs. `is_next`: nothing that came before it is owed, so a reply that is ready
        when this returns leaves at once. None: nothing has happened, `begin` it. Raises PeerError.
        """

    async def begin(self, frame: memoryview) -> Finish:
        """Stage 1: fix the order of every effect. Raises PeerError to close the connection.

        `frame` has no length prefix and is valid until the returned `Finish` has been awaited.
        """

    def frame_refused(self, size: int) -> Reply:
        """What to say before closing, when the length prefix announces `size` bytes, beyond the
        limit."""


class Memory(Protocol):
    """The bytes that all connections together may hold; `net.Budget` in production."""

    def has_room(self, size: int) -> bool:
        """Whether `reserve` would not wait: a reply that leaves at once may be made."""

    def reserve(self, size: int) -> AbstractAsyncContextManager[None]:
        """Make a reply of about `size` bytes inside of this, in its turn.

        Waits while replies being made or unsent occupy their share. What is made must reach the
        connection without awaiting anything more, for there it is charged.
        """


# ---- the log, as the protocols see it ----------------------------------------------------------


class Clock(Protocol):
    """The only clock anybody may read."""

    def now_ms(self) -> int:
        """Wall time. May jump; used for timestamps and retention only."""

    def monotonic(self) -> float:
        """Seconds that never go back, suspend included."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A live node as one listener's clients should dial it."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class SegmentView:
    """One link of a topic's chain."""

    sid: int
    base_offset: int
    end_offset: int | None
    """One past the last offset; None while the segment is open."""
    writer: int
    leader_epoch: int
    size: int | None
    """Bytes, once sealed."""


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic as the replicated metadata knows it at one moment."""

    name: str
    topic_id: UUID
    leader_id: int
    """-1 while the last segment is being sealed."""
    leader_epoch: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    offline: tuple[int, ...]
    is_internal: bool
    replication_factor: int
    configs: Mapping[str, str]
    """Only what was set for this topic; defaults are in `controller/topic_config.py`."""
    log_start_offset: int
    segments: tuple[SegmentView, ...]


@dataclass(frozen=True, slots=True)
class StoredLog:
    """What this node's disk holds of one topic."""

    topic: str
    size: int
    """Bytes of records."""
    offset_lag: int
    """Offsets that this copy lacks of what is known to be committed."""


@dataclass(frozen=True, slots=True)
class LogDir:
    """The directory in which this node keeps its logs."""

    path: str
    size: int
    free_size: int
    """Bytes of the file system, and of it what is free for us; -1 when they cannot be told."""
    logs: tuple[StoredLog, ...]


class Appended(NamedTuple):
    """Where a batch went. A named tuple, as it is made for every Produce."""

    base_offset: int
    end_offset: int
    """One past the batch's last offset: wait for the high watermark to reach it."""
    log_append_time_ms: int
    """-1 unless the topic stamps LogAppendTime."""
    log_start_offset: int
    is_duplicate: bool = False


@dataclass(frozen=True, slots=True)
class TimestampedOffset:
    """An answer of a lookup by time."""

    offset: int
    timestamp_ms: int
    leader_epoch: int


class Waiter(Protocol):
    """Something with `set()`: an `anyio.Event` will do."""

    def set(self) -> None: ...


class Readable(Protocol):
    """What a fetch needs of a partition: the leader's, or the sealed copies of another node."""

    @property
    def log_start_offset(self) -> int: ...

    @property
    def high_watermark(self) -> int: ...

    def check_epoch(self, leader_epoch: int) -> None: ...

    def preferred_reader(self, offset: int) -> int:
        """A live replica that holds what this node would have to ask for; -1 where there is no need
        or nobody (KIP-392)."""

    async def read(self, offset: int, *, size_max: int) -> Buffer: ...


class AnyPartition(Protocol):
    """Partition 0 of one topic, wherever it is led."""

    @property
    def topic(self) -> TopicView: ...

    @property
    def log_start_offset(self) -> int: ...

    @property
    def high_watermark(self) -> int:
        """One past the last offset that consumers may see. Never goes back."""

    async def append(self, batch: Buffer, *, acks: int) -> Appended: ...

    async def committed(self, end_offset: int, *, acks: int, timeout_s: float) -> None: ...

    async def read(self, offset: int, *, size_max: int) -> Buffer: ...


class Partition(AnyPartition, Protocol):
    """Partition 0 of one topic on the node that leads it."""

    @property
    def leader_epoch(self) -> int: ...

    def check_epoch(self, leader_epoch: int) -> None:
        """-1 passes. Raises FencedLeaderEpoch or UnknownLeaderEpoch."""

    async def append(self, batch: Buffer, *, acks: int) -> Appended:
        """Check one RecordBatch v2, give it its offsets, and queue it for the disk.

        Order is fixed when this returns; durability is not (see `committed`). Raises NotLeader,
        CorruptBatch, InvalidRecord, BatchTooLarge, InvalidTimestamp, OutOfOrderSequence,
        DuplicateSequence, FencedProducer, NotEnoughReplicas, StorageFailed. A duplicate inside the
        window is no error: `is_duplicate` is True and the offsets are those of the original.
        """

    async def committed(self, end_offset: int, *, acks: int, timeout_s: float) -> None:
        """Wait until everything below `end_offset` is as safe as `acks` asks.

        Raises OutcomeUnknown when `timeout_s` has passed or the segment was sealed below it,
        StorageFailed.
        """

    async def confirmed(self) -> None:
        """Wait until it is certain that no other node had taken over when this was called: what is
        the newest here after that was nowhere newer before it.

        Raises NotLeader, StorageFailed.
        """

    async def read(self, offset: int, *, size_max: int) -> Buffer:
        """Whole batches below the high watermark, the first being the one that contains `offset`.

        At most `size_max` bytes, but always at least one batch if there is one. b"" at the high
        watermark. Raises OffsetOutOfRange below the log start or beyond the log end.
        """

    def preferred_reader(self, offset: int) -> int:
        """See `Readable`."""

    def watch(self, waiter: Waiter) -> None:
        """Call `waiter.set()` whenever the high watermark moves or leadership is lost, until
        `unwatch`."""

    def unwatch(self, waiter: Waiter) -> None: ...

    async def offset_for_timestamp(self, timestamp_ms: int) -> TimestampedOffset | None:
        """The first record whose timestamp is `timestamp_ms` or later, exact to the record; None if
        there is none."""

    async def offset_of_max_timestamp(self) -> TimestampedOffset | None:
        """The record with the largest timestamp (KIP-734); None for an empty log."""


class QuickPartition(Partition, Protocol):
    """A partition that one may read, and write to, without a task."""

    def read_now(self, offset: int, *, size_max: int) -> Buffer | None:
        """What `read` returns, if that is something and nothing has to be waited for; else None."""

    def append_now(
        self, batch: bytearray | memoryview, *, acks: int, is_alone: bool = False
    ) -> Appended | None:
        """`append` if it has to wait for nothing; None, and nothing has happened, if it had to.

        Takes the batch over, which can be written: the offsets go into it. `is_alone`: hand it to
        the disk at once; otherwise that happens at the end of the turn, with all that came in it.
        """

    def when_committed(
        self,
        end_offset: int,
        wake: Wake,
        *,
        acks: int,
        timeout_s: float,
    ) -> None:
        """`committed` without a task. `acks` is not 0."""


class Controller(Protocol):
    """Topics, nodes and leadership: the replicated metadata, seen and changed from this node."""

    @property
    def node_id(self) -> int: ...

    @property
    def cluster_id(self) -> str: ...

    def brokers(self, listener: str, *, lately: bool = False) -> tuple[BrokerAddress, ...]:
        """Live nodes with the address their listener of that name advertises; with `lately` those,
        too, that lived until a moment ago."""

    def topics(self) -> Sequence[TopicView]: ...

    def topic(self, name: str) -> TopicView:
        """Raises UnknownTopic."""

    def topic_by_id(self, topic_id: UUID) -> TopicView:
        """Raises UnknownTopicId."""

    async def create_topic(
        self,
        name: str,
        *,
        configs: Mapping[str, str],
        replication_factor: int = -1,
        validate_only: bool = False,
    ) -> TopicView:
        """Visible here when this returns. Raises InvalidTopic, InvalidConfig, TopicExists."""

    async def delete_topic(self, topic_id: UUID) -> None:
        """Raises UnknownTopicId. The name is free when this returns."""

    def partition(self, topic: TopicView) -> Partition:
        """Raises NotLeader when another node, or no node yet, leads it, and UnknownTopicId when it
        is gone."""

    def led(self, name: str) -> QuickPartition | None:
        """The partition of the topic of that name, if this node leads it."""

    def anywhere(self, topic: TopicView, *, resends: bool = True) -> AnyPartition:
        """The partition wherever it is led. Asks again through failovers; a batch whose outcome is
        unknown is sent again only if it `resends`: then it must carry a producer id and sequence.
        """

    async def producer_id(self) -> int:
        """A producer id nobody has had before, in this cluster's whole life."""


EditConfigs = Callable[[Mapping[str, str]], Mapping[str, str]]
"""From what is set to what is to be set; raises RequestError for what cannot be meant."""


class AdminController(Controller, Protocol):
    """What Kafka's clients and admin tools ask beyond that."""

    async def caught_up(self) -> None:
        """Wait until this node sees every change of the metadata that was made before. Raises
        MetadataUnavailable."""

    async def answers(self, node_id: int) -> bool:
        """Whether that node can be reached just now, and knows what this one knows of the metadata.
        One that has just died counts as live for about a second more."""

    async def send_on(
        self, topic: TopicView, batch: Buffer, *, acks: int
    ) -> tuple[AnyPartition, Appended] | None:
        """For a batch of a topic that another node leads: send it there if this node has handed the
        topic over lately, so that its client need not pause; committed when this returns. None if
        the client is to be told where to go."""

    def sealed_copies(self, topic: TopicView) -> Readable:
        """What this node holds of a topic that another one leads. Raises UnknownTopicId."""

    async def configure(
        self, topic_id: UUID, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        """Put `edit(configs)` in the place of what is set for a topic.

        `edit` is called again when somebody else was faster; what it raises passes through. Raises
        UnknownTopicId, InvalidConfig, InvalidTopic for an internal topic, MetadataUnavailable.
        """

    def group_configs(self, group: str) -> Mapping[str, str]:
        """What is set for a consumer group, whether there is such a group or not. Raises
        InvalidRequest for what cannot be a name."""

    async def configure_group(
        self, group: str, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        """As `configure`. Raises InvalidRequest, InvalidConfig, MetadataUnavailable."""

    async def delete_records(self, topic: TopicView, before_offset: int) -> int:
        """Give up everything below `before_offset`, or below the high watermark for -1; the log
        start that holds now.

        Only where the topic is led. Raises NotLeader, UnknownTopicId, MetadataUnavailable, and
        OffsetOutOfRange beyond the high watermark.
        """

    async def log_dir(self) -> LogDir:
        """What this node's disk holds. Counts as of this moment."""


class QuickPosition(Protocol):
    """Where a group stands in a topic, on the node that keeps the group. Good for the turn of the
    loop in which it was asked for."""

    @property
    def offset(self) -> int: ...

    def commit_now(self, offset: int, wake: Wake, *, is_alone: bool) -> bool:
        """`GroupOffsets.commit` without a task. False, and nothing has happened, if something had
        to be waited for. `is_alone` as for `append_now`."""


class GroupOffsets(Protocol):
    """Committed offsets of consumer groups, kept in the keyed state log."""

    async def leader_of(self, group_id: str) -> int:
        """The node that keeps this group; -1 while there is none. Raises MetadataUnavailable."""

    async def position(self, group: str, topic_id: UUID) -> int | None:
        """The last offset committed here, durable or about to be; None if there is none. Raises
        Loading, NotLeader."""

    async def commit(self, group: str, topic_id: UUID, offset: int, metadata: str = "") -> Finish:
        """Append the commit now; awaiting the result waits until it is durable. Raises Loading,
        NotLeader."""

    def position_now(self, group: str, topic_id: UUID) -> QuickPosition | None:
        """`position`, if this node keeps the group, there is one, and nothing has to be waited for;
        else None."""


# ---- looking after it --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What the operator asks first."""

    node_id: int
    cluster_id: str
    backend: str
    backend_reason: str
    fsync: str
    data_dir: str
    ready: bool
    detail: str
    """Why not ready, in words; empty when ready."""
