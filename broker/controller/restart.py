"""What a start does before the first client is let in: register, read back, seal, open.

There is no other way back than this one. A process never resumes a segment of an earlier
incarnation: it answers for it as a replica, its end is fixed by the seal protocol, and the
successor is opened for the new incarnation. All segments of the node are sealed with one batched
command each way. A segment that never received anything is replaced, so restarts leave no empty
files behind.
"""

from collections.abc import Iterator
from functools import partial

import structlog

from broker.controller.housekeeping import sealed_end
from broker.controller.metadata import Metadata
from broker.errors import StorageFailed
from broker.replication import header as segment_header
from broker.replication.replica import Definite, Refused, Replica, SealAnswer
from broker.replication.seal import AskSeal, Commit, Recovery
from broker.replication.store import Store
from engine.batch import BatchHeader
from engine.errors import PromiseRefused
from engine.log import TopicLog
from engine.producer_state import ProducerState
from engine.segment import Segment
from raft.commands import BeginSealMany, CommitSealMany, Next, SealedEnd, SealItem
from raft.state import ClusterState, SegmentState, Topic
from raft.state import Segment as SegmentMetadata

_log = structlog.get_logger(__name__)

_SEALS_PER_COMMAND = 200
"""Keeps a CommitSealMany well below the largest command."""


