"""What one process may write, read off the metadata (pure).

A lease is politeness: it makes a deposed leader stop early and answer well. Safety never rests on
it; it rests on the promises that replicas make when a segment is sealed.
"""

from collections.abc import Iterable

import msgspec

from raft.commands import Uuid
from raft.state import ClusterState, SegmentState


class Lease(msgspec.Struct, frozen=True):
    """The right to append to one segment of one topic, in one leader epoch."""

    topic_id: Uuid
    sid: int
    epoch: int


def leases_of(
    state: ClusterState, node: int, incarnation: int, topic_ids: Iterable[Uuid]
) -> dict[Uuid, Lease]:
    """The open segments of these topics that belong to this very process, by topic id.

    Empty for a process that is not, or no longer, the registered one of its node, and for a fenced
    one.
    """
    broker = state.brokers.get(node)
    if broker is None or broker.incarnation != incarnation or broker.fenced:
        return {}
    return {
        topic_id: Lease(topic_id=topic_id, sid=topic.last.sid, epoch=topic.last.epoch)
        for topic_id in topic_ids
        if (topic := state.topics.get(topic_id)) is not None
        and topic.last.state is SegmentState.OPEN
        and (topic.last.writer, topic.last.writer_incarnation) == (node, incarnation)
    }
