"""What the metadata's history asks of this node's disk: complete and seal the copies of closed
segments, delete what was deleted on purpose. Of an emptied segment, the window is completed.

Nothing is ever deleted because it is absent from the metadata: only a tombstone (a deleted topic, a
segment id at or below `deleted_up_to_sid` that left the chain) makes files go. Whatever is
interrupted here is done again at the next change or the next start.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import structlog
from anyio.abc import TaskGroup

from broker.controller import placement
from broker.controller.metadata import Metadata
from broker.controller.surplus import Surplus
from broker.controller.windows import Windows
from broker.errors import RequestError, StorageFailed
from broker.ports import Clock
from broker.replication.copies import Copies, LocalCopy
from broker.replication.peers import PeerUnreachable
from broker.replication.repair import CatchUp
from broker.replication.replica import Replica
from broker.replication.store import Store
from engine.errors import CorruptSegmentError
from engine.format import SegmentEnd
from raft.commands import AddHolder
from raft.state import EMPTY, ClusterState, Segment, SegmentState, Topic

_log = structlog.get_logger(__name__)

RETRY_PAUSE_S = 0.5
"""Between two attempts to complete a copy whose holders cannot be reached."""

CHECK_S = 10.0
"""How often everything is looked through for copies that are missing."""

AWAY_S = 600.0
"""How long a silent node is expected back before others make copies of what it holds."""

JOBS_MAX = 16
"""Pieces of file work at the same time. What only waits, for room or for a holder, is none of them:
it would hold up the deletions that make room."""

_WHOLE_TOPIC = 0
"""In place of a segment's id, which is never 0."""


