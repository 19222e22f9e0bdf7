"""What the metadata's history asks of this node's disk: seal closed segments, delete what was
deleted on purpose.

Nothing is ever deleted because it is absent from the metadata: only a tombstone (a deleted topic, a
segment id at or below `deleted_up_to_sid` that left the chain) makes files go. Whatever is
interrupted here, the next start does again.
"""

from collections import deque

import anyio
import structlog

from broker.errors import StorageFailed
from broker.replication.store import Store
from engine.format import SegmentEnd
from raft.state import ClusterState, Segment, SegmentState, Topic

_log = structlog.get_logger(__name__)


class Housekeeping:
    """A queue of file work, filled by metadata changes and emptied by one task."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs: deque[tuple[str, Topic, Segment | None]] = deque()
        self._wake = anyio.Event()

    def on_change(self, before: ClusterState, after: ClusterState) -> None:
        """A metadata listener."""
        for topic_id, old in before.topics.items():
            new = after.topics.get(topic_id)
            if new is old:
                continue
            if new is None:
                if topic_id in after.deleted_topics:
                    self._add("delete", old, None)
            else:
                self._compare(old, new)

    def _compare(self, old: Topic, new: Topic) -> None:
        kept = {segment.sid: segment for segment in new.segments}
        for segment in old.segments:
            now = kept.get(segment.sid)
            if now is None:
                self._add("drop", new, segment)
            elif now.state is SegmentState.SEALED and segment.state is not SegmentState.SEALED:
                self._add("seal", new, now)

    def _add(self, job: str, topic: Topic, segment: Segment | None) -> None:
        self._jobs.append((job, topic, segment))
        self._wake.set()

    @property
    def is_idle(self) -> bool:
        return not self._jobs

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._wake = anyio.Event()
            while self._jobs:
                job, topic, segment = self._jobs[0]
                try:
                    await self._do(job, topic, segment)
                except StorageFailed as error:
                    _log.error(
                        "file work failed; the next start will do it",
                        job=job,
                        topic=topic.name,
                        sid=segment.sid if segment else None,
                        error=str(error),
                    )
                self._jobs.popleft()
            await self._wake.wait()

    async def _do(self, job: str, topic: Topic, segment: Segment | None) -> None:
        log = self._store.log(topic.name, topic.topic_id)
        if segment is None:
            await self._store.delete(log)
            return
        local = log.get(segment.sid)
        if job == "drop":
            await self._store.drop(log, segment.sid)
        elif local is not None and not local.sealed:
            await self._store.seal(local, sealed_end(segment))


def sealed_end(segment: Segment) -> SegmentEnd:
    """The end that the metadata has fixed, in the engine's words."""
    return SegmentEnd(segment.end_offset, segment.size, segment.digest, segment.max_timestamp)
