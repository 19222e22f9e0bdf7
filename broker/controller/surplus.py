"""Copies of closed segments that nobody needs any more.

While a node is away for long, others make copies of what it holds; when it is back, there are more
of them than the topic wants. They cost space and nothing else, so they stay until an operator has
them dropped. The metadata decides about each of them: it takes a node off the list of holders only
while enough others that live are on it. Then the files go.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio.lowlevel
import structlog

from broker.controller import placement
from broker.controller.metadata import Metadata
from broker.replication.copies import Copies
from broker.replication.store import Store
from raft.commands import RemoveHolder
from raft.state import Segment, Topic

_log = structlog.get_logger(__name__)

Alone = Callable[[tuple[bytes, int], Callable[[], Awaitable[None]]], Awaitable[None]]
"""(topic id and sid, job): do it while no other file work on that segment is done."""


@dataclass(slots=True)
class Dropped:
    """What an operator's wish has done so far."""

    segments: int = 0
    size: int = 0
    """Bytes."""


class Surplus:
    """Of one node."""

    def __init__(
        self,
        *,
        node: int,
        disk: bytes,
        metadata: Metadata,
        store: Store,
        copies: Copies,
        alone: Alone,
    ) -> None:
        self._node = node
        self._disk = disk
        self._metadata = metadata
        self._store = store
        self._copies = copies
        self._alone = alone

    async def drop(self) -> Dropped:
        """Drop every copy of this node that is not needed. Raises MetadataUnavailable."""
        dropped = Dropped()
        for topic in tuple(self._metadata.state.topics.values()):
            for segment in topic.segments:
                if self._is_surplus(topic, segment):
                    job = partial(self._drop, topic.topic_id, segment.sid, dropped)
                    await self._alone((topic.topic_id, segment.sid), job)
            await anyio.lowlevel.checkpoint()
        if dropped.segments:
            _log.warning("copies beyond what their topics want are dropped", dropped=dropped)
        return dropped

    def _is_surplus(self, topic: Topic, segment: Segment) -> bool:
        return placement.is_surplus(self._metadata.state, topic, segment, self._node, self._disk)

    async def _drop(self, topic_id: bytes, sid: int, dropped: Dropped) -> None:
        topic = self._metadata.state.topics.get(topic_id)
        segment = None if topic is None else topic.segment(sid)
        if topic is None or segment is None or not self._is_surplus(topic, segment):
            return
        applied = await self._metadata.propose(RemoveHolder(topic_id, sid, self._node, self._disk))
        if applied.refusal or topic_id not in self._metadata.state.topics:
            return
        log = self._store.log(topic.name, topic_id)
        local = log.get(sid)
        self._copies.forget(topic_id, sid)
        await self._store.drop(log, sid)
        dropped.segments += 1
        dropped.size += 0 if local is None else local.size