class Restart:
    """One start of one node; `run` returns the idempotence windows as of the ends of all logs."""

    def __init__(
        self, *, node: int, incarnation: int, disk: bytes, metadata: Metadata, store: Store
    ) -> None:
        self._node = node
        self._incarnation = incarnation
        self._disk = disk
        self._metadata = metadata
        self._store = store

    async def run(self) -> dict[bytes, ProducerState]:
        """Raises engine.errors.CorruptSegmentError when a file may not be trusted, StorageFailed,
        MetadataUnavailable."""
        await self._delete_leftovers()
        windows = await self._store.run(partial(self._read_back, self._metadata.state))
        await self._finish_seals()
        await self._seal_all()
        return windows

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
            elif topic is None or all(s.sid != stored.sid for s in topic.segments):
                _log.warning(
                    "files that no metadata explains are left alone", path=str(stored.path)
                )

    # -- reading back (blocking, on a thread)

    def _read_back(self, state: ClusterState) -> dict[bytes, ProducerState]:
        windows = {}
        for topic in state.topics.values():
            log = self._store.log(topic.name, topic.topic_id)
            window = ProducerState()
            for metadata in topic.segments:
                if self._node in metadata.replicas:
                    window = self._read_segment(
                        log, metadata, window, is_tail=_is_tail(topic, metadata)
                    )
            windows[topic.topic_id] = window
        return windows

    def _read_segment(
        self, log: TopicLog, metadata: SegmentMetadata, window: ProducerState, *, is_tail: bool
    ) -> ProducerState:
        """Open one local copy. Only the tail of a topic is scanned; sealed history is taken at its
        word."""
        is_sealed = metadata.state is SegmentState.SEALED
        if is_sealed and not is_tail and log.is_sealed_on_disk(metadata.sid):
            log.adopt(metadata.sid, metadata.base_offset, sealed_end(metadata))
            return window
        headers: list[BatchHeader] = []
        segment = log.recover(
            metadata.sid,
            metadata.base_offset,
            metadata.epoch,
            headers.append,
            keep_prefix=_is_last_resort(metadata),
        )
        if segment.torn_size:
            _log.warning(
                "a torn tail was cut",
                segment=str(log.directory / str(metadata.sid)),
                cut_bytes=segment.torn_size,
                end_offset=segment.end_offset,
            )
        stored = segment.head()
        if stored is not None:
            window = ProducerState.restore(segment_header.decode(stored).producers)
        for header in headers:
            window.update(header)
        return window

    async def _finish_seals(self) -> None:
        """Local copies of segments whose end is already fixed, but which were not closed before the
        process died."""
        for topic in self._metadata.state.topics.values():
            log = self._store.log(topic.name, topic.topic_id)
            for metadata in topic.segments:
                local = log.get(metadata.sid)
                if metadata.state is SegmentState.SEALED and local is not None and not local.sealed:
                    await self._store.seal(local, sealed_end(metadata))

    # -- sealing what earlier incarnations left open

    async def _seal_all(self) -> None:
        begun = await self._metadata.propose(BeginSealMany(self._node, self._incarnation))
        if begun.refusal:
            raise StorageFailed(f"sealing the node's segments was refused: {begun.refusal}")
        for chunk in _chunks(begun.items, _SEALS_PER_COMMAND):
            items = [await self._seal_one(*item) for item in chunk]
            applied = await self._metadata.propose(CommitSealMany(tuple(items)))
            if applied.refusal or any(sid < 0 for _, sid, _ in applied.items):
                raise StorageFailed(f"the ends of this node's segments were refused: {applied}")

    async def _seal_one(self, topic_id: bytes, sid: int, seal_epoch: int) -> SealItem:
        topic = self._metadata.state.topics[topic_id]
        metadata = topic.segments[-1]
        log = self._store.log(topic.name, topic_id)
        segment = log.get(sid)
        if segment is None:
            raise StorageFailed(f"segment {sid} of {topic.name} was not read back")
        commit = await self._recover(topic, metadata, segment, seal_epoch)
        end = commit.end
        return SealItem(
            topic_id=topic_id,
            sid=sid,
            seal_epoch=seal_epoch,
            end=SealedEnd(end.end_offset, end.size, end.digest, end.max_timestamp),
            holders=tuple((node, self._disk) for node in commit.holders),
            next=Next(self._node, self._incarnation, (self._node,)),
        )

    async def _recover(
        self, topic: Topic, metadata: SegmentMetadata, segment: Segment, seal_epoch: int
    ) -> Commit:
        """Run the seal protocol for one segment whose only replica is this node."""
        void = frozenset(node for node, _ in metadata.void)
        if _is_last_resort(metadata):
            _log.error(
                "this disk may have lost acknowledged writes, and there is no other copy:"
                " keeping the longest valid prefix",
                topic=topic.name,
                sid=metadata.sid,
                end_offset=segment.end_offset,
            )
            void = frozenset()
        replica = Replica(
            epoch=metadata.epoch,
            end_offset=segment.end_offset,
            promised_epoch=segment.promised_epoch,
        )
        recovery = Recovery(seal_epoch=seal_epoch, replicas=metadata.replicas, void=void)
        effects = recovery.begin()
        while effects:
            match effects.pop(0):
                case AskSeal(node=node, seal_epoch=epoch) if node == self._node:
                    effects += recovery.answered(node, await self._answer(replica, segment, epoch))
                case Commit() as commit:
                    return commit
        raise StorageFailed(
            f"segment {metadata.sid} of {topic.name} cannot be sealed by this node alone"
        )

    async def _answer(self, replica: Replica, segment: Segment, seal_epoch: int) -> SealAnswer:
        refused = replica.ask_promise(seal_epoch)
        if refused is not None:
            return refused
        try:
            end = await self._store.promise(segment, seal_epoch)
        except PromiseRefused as refusal:
            return Refused(refusal.promised_epoch)
        answer = replica.promised(end)
        assert isinstance(answer, Definite)
        return answer


def _is_last_resort(segment: SegmentMetadata) -> bool:
    """The only copy there is, on a disk that may have lost writes: better a prefix than nothing."""
    return bool(segment.void) and len(segment.replicas) == 1


def _was_dropped(topic: Topic, sid: int) -> bool:
    return sid <= topic.deleted_up_to_sid and all(segment.sid != sid for segment in topic.segments)


def _is_tail(topic: Topic, segment: SegmentMetadata) -> bool:
    """Is this the last segment that can hold records? The idempotence window is rebuilt from it."""
    last = topic.segments[-1]
    if segment is last:
        return True
    return len(topic.segments) > 1 and segment is topic.segments[-2]


def _chunks(
    items: tuple[tuple[bytes, int, int], ...], size: int
) -> Iterator[tuple[tuple[bytes, int, int], ...]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
