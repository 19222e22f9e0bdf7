"""Sealed segments are the same on every node that holds them, so any holder may serve them.

A leader that does not hold an old segment names a replica that does (KIP-392); there,
`SealedCopies` reads it. What the open segment holds is the leader's alone.
"""

from broker.controller.views import sealed_segment_of
from broker.errors import NotLeader, OffsetOutOfRange, UnknownLeaderEpoch
from broker.ports import Buffer, Sendable, TopicView
from broker.replication.store import Store
from engine.segment import Segment as StoredSegment
from raft.state import Segment, Topic

NOBODY = -1


class SealedCopies:
    """`ports.Readable` of one topic, from this node's disk. Make one per request."""

    def __init__(self, topic: Topic, view: TopicView, store: Store) -> None:
        self._topic = topic
        self._view = view
        self._store = store

    @property
    def log_start_offset(self) -> int:
        return self._view.log_start_offset

    @property
    def high_watermark(self) -> int:
        """What is known for certain: everything before the last segment is committed."""
        return self._view.segments[-1].base_offset

    def check_epoch(self, leader_epoch: int) -> None:
        """Older epochs pass: what is sealed does not change any more."""
        if leader_epoch > self._view.leader_epoch:
            raise UnknownLeaderEpoch(f"epoch {leader_epoch}, known is {self._view.leader_epoch}")

    def preferred_reader(self, offset: int) -> int:
        """Nobody: this node was preferred itself."""
        return NOBODY

    async def read(self, offset: int, *, size_max: int) -> Buffer:
        """As `Partition.read`. Raises NotLeader where only the leader, or another holder, can
        answer."""
        segment, end_offset = self._held(offset)
        return await self._store.read(segment, offset, size_max=size_max, end_offset=end_offset)

    async def fetch(self, offset: int, *, size_max: int) -> Sendable:
        """As `Partition.fetch`. Raises as `read` does."""
        segment, end_offset = self._held(offset)
        found = await self._store.fetch(segment, offset, size_max=size_max, end_offset=end_offset)
        return await self.read(offset, size_max=size_max) if found is None else found

    def _held(self, offset: int) -> tuple[StoredSegment, int]:
        """The segment that contains it, and where that ends."""
        if offset < self.log_start_offset:
            raise OffsetOutOfRange(f"offset {offset}, the log starts at {self.log_start_offset}")
        wanted = sealed_segment_of(self._topic, offset)
        if wanted is not None:
            log = self._store.log(self._topic.name, self._topic.topic_id)
            segment = log.get(wanted.sid)
            if segment is not None and segment.durable_offset >= wanted.end_offset:
                return segment, wanted.end_offset
        raise NotLeader(
            f"offset {offset} of {self._view.name} is not in a sealed segment that is held here",
            leader_id=self._view.leader_id,
            leader_epoch=self._view.leader_epoch,
        )


def other_reader(view: TopicView, segment: Segment | None) -> int:
    """A live replica of the topic that holds this sealed segment, NOBODY if there is none.

    Only replicas: clients do not go to a node that the topic's metadata does not name.
    """
    holders = () if segment is None else [node for node, _ in segment.holders]
    return next((node for node in view.in_sync if node in holders), NOBODY)
