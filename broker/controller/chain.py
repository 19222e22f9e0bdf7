"""The sealed segments of a topic that this node leads: from its own copies, or where one is missing
or damaged, from another node that holds all of it."""

import structlog

from broker.errors import StorageFailed
from broker.offset_map import Span
from broker.ports import Buffer
from broker.replication.remote import RemoteReader
from broker.replication.store import Store
from engine.log import TopicLog
from raft.state import Topic

_log = structlog.get_logger(__name__)


class SealedChain:
    """Of one topic. Sealed segments are the same wherever they are held."""

    def __init__(self, topic: Topic, log: TopicLog, store: Store, remote: RemoteReader) -> None:
        self.topic = topic
        """As the metadata has it now."""
        self._log = log
        self._store = store
        self._remote = remote
        self._unreadable: set[int] = set()
        """Ids of segments whose copy here is damaged, and that was said."""

    def is_here(self, span: Span) -> bool:
        """Whether this node has the whole segment, damaged or not."""
        assert span.end_offset is not None, span
        segment = self._log.get(span.sid)
        return segment is not None and segment.durable_offset >= span.end_offset

    async def read(self, span: Span, offset: int, *, size_max: int) -> Buffer:
        """As `Partition.read`. Raises StorageFailed where nobody can tell it now."""
        assert span.end_offset is not None, span
        segment = self._log.get(span.sid)
        if segment is not None and segment.durable_offset > offset:
            # A copy that is not complete is the beginning of one that is.
            end_offset = min(span.end_offset, segment.durable_offset)
            try:
                return await self._store.read(
                    segment, offset, size_max=size_max, end_offset=end_offset
                )
            except StorageFailed as error:
                self._go_elsewhere(span.sid, error)
        return await self.read_elsewhere(span, offset, size_max=size_max)

    async def read_elsewhere(self, span: Span, offset: int, *, size_max: int) -> Buffer:
        """`read` from another node's copy; what comes is checked."""
        assert span.end_offset is not None, span
        return await self._remote.read(
            self._holders(span.sid),
            self.topic.topic_id,
            span.sid,
            offset,
            size_max=size_max,
            end_offset=span.end_offset,
        )

    async def head(self, span: Span) -> bytes | None:
        """The header object, which says what came before. Raises as `read` does."""
        assert span.end_offset is not None, span
        segment = self._log.get(span.sid)
        if segment is not None and self.is_here(span):
            try:
                return await self._store.head(segment)
            except StorageFailed as error:
                self._go_elsewhere(span.sid, error)
        holders, topic_id = self._holders(span.sid), self.topic.topic_id
        return await self._remote.head(
            holders, topic_id, span.sid, span.base_offset, span.end_offset
        )

    def _go_elsewhere(self, sid: int, error: StorageFailed) -> None:
        """Our copy cannot be read. Raises `error` if there is no other."""
        if not self._holders(sid):
            raise error
        if sid not in self._unreadable:
            self._unreadable.add(sid)
            _log.error("a segment is read from other nodes", sid=sid, error=str(error))

    def _holders(self, sid: int) -> tuple[int, ...]:
        """Other nodes that hold all of it."""
        segment, own = self.topic.segment(sid), self.topic.last.writer
        holders = () if segment is None else segment.holders
        return tuple(node for node, _ in holders if node != own)
