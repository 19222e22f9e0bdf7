"""The idempotence window as of the end of a segment, read back or asked for.

Needed when this node begins to lead a topic whose last segment it does not have in memory as it
ended: its own copy was longer and was cut, came from another node after the fact, or is none at
all. One segment is all there is to read: its header object holds everything before it.

A segment whose records are deleted, while its successor has none yet, leaves just this: see
`Topic.is_emptied`. One whose disks are all lost leaves nothing: producers are then accepted with
any sequence, as those that are unknown are.
"""

from collections.abc import Sequence
from functools import partial

import structlog

from broker.controller.metadata import Metadata
from broker.errors import StorageFailed
from broker.ports import Buffer
from broker.replication import header as segment_header
from broker.replication import messages
from broker.replication.copies import Copies
from broker.replication.peers import Peers, PeerUnreachable
from broker.replication.store import Store
from engine.batch import checked_batches
from engine.errors import EngineError, SnapshotError
from engine.producer_state import ProducerState
from engine.segment import Segment
from raft.state import Broker, SegmentState, Topic
from raft.state import Segment as SegmentMetadata

_log = structlog.get_logger(__name__)

_READ_SIZE = 4 * 1024 * 1024

_ASK_TIMEOUT_S = 10.0
"""A holder may have to read the whole segment."""


class Windows:
    """For one node. Windows travel as `ProducerState.snapshot()`."""

    def __init__(
        self, *, node: int, metadata: Metadata, store: Store, copies: Copies, peers: Peers
    ) -> None:
        self._node = node
        self._metadata = metadata
        self._store = store
        self._copies = copies
        self._peers = peers

    async def before_last(self, topic: Topic) -> ProducerState:
        """The window as of the base offset of the topic's last segment. Raises as `at_end`."""
        if len(topic.segments) == 1:
            return ProducerState()
        window = await self.at_end(topic, topic.segments[-2])
        try:
            return ProducerState.restore(window)
        except SnapshotError as error:
            raise PeerUnreachable(f"a window that cannot be read here: {error}") from error

    async def at_end(self, topic: Topic, segment: SegmentMetadata) -> bytes:
        """The window as of the end of a sealed segment: from here, or from a holder. An empty one
        where every disk that held the segment has given way to another.

        Raises PeerUnreachable while nobody can tell it, StorageFailed.
        """
        window = await self._here(topic, segment)
        if window is not None:
            return window
        holders = self._metadata.state.holders_of(segment)
        if not holders:
            text = "a segment is on no disk any more: what was known of its producers is lost, too"
            _log.error(text, topic=topic.name, sid=segment.sid)
            return ProducerState().snapshot()
        return await self._elsewhere(topic, segment, holders)

    async def answer(self, ask: messages.WindowAsk) -> Sequence[Buffer]:
        """What another node asks."""
        topic = self._metadata.state.topics.get(ask.topic_id)
        segment = None if topic is None else topic.segment(ask.sid)
        if topic is None or segment is None or segment.state is not SegmentState.SEALED:
            return messages.encode(messages.WindowReply("no sealed segment that is known here"))
        try:
            window = await self._here(topic, segment)
        except (PeerUnreachable, StorageFailed) as error:
            return messages.encode(messages.WindowReply(str(error)))
        if window is None:
            return messages.encode(messages.WindowReply("this copy is not complete yet"))
        return messages.encode(messages.WindowReply(window=window))

    # -- on this disk

    async def _here(self, topic: Topic, segment: SegmentMetadata) -> bytes | None:
        """None where this node has nothing that tells it."""
        log = self._store.log(topic.name, topic.topic_id)
        local = log.get(segment.sid)
        try:
            if log.is_emptied(segment.sid):
                return await self._store.run(partial(log.window, segment.sid))
            if (known := self._in_memory(topic, segment)) is not None:
                return known
            if local is not None and local.sealed:
                return (await self._read(local, segment.end_offset)).snapshot()
        except (EngineError, OSError) as error:
            raise StorageFailed(f"window of segment {segment.sid}: {error}") from error
        return None

    def _in_memory(self, topic: Topic, segment: SegmentMetadata) -> bytes | None:
        """Whoever has opened a copy of the segment behind it may know, while that is empty."""
        if segment is not topic.segments[-2]:
            return None
        copy = self._copies.get(topic.topic_id, topic.last.sid)
        if copy is None or copy.window is None or copy.segment.end_offset > segment.end_offset:
            return None
        return copy.window.snapshot()

    async def _read(self, segment: Segment, end_offset: int) -> ProducerState:
        stored = await self._store.head(segment)
        window = ProducerState()
        if stored:
            window = ProducerState.restore(segment_header.decode(stored).producers)
        offset = segment.base_offset
        while offset < end_offset:
            data = await self._store.read(
                segment, offset, size_max=_READ_SIZE, end_offset=end_offset
            )
            if not data:
                raise PeerUnreachable(f"this copy ends at {offset}, not at {end_offset}")
            offset = await self._store.run(partial(_update, data, window))
        return window

    # -- on other nodes

    async def _elsewhere(
        self, topic: Topic, segment: SegmentMetadata, holders: Sequence[Broker]
    ) -> bytes:
        ask = messages.encode(messages.WindowAsk(topic.topic_id, segment.sid))
        why = f"of the nodes that have it, {[one.node for one in holders]}, no other is there"
        for node in (one.node for one in holders if one.node != self._node and not one.fenced):
            try:
                reply, _ = messages.decode_reply(
                    await self._peers.call(node, ask, timeout_s=_ASK_TIMEOUT_S)
                )
            except (PeerUnreachable, ValueError) as error:
                why = str(error)
                continue
            if isinstance(reply, messages.WindowReply) and not reply.why:
                return reply.window
            why = f"node {node}: {reply}"
        raise PeerUnreachable(f"the window of segment {segment.sid} of {topic.name}: {why}")


def _update(data: Buffer, window: ProducerState) -> int:
    offset = -1
    for header, _ in checked_batches(data):
        window.update(header)
        offset = header.next_offset
    return offset
