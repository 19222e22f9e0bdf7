"""What a start does before the first client is let in: read back, seal, open.

There is no other way back than this one. A process never resumes a segment of an earlier
incarnation: it answers for it as a replica, its end is fixed by the seal protocol, and the
successor is opened for whoever writes next. All segments of the node are sealed with one batched
command each way. A segment that never received anything is replaced, so restarts leave no empty
files behind.
"""

from functools import partial

import structlog

from broker.controller.housekeeping import sealed_end
from broker.controller.metadata import Metadata
from broker.errors import StorageFailed
from broker.replication import header as segment_header
from broker.replication.copies import Copies, LocalCopy
from broker.replication.replica import Replica
from broker.replication.store import Store
from engine.batch import BatchHeader
from engine.log import TopicLog
from engine.producer_state import ProducerState
from engine.segment import Segment
from raft.commands import BeginSealMany
from raft.state import ClusterState, SegmentState, Topic
from raft.state import Segment as SegmentMetadata

_log = structlog.get_logger(__name__)


class Restart:
    """One start of one node."""

    def __init__(self, *, node: int, metadata: Metadata, store: Store, copies: Copies) -> None:
        self._node = node
        self._metadata = metadata
        self._store = store
        self._copies = copies

    async def read_back(self) -> None:
        """Open what is on the disk, as the metadata describes it.

        Raises engine.errors.CorruptSegmentError when a file may not be trusted, StorageFailed.
        """
        await self._delete_leftovers()
        await self._store.run(partial(self._read_topics, self._metadata.state))

    async def begin_seals(self, incarnation: int) -> None:
        """Have everything sealed that earlier incarnations of this node left open."""
        begun = await self._metadata.propose(BeginSealMany(self._node, incarnation))
        if begun.refusal:
            raise StorageFailed(f"sealing the node's segments was refused: {begun.refusal}")

    # -- files that the metadata has deleted while we were away

    async def _delete_leftovers(self) -> None:
        state = self._metadata.state
        for stored in await self._store.stored():
            topic = state.topics.get(stored.topic_id)
            log = self._store.log(stored.name, stored.topic_id)
            if topic is None and stored.topic_id in state.deleted_topics:
                await self._store.delete(log)
            elif topic is not None and _was_dropped(topic, stored.sid):
                await self._store.drop(log, stored.sid)
            elif topic is None or topic.segment(stored.sid) is None:
                _log.warning(
                    "files that no metadata explains are left alone", path=str(stored.path)
                )

    # -- reading back (blocking, on a thread)

    def _read_topics(self, state: ClusterState) -> None:
        stored = {(found.topic_id, found.sid) for found in self._store.wal.stored()}
        for topic in state.topics.values():
            log = self._store.log(topic.name, topic.topic_id)
            for metadata in topic.segments:
                is_here = (topic.topic_id, metadata.sid) in stored
                if is_here or self._must_answer(metadata):
                    self._read_segment(topic, log, metadata)

    def _must_answer(self, metadata: SegmentMetadata) -> bool:
        """A replica of an unsealed segment answers for it even if it never received anything."""
        return metadata.state is not SegmentState.SEALED and self._node in metadata.replicas

    def _read_segment(self, topic: Topic, log: TopicLog, metadata: SegmentMetadata) -> None:
        """Open one local copy. Only the tail of a topic is scanned; sealed history is taken at its
        word."""
        is_sealed = metadata.state is SegmentState.SEALED
        is_closed_here = log.is_sealed_on_disk(metadata.sid)
        if is_sealed and is_closed_here and not _is_tail(topic, metadata):
            log.adopt(metadata.sid, metadata.base_offset, sealed_end(metadata))
            return
        headers: list[BatchHeader] = []
        copy: LocalCopy
        segment = log.recover(
            metadata.sid,
            metadata.base_offset,
            metadata.epoch,
            headers.append,
            head=lambda: copy.first_head(),
            keep_prefix=_is_last_resort(metadata),
        )
        if segment.torn_size:
            _log.warning(
                "a torn tail was cut",
                segment=str(log.directory / str(metadata.sid)),
                cut_bytes=segment.torn_size,
                end_offset=segment.end_offset,
            )
        window = _window(segment, headers)
        replica = Replica(
            epoch=metadata.epoch,
            end_offset=segment.end_offset,
            promised_epoch=segment.promised_epoch,
            is_sealed=segment.sealed,
            unknown=self._doubt(metadata),
        )
        copy = self._copies.add(log, topic.topic_id, segment, window, replica)
        copy.head = segment.head() or b""

    def _doubt(self, metadata: SegmentMetadata) -> str:
        """Why this copy cannot vouch for its length; empty when it can."""
        if _is_last_resort(metadata):
            return ""
        if any(node == self._node for node, _ in metadata.void):
            return "this disk was replaced, or may have lost writes"
        return ""


def _window(segment: Segment, headers: list[BatchHeader]) -> ProducerState | None:
    """None while the segment's head, and with it what came before, has not been received."""
    stored = segment.head()
    if not stored and not headers and segment.base_offset > 0:
        return None
    window = ProducerState()
    if stored:
        window = ProducerState.restore(segment_header.decode(stored).producers)
    for header in headers:
        window.update(header)
    return window


def _is_last_resort(segment: SegmentMetadata) -> bool:
    """The only copy there is, on a disk that may have lost writes: better a prefix than nothing."""
    return bool(segment.void) and len(segment.replicas) == 1


def _was_dropped(topic: Topic, sid: int) -> bool:
    return sid <= topic.deleted_up_to_sid and topic.segment(sid) is None


def _is_tail(topic: Topic, segment: SegmentMetadata) -> bool:
    """Is this the last segment that can hold records? The idempotence window is rebuilt from it."""
    return segment in topic.segments[-2:]
