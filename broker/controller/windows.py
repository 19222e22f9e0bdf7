"""The idempotence window as of the end of a log, read back from disk.

Needed when this node begins to lead a topic whose last segment it does not have in memory as it
ended: its own copy was longer and was cut, or came from another node after the fact. One segment is
all there is to read: its header object holds everything before it.
"""

from functools import partial

from broker.errors import StorageFailed
from broker.replication import header as segment_header
from broker.replication.store import Store
from engine.batch import iter_headers
from engine.log import TopicLog
from engine.producer_state import ProducerState
from engine.segment import Segment
from raft.state import Topic

_READ_SIZE = 4 * 1024 * 1024


async def read_window(topic: Topic, log: TopicLog, store: Store) -> ProducerState:
    """The window as of the base offset of the topic's last segment.

    Raises StorageFailed while the segment before it is not sealed here: housekeeping is at it.
    """
    if len(topic.segments) == 1:
        return ProducerState()
    before = topic.segments[-2]
    segment = log.get(before.sid)
    if segment is None or not segment.sealed:
        raise StorageFailed(f"segment {before.sid} of {topic.name} is not complete here yet")
    stored = await store.run(segment.head)
    window = ProducerState()
    if stored:
        window = ProducerState.restore(segment_header.decode(stored).producers)
    await _scan(segment, before.end_offset, window, store)
    return window


async def _scan(segment: Segment, end_offset: int, window: ProducerState, store: Store) -> None:
    offset = segment.base_offset
    while offset < end_offset:
        data = await store.read(segment, offset, size_max=_READ_SIZE, end_offset=end_offset)
        if not data:
            raise StorageFailed(f"segment {segment.sid} ends at {offset}, not at {end_offset}")
        offset = await store.run(partial(_update, data, window))


def _update(data: bytes, window: ProducerState) -> int:
    offset = -1
    for _, header in iter_headers(data):
        window.update(header)
        offset = header.next_offset
    return offset
