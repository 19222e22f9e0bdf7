"""A partition, as the protocols see it."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from broker.ports.exchange import Buffer, Sendable, Wake
from broker.ports.views import TopicView

ACKS_NONE, ACKS_LEADER, ACKS_ALL = 0, 1, -1


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

    async def fetch(self, offset: int, *, size_max: int) -> Sendable: ...


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

    async def fetch(self, offset: int, *, size_max: int) -> Sendable:
        """`read` for a socket: what is large may come as a part of the log's file."""

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


class Produced(Protocol):
    """Who brought a batch, and waits without a task. Neither method may raise."""

    appended: Appended | None
    """Its offsets, once it has them."""

    def refused(self, error: Exception) -> None:
        """It was not appended."""

    def committed(self, failure: Exception | None) -> None:
        """It is as safe as was asked, or will not be: then what `committed` would raise."""


class QuickPartition(Partition, Protocol):
    """A partition that one may read, and write to, without a task."""

    def read_now(self, offset: int, *, size_max: int) -> Buffer | None:
        """What `read` returns, if nothing has to be waited for; else None, and where it would
        raise."""

    def fetch_now(self, offset: int, *, size_max: int) -> Sendable | None:
        """`read_now` for a socket: what is large may come as a part of the log's file."""

    def append_now(
        self,
        batch: bytearray | memoryview,
        *,
        acks: int,
        is_alone: bool = False,
        is_ours: bool = False,
    ) -> Appended | None:
        """`append` if it has to wait for nothing; None, and nothing has happened, if it had to.

        Takes the batch over, which can be written: the offsets go into it. `is_alone`: hand it to
        the disk at once; otherwise that happens at the end of the turn, with all that came in it.
        `is_ours`: `build_pairs` has made it in this turn; its bytes are not in doubt.
        """

    def append_soon(
        self,
        batch: bytearray | memoryview,
        produced: Produced,
        *,
        acks: int,
        timeout_s: float,
    ) -> bool:
        """`append_now` and `when_committed` in one step, together with whatever else comes in this
        turn of the loop, and before anything else is appended. False, and nothing has happened, if
        the batch is not the usual one, or cannot be appended now. `acks` is not 0."""

    def when_committed(
        self,
        end_offset: int,
        wake: Wake,
        *,
        acks: int,
        timeout_s: float,
    ) -> None:
        """`committed` without a task. `acks` is not 0."""
