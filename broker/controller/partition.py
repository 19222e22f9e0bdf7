"""Partition 0 of a topic on the node that leads it: the high watermark, who waits for it, and what
is read. What comes in is in appends.py.

Implements `ports.QuickPartition`. A partition outlives its segments: rolls that keep the leader
exchange the bucket below and nobody notices.
"""

from collections.abc import Callable
from contextlib import suppress

from broker.controller.appends import Appends
from broker.controller.bucket import Bucket
from broker.controller.chain import SealedChain
from broker.controller.lookup import Lookup
from broker.controller.sealed import NOBODY, other_reader
from broker.controller.topic_config import TopicConfig
from broker.controller.views import first_epoch_of_run, offset_map
from broker.errors import (
    FencedLeaderEpoch,
    NotLeader,
    OffsetOutOfRange,
    OutcomeUnknown,
    StorageFailed,
    UnknownLeaderEpoch,
)
from broker.offset_map import OffsetMap
from broker.ports import (
    ACKS_LEADER,
    ACKS_NONE,
    Buffer,
    Clock,
    Sendable,
    TimestampedOffset,
    TopicView,
    Waiter,
    Wake,
)
from broker.replication.header import SegmentHeader, decode
from broker.replication.progress import Progress
from broker.replication.remote import RemoteReader
from broker.replication.store import Store
from broker.replication.writer import WriterPhase
from engine.log import TopicLog
from engine.segment import Segment
from raft.state import Segment as SegmentMetadata
from raft.state import Topic


