"""What a start does before the first client is let in: read back, seal, open.

There is no other way back than this one. A process never resumes a segment of an earlier
incarnation: it answers for it as a replica, its end is fixed by the seal protocol, and the
successor is opened for whoever writes next. All segments of the node are sealed with one batched
command each way. A segment that never received anything is replaced, so restarts leave no empty
files behind.
"""

from collections.abc import Callable
from functools import partial

import anyio
import structlog

from broker.controller.metadata import Metadata
from broker.controller.read_back import ReadBack
from broker.errors import StorageFailed
from broker.replication.store import Store
from engine.errors import CorruptSegmentError
from engine.format import log_name
from engine.log import TopicLog
from raft.commands import BeginSealMany
from raft.state import ClusterState, Refusal, SegmentState, Topic
from raft.state import Segment as SegmentMetadata

AGAIN_PAUSE_S = 0.05
"""Before the seals are asked for by the next incarnation."""

_log = structlog.get_logger(__name__)


class Restart:
    """One start of one node."""

    def __init__(self, *, node: int, metadata: Metadata, store: Store, read_back: ReadBack) -> None:
        self._node = node
        self._metadata = metadata
        self._store = store
        self._read_back = read_back
        self.doubtful: list[tuple[bytes, int]] = []
        """Topic id and sid of unsealed segments whose copy here is damaged, and not opened yet."""

    async def read_back(self) -> ClusterState:
        """Open what is on the disk, as the metadata describes it; the metadata as it was at the
        beginning: what has been deleted since is still on the disk.

        A damaged copy of a sealed segment that another node holds is set aside, and made anew from
        there. One of a segment that is not sealed, and that has other replicas, is left out: see
        `read_doubtful`. Raises engine.errors.CorruptSegmentError when any other file may not be
        trusted, StorageFailed.
        """
        state = self._metadata.state
        await self._delete_leftovers(state)
        await self._store.run(partial(self._read_topics, self._metadata.state))
        return state

    async def read_doubtful(self) -> None:
        """Open what was left out, as far as it is good. Only once the metadata says that this disk
        does not vouch for it: what is cut looks whole at the next start. Raises as `read_back`."""
        await self._store.run(partial(self._read_doubtful, self._metadata.state))

    async def begin_seals(self, incarnation: Callable[[], int]) -> None:
        """Have everything sealed that earlier incarnations of this node left open. Waits for a
        majority of the cluster as long as it takes. Raises StorageFailed.

        `incarnation` is asked again when it was one of the past: the cluster may take this node for
        dead meanwhile, which then registers anew.
        """
        while True:
            begun = await self._metadata.insist(BeginSealMany(self._node, incarnation()))
            if begun.refusal != Refusal.STALE_INCARNATION:
                break
            await anyio.sleep(AGAIN_PAUSE_S)
        if begun.refusal:
            raise StorageFailed(f"sealing the node's segments was refused: {begun.refusal}")

    # -- files that the metadata has deleted while we were away

    async def _delete_leftovers(self, state: ClusterState) -> None:
        for stored in await self._store.stored():
            topic = state.topics.get(stored.topic_id)
            if topic is None and stored.topic_id in state.deleted_topics:
                await self._store.delete(stored.name, stored.topic_id)
                continue
            log = self._store.log(stored.name, stored.topic_id)
            if topic is not None and _was_dropped(topic, stored.sid):
                await self._store.drop(log, stored.sid)
            elif topic is None or (segment := topic.segment(stored.sid)) is None:
                _log.warning(
                    "files that no metadata explains are left alone", path=str(stored.path)
                )
            elif topic.is_emptied(segment) and not stored.is_emptied:
                await self._finish_emptying(log, stored.sid)

    async def _finish_emptying(self, log: TopicLog, sid: int) -> None:
        """With the window here as well, the end came between writing it and deleting the rest."""
        window = await self._store.run(partial(log.window, sid))
        if window is not None:
            await self._store.empty(log, sid, window)

    # -- reading back (blocking, on a thread)

    def _read_topics(self, state: ClusterState) -> None:
        stored = {
            (found.topic_id, found.sid)
            for found in self._store.wal.stored()
            if not found.is_emptied
        }
        for topic in state.topics.values():
            log = self._store.log(topic.name, topic.topic_id)
            for metadata in topic.segments:
                is_here = (topic.topic_id, metadata.sid) in stored
                if topic.is_emptied(metadata) and log.find_window(metadata.sid):
                    continue
                if is_here or self._must_answer(metadata):
                    try:
                        self._read_back.segment(topic, metadata)
                    except CorruptSegmentError as error:
                        self._damaged(state, topic, metadata, error)

    def _damaged(
        self,
        state: ClusterState,
        topic: Topic,
        metadata: SegmentMetadata,
        error: CorruptSegmentError,
    ) -> None:
        if metadata.state is SegmentState.SEALED and self._is_elsewhere(state, metadata):
            aside = self._store.log(topic.name, topic.topic_id).set_aside(metadata.sid)
            _log.error("a damaged copy is made anew", why=str(error), set_aside=str(aside))
        elif self._may_be_left_out(metadata) and error.path.name == log_name(metadata.base_offset):
            _log.error("a damaged copy does not vouch for its segment any more", why=str(error))
            self.doubtful.append((topic.topic_id, metadata.sid))
        else:
            raise error

    def _is_elsewhere(self, state: ClusterState, metadata: SegmentMetadata) -> bool:
        """Another node holds all of it, on the disk that it has now."""
        return any(holder.node != self._node for holder in state.holders_of(metadata))

    def _may_be_left_out(self, metadata: SegmentMetadata) -> bool:
        """Others can tell where it ends, and this copy has been asked to vouch for it so far."""
        is_unsealed = metadata.state is not SegmentState.SEALED
        is_void = any(node == self._node for node, _ in metadata.void)
        is_one_of_several = self._node in metadata.replicas and len(metadata.replicas) > 1
        return is_unsealed and is_one_of_several and not is_void

    def _read_doubtful(self, state: ClusterState) -> None:
        for topic_id, sid in self.doubtful:
            topic = state.topics.get(topic_id)
            metadata = None if topic is None else topic.segment(sid)
            if topic is not None and metadata is not None:
                self._read_back.segment(topic, metadata)

    def _must_answer(self, metadata: SegmentMetadata) -> bool:
        """A replica of an unsealed segment answers for it even if it never received anything."""
        return metadata.state is not SegmentState.SEALED and self._node in metadata.replicas


def _was_dropped(topic: Topic, sid: int) -> bool:
    return sid <= topic.deleted_up_to_sid and topic.segment(sid) is None