class Housekeeping:
    """File work of one node, begun by metadata changes. `on_change` is a listener."""

    def __init__(
        self,
        *,
        node: int,
        disk: bytes,
        metadata: Metadata,
        store: Store,
        copies: Copies,
        windows: Windows,
        catch_up: CatchUp,
        clock: Clock,
    ) -> None:
        self._node = node
        self._disk = disk
        self._metadata = metadata
        self._store = store
        self._copies = copies
        self._windows = windows
        self._catch_up = catch_up
        self._clock = clock
        self._gone_since: dict[int, float] = {}
        """Fenced nodes, and when this node first saw them so."""
        self.surplus = Surplus(
            node=node, disk=disk, metadata=metadata, store=store, copies=copies, alone=self._run
        )
        self._limiter = anyio.CapacityLimiter(JOBS_MAX)
        self._at_work: dict[tuple[bytes, int], anyio.Event] = {}
        self._tasks: TaskGroup | None = None
        self._as_of = EMPTY

    def begin(self, as_of: ClusterState) -> None:
        """What the disk holds is what `as_of` says; `run` does all that was asked since."""
        self._as_of = as_of

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            try:
                self.on_change(self._as_of, self._metadata.state)
                while True:
                    self._note_who_is_gone()
                    for topic in self._metadata.state.topics.values():
                        self._complete_all(topic)
                    await anyio.sleep(CHECK_S)
            finally:
                self._tasks = None

    @property
    def is_idle(self) -> bool:
        return not self._at_work

    def on_change(self, before: ClusterState, after: ClusterState) -> None:
        if self._tasks is None:
            return
        self._note_who_is_gone()
        for topic_id in after.topics.changed_since(before.topics):
            old, new = before.topics.get(topic_id), after.topics.get(topic_id)
            if old is not None and new is not None:
                self._drop_all(old, new)
            elif old is not None and topic_id in after.deleted_topics:
                self._start(topic_id, _WHOLE_TOPIC, partial(self._delete, old))
            if new is not None:
                self._complete_all(new)

    def _drop_all(self, old: Topic, new: Topic) -> None:
        kept = {segment.sid for segment in new.segments}
        for segment in old.segments:
            if segment.sid not in kept:
                self._copies.forget(old.topic_id, segment.sid)
                self._start(old.topic_id, segment.sid, partial(self._drop, new, segment.sid))

    def _note_who_is_gone(self) -> None:
        fenced = {n for n, broker in self._metadata.state.brokers.items() if broker.fenced}
        now = self._clock.monotonic()
        self._gone_since = {node: self._gone_since.get(node, now) for node in fenced}

    def _away(self) -> set[int]:
        """Nodes that are gone, but not for long: they are expected back with their copies."""
        now = self._clock.monotonic()
        return {node for node, since in self._gone_since.items() if now - since < AWAY_S}

    def _complete_all(self, topic: Topic) -> None:
        for segment in topic.segments:
            if (topic.topic_id, segment.sid) in self._at_work:
                continue
            if segment.state is SegmentState.SEALED and self._is_wanted(topic, segment):
                self._start(
                    topic.topic_id, segment.sid, partial(self._complete, topic, segment.sid)
                )

    def _is_wanted(self, topic: Topic, segment: Segment) -> bool:
        """Is our copy of this sealed segment to be made, finished, or registered?"""
        is_ours = self._node in segment.replicas or (self._node, self._disk) in segment.holders
        if not is_ours and not placement.should_copy(
            self._metadata.state, topic, segment, self._node, self._away()
        ):
            return False
        log = self._store.log(topic.name, topic.topic_id)
        local = log.get(segment.sid)
        if topic.is_emptied(segment):
            is_done = local is None and log.is_emptied(segment.sid)
        else:
            is_done = local is not None and local.sealed
        return not is_done or (self._node, self._disk) not in segment.holders

    def _start(self, topic_id: bytes, sid: int, job: Callable[[], Awaitable[None]]) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(self._run, (topic_id, sid), job)

    async def _run(self, key: tuple[bytes, int], job: Callable[[], Awaitable[None]]) -> None:
        while key in self._at_work:
            await self._at_work[key].wait()
        done = self._at_work[key] = anyio.Event()
        try:
            await job()
        except (StorageFailed, CorruptSegmentError) as error:
            _log.error("file work failed; the next start will do it", error=str(error))
        finally:
            del self._at_work[key]
            done.set()

    async def _delete(self, topic: Topic) -> None:
        """After all other work on its segments, which might make its directory anew."""
        while others := [
            done
            for (topic_id, sid), done in self._at_work.items()
            if topic_id == topic.topic_id and sid != _WHOLE_TOPIC
        ]:
            await others[0].wait()
        async with self._limiter:
            await self._store.delete(topic.name, topic.topic_id)

    async def _drop(self, topic: Topic, sid: int) -> None:
        async with self._limiter:
            await self._store.drop(self._store.log(topic.name, topic.topic_id), sid)

    # -- completing

    async def _complete(self, topic: Topic, sid: int) -> None:
        """Bring our copy to the committed end, seal it, and say that we hold it."""
        while True:
            async with self._limiter:
                if await self._try_to_complete(topic, sid):
                    return
            await anyio.sleep(RETRY_PAUSE_S)

    async def _try_to_complete(self, topic: Topic, sid: int) -> bool:
        """Whether it is done, or not wanted any more."""
        now = self._metadata.state.topics.get(topic.topic_id)
        segment = None if now is None else now.segment(sid)
        if now is None or segment is None or not self._is_wanted(now, segment):
            return True
        if not self._store.space.is_short:
            try:
                await self._finish(now, segment)
                await self._register(now, segment)
                # Something else may be wanted of this copy by now.
                is_same = self._metadata.state.topics.get(topic.topic_id) is now
                return is_same or await self._try_to_complete(topic, sid)
            except PeerUnreachable as error:
                _log.debug("a copy waits for a holder", topic=topic.name, sid=sid, why=str(error))
            except RequestError as error:
                _log.warning(
                    "a copy is not finished yet", topic=topic.name, sid=sid, why=str(error)
                )
        return False

    async def _finish(self, topic: Topic, segment: Segment) -> None:
        if topic.is_emptied(segment):
            await self._empty(topic, segment)
            return
        log = self._store.log(topic.name, topic.topic_id)
        end = sealed_end(segment)
        local = log.get(segment.sid)
        if local is not None and local.sealed:
            return
        copy = self._copies.get(topic.topic_id, segment.sid)
        if copy is None:
            copy = self._open(topic, segment)
        copy.replica.outlived()
        await self._pull(topic, segment, copy, end)
        await self._store.seal(copy.segment, end)
        copy.sealed(end.end_offset)
        self._copies.forget(topic.topic_id, segment.sid)

    async def _empty(self, topic: Topic, segment: Segment) -> None:
        """Keep the window as of the segment's end, and nothing else."""
        log = self._store.log(topic.name, topic.topic_id)
        window = await self._windows.at_end(topic, segment)
        if topic.topic_id not in self._metadata.state.topics:
            return
        self._copies.forget(topic.topic_id, segment.sid)
        await self._store.empty(log, segment.sid, window)

    def _open(self, topic: Topic, segment: Segment) -> LocalCopy:
        log = self._store.log(topic.name, topic.topic_id)
        local = log.get(segment.sid)
        if local is not None:
            replica = Replica(epoch=segment.epoch, end_offset=local.end_offset)
            return self._copies.add(log, topic.topic_id, local, None, replica)
        return self._copies.open(
            log,
            topic.topic_id,
            sid=segment.sid,
            base_offset=segment.base_offset,
            epoch=segment.epoch,
            window=None,
        )

    async def _pull(self, topic: Topic, segment: Segment, copy: LocalCopy, end: SegmentEnd) -> None:
        holders = self._metadata.state.holders_of(segment)
        sources = [holder for holder in holders if holder.node != self._node]
        sources.sort(key=lambda holder: holder.fenced)
        failure = PeerUnreachable("no other node holds this segment")
        for source in sources:
            if copy.segment.end_offset >= end.end_offset:
                break
            try:
                await self._catch_up.pull(copy, topic.topic_id, source=source.node, end=end)
            except PeerUnreachable as error:
                failure = error
        if copy.segment.end_offset < end.end_offset:
            raise failure

    async def _register(self, topic: Topic, segment: Segment) -> None:
        if (self._node, self._disk) not in segment.holders:
            await self._metadata.propose(
                AddHolder(topic.topic_id, segment.sid, self._node, self._disk)
            )


def sealed_end(segment: Segment) -> SegmentEnd:
    """The end that the metadata has fixed, in the engine's words."""
    return SegmentEnd(segment.end_offset, segment.size, segment.digest, segment.max_timestamp)