class LocalPartition(Appends):
    """See `ports.Partition` for what the methods promise."""

    def __init__(
        self,
        topic: Topic,
        view: TopicView,
        *,
        log: TopicLog,
        store: Store,
        remote: RemoteReader,
        clock: Clock,
        after_write: Callable[["LocalPartition"], None],
    ) -> None:
        super().__init__(store, clock)
        self.log = log
        self.keyed_snapshot: Callable[[], bytes] = lambda: b""
        """Internal topics: the state log's live keys, as of everything appended so far."""
        self._sealed = SealedChain(topic, log, store, remote)
        self._after_write = after_write
        self._committed = Progress(topic.segments[-1].base_offset)
        self._local = Progress(topic.segments[-1].base_offset)
        self._watchers: set[Waiter] = set()
        self._lookup = Lookup(self)
        # Of the run that begins now. Later the chain may not tell: its segments are deleted.
        self._first_epoch = first_epoch_of_run(topic)
        self.update(topic, view)

    # -- what the metadata says

    def update(self, topic: Topic, view: TopicView) -> None:
        """The metadata of this topic has changed."""
        self.metadata = self._sealed.topic = topic
        self._view = view
        self._map = offset_map(topic)
        self.config = TopicConfig.of(topic.configs)

    def goes_on_in(self, opened: SegmentMetadata) -> bool:
        """Whether the open segment stands on what was appended here. If not, others have led since,
        though this node hears of its fall and its return at once."""
        bucket = self.bucket
        if bucket is None or bucket.sid == opened.sid:
            return True
        return opened.base_offset == bucket.writer.next_offset

    def install(self, bucket: Bucket) -> None:
        """A new open segment takes over; appends that were parked go on there."""
        if self.bucket is not None:
            self.bucket.revoke()
        self.bucket = bucket
        if self._failure is not None:
            self._failure = None
            self._committed = Progress(bucket.segment.base_offset)
            self._local = Progress(bucket.segment.base_offset)
        # A seal may have committed what no follower has acknowledged to us.
        self.on_local(bucket.segment.base_offset)
        self.on_committed(bucket.segment.base_offset)
        self.unpark()

    def close(self, reason: Exception) -> None:
        """Leadership is lost or the topic deleted: nobody waits any longer."""
        if self.bucket is not None:
            self.bucket.revoke()
            self.bucket = None
        self._committed.fail(reason)
        self._local.fail(reason)
        self.unpark()
        self._notify()

    def on_failed(self, error: OSError) -> None:
        """The disk refused: what waits has an unknown fate, what comes is refused, reading goes
        on."""
        self._failure = StorageFailed(f"the disk refused a write to {self._view.name}: {error}")
        self._committed.fail(self._failure)
        self._local.fail(self._failure)

    # -- ports.Partition

    @property
    def topic(self) -> TopicView:
        return self._view

    @property
    def offset_map(self) -> OffsetMap:
        return self._map

    @property
    def leader_epoch(self) -> int:
        return self._view.leader_epoch

    @property
    def log_start_offset(self) -> int:
        return self._view.log_start_offset

    @property
    def high_watermark(self) -> int:
        return self._committed.offset

    @property
    def end_offset(self) -> int:
        """One past the last offset given out, committed or not."""
        return self.high_watermark if self.bucket is None else self.bucket.writer.next_offset

    def check_epoch(self, leader_epoch: int) -> None:
        if leader_epoch == -1:
            return
        if leader_epoch < self._first_epoch:
            raise FencedLeaderEpoch(
                f"epoch {leader_epoch}, the leader's first is {self._first_epoch}"
            )
        if leader_epoch > self.leader_epoch:
            raise UnknownLeaderEpoch(
                f"epoch {leader_epoch}, the current one is {self.leader_epoch}"
            )

    async def committed(self, end_offset: int, *, acks: int, timeout_s: float) -> None:
        if acks == ACKS_NONE:
            return
        try:
            await self._progress(acks).reach(end_offset, timeout_s=timeout_s)
        except (NotLeader, TimeoutError) as failure:
            raise _unknown(end_offset, failure) from failure

    def when_committed(
        self,
        end_offset: int,
        wake: Wake,
        *,
        acks: int,
        timeout_s: float,
    ) -> None:
        def settled(failure: Exception | None) -> None:
            is_vague = failure is not None and isinstance(failure, NotLeader | TimeoutError)
            wake(_unknown(end_offset, failure) if is_vague else failure)

        self._progress(acks).call(end_offset, settled, timeout_s=timeout_s)

    def _progress(self, acks: int) -> Progress:
        return self._local if acks == ACKS_LEADER else self._committed

    async def drained(self) -> None:
        """Wait until everything appended so far is committed."""
        await self._committed.reach(self.end_offset)

    async def confirmed(self) -> None:
        while self.bucket is None or not self.bucket.barrier.is_free:
            bucket = await self._open_bucket()
            try:
                await bucket.barrier.passed()
            except NotLeader:
                # A roll that keeps the leader ends the segment, too; then the next one is asked.
                if bucket is self.bucket and bucket.writer.phase is not WriterPhase.PARKED:
                    raise
            else:
                return

    async def read(self, offset: int, *, size_max: int) -> Buffer:
        high_watermark = self.high_watermark
        if not self.log_start_offset <= offset <= self.end_offset:
            raise OffsetOutOfRange(
                f"offset {offset} of {self._view.name}, which holds"
                f" {self.log_start_offset} to {self.end_offset}"
            )
        if offset >= high_watermark:
            return b""
        span = self._map.span_of(offset)
        assert span is not None, (offset, high_watermark)
        if span.end_offset is not None:
            return await self._sealed.read(span, offset, size_max=size_max)
        segment = self.log.get(span.sid)
        if segment is None:  # Deleted, or sealed and deleted, since we have led it.
            raise NotLeader(f"this node does not lead {self._view.name}")
        if segment.durable_offset <= offset:
            # A quorum of followers may be ahead of our own disk. What was acknowledged must not be
            # read as "nothing there yet"; it is here in a moment.
            with suppress(StorageFailed):
                await self._local.reach(offset + 1)
        end_offset = min(high_watermark, segment.durable_offset)
        return await self._store.read(segment, offset, size_max=size_max, end_offset=end_offset)

    async def read_elsewhere(self, offset: int, *, size_max: int) -> Buffer:
        """`read` of a sealed segment from another node's copy, for who has found ours damaged. What
        comes is checked. Raises StorageFailed where no other node holds it."""
        span = self._map.span_of(offset)
        if span is None or span.end_offset is None or offset < self.log_start_offset:
            raise StorageFailed(f"no other node tells offset {offset} of {self._view.name}")
        return await self._sealed.read_elsewhere(span, offset, size_max=size_max)

    async def fetch(self, offset: int, *, size_max: int) -> Sendable:
        held = self._held(offset)
        if held is not None:
            segment, end_offset = held
            found = await self._store.fetch(
                segment, offset, size_max=size_max, end_offset=end_offset
            )
            if found is not None:
                return found
        return await self.read(offset, size_max=size_max)

    def read_now(self, offset: int, *, size_max: int) -> Buffer | None:
        held = self._held(offset)
        if held is None:
            return self._nothing_now(offset)
        segment, end_offset = held
        return segment.read_now(offset, size_max=size_max, end_offset=end_offset)

    def fetch_now(self, offset: int, *, size_max: int) -> Sendable | None:
        held = self._held(offset)
        if held is None:
            return self._nothing_now(offset)
        segment, end_offset = held
        return segment.fetch_now(offset, size_max=size_max, end_offset=end_offset)

    def _nothing_now(self, offset: int) -> Buffer | None:
        """b"" for a consumer that has read everything."""
        start = max(self.high_watermark, self._view.log_start_offset)
        return b"" if start <= offset <= self.end_offset else None

    def _held(self, offset: int) -> tuple[Segment, int] | None:
        """Where this node has the batch that contains `offset`, and up to which offset consumers
        may read there."""
        high_watermark = self.high_watermark
        if not self._view.log_start_offset <= offset < high_watermark:
            return None
        span = self._map.span_of(offset)
        segment = None if span is None else self.log.get(span.sid)
        if span is None or segment is None:
            return None
        end_offset = span.end_offset
        if end_offset is None:
            end_offset = min(high_watermark, segment.durable_offset)
        elif segment.durable_offset < end_offset:
            return None
        return segment, end_offset

    def preferred_reader(self, offset: int) -> int:
        span = self._map.span_of(offset)
        if span is None or span.end_offset is None or offset < self.log_start_offset:
            return NOBODY
        if self._sealed.is_here(span):
            return NOBODY
        return other_reader(self._view, self.metadata.segment(span.sid))

    async def offset_before_timestamp(self, segment: Segment, timestamp_ms: int) -> int:
        """Every batch of the segment before this offset is older."""
        with suppress(StorageFailed):  # Without the index all of it is looked through.
            await self._store.load_index(segment)
        return segment.offset_before_timestamp(timestamp_ms)

    async def first_header(self) -> tuple[int, SegmentHeader | None]:
        """Where the log starts, and the header object of the segment there: None while nothing was
        ever written to it. Raises StorageFailed when it cannot be read now."""
        offset = self.log_start_offset
        span = self._map.span_of(offset)
        if span is not None and span.end_offset is not None:
            stored = await self._sealed.head(span)
        else:
            segment = None if span is None else self.log.get(span.sid)
            stored = None if segment is None else await self._store.head(segment)
        return offset, decode(stored) if stored else None

    def watch(self, waiter: Waiter) -> None:
        self._watchers.add(waiter)

    def unwatch(self, waiter: Waiter) -> None:
        self._watchers.discard(waiter)

    async def offset_for_timestamp(self, timestamp_ms: int) -> TimestampedOffset | None:
        return await self._lookup.first_at_or_after(timestamp_ms)

    async def offset_of_max_timestamp(self) -> TimestampedOffset | None:
        return await self._lookup.latest()

    # -- marks that move

    def on_committed(self, high_watermark: int) -> None:
        self._committed.advance(high_watermark)
        self._notify()

    def on_local(self, end_offset: int) -> None:
        self._local.advance(end_offset)
        self._after_write(self)

    def _notify(self) -> None:
        for waiter in tuple(self._watchers):
            waiter.set()


def _unknown(end_offset: int, failure: Exception | None) -> OutcomeUnknown:
    """It was appended, so "not the leader" would be a lie: the seal decides its fate."""
    why = "not committed in time" if isinstance(failure, TimeoutError) else failure
    return OutcomeUnknown(f"offset {end_offset - 1}: {why}")
