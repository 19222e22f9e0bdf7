"""From the metadata's values to the views that the protocols work with (pure)."""

from bisect import bisect_right
from collections.abc import Collection
from operator import attrgetter
from uuid import UUID

from broker.offset_map import OffsetMap, Span
from broker.ports import BrokerAddress, SegmentView, TopicView
from raft.state import ClusterState, Segment, SegmentState, Topic


class Views:
    """Topic views, made once per change of a topic or of the set of brokers."""

    def __init__(self) -> None:
        self._brokers: object = None
        self._made: dict[bytes, tuple[Topic, TopicView]] = {}
        self._as_of: ClusterState | None = None
        self._named: dict[str, TopicView] = {}
        """Those that were asked for by name as of that state: native clients do at each command."""

    def named(self, state: ClusterState, name: str) -> TopicView | None:
        """The view of the topic of this name, if there is one."""
        if state is not self._as_of:
            self._as_of, self._named = state, {}
        view = self._named.get(name)
        if view is None and (topic_id := state.names.get(name)) is not None:
            view = self._named[name] = self.of(state, state.topics[topic_id])
        return view

    def of(self, state: ClusterState, topic: Topic) -> TopicView:
        """The view of `topic`, which may be one that exists only if it were created."""
        if state.brokers is not self._brokers or len(self._made) > 2 * len(state.topics) + 16:
            self._made.clear()
            self._brokers = state.brokers
        known = self._made.get(topic.topic_id)
        if known is None or known[0] is not topic:
            known = self._made[topic.topic_id] = (topic, topic_view(state, topic))
        return known[1]


def topic_view(state: ClusterState, topic: Topic) -> TopicView:
    """What clients may know of a topic. While its last segment is being sealed it has no leader,
    and the epoch is the last one that had: the next leader's is newer than any that was told."""
    last = topic.segments[-1]
    alive = {node for node, broker in state.brokers.items() if not broker.fenced}
    return TopicView(
        name=topic.name,
        topic_id=UUID(bytes=topic.topic_id),
        leader_id=last.writer if last.state is SegmentState.OPEN else -1,
        leader_epoch=last.epoch,
        replicas=last.replicas,
        in_sync=tuple(node for node in last.replicas if node in alive),
        offline=tuple(node for node in last.replicas if node not in alive),
        is_internal=topic.internal,
        replication_factor=topic.replication_factor,
        configs=topic.configs,
        log_start_offset=topic.log_start_offset,
        segments=tuple(map(_segment_view, topic.kept)),
    )


def _segment_view(segment: Segment) -> SegmentView:
    is_sealed = segment.state is SegmentState.SEALED
    return SegmentView(
        sid=segment.sid,
        base_offset=segment.base_offset,
        end_offset=segment.end_offset if is_sealed else None,
        writer=segment.writer,
        leader_epoch=segment.epoch,
        size=segment.size if is_sealed else None,
    )


def offset_map(topic: Topic) -> OffsetMap:
    """The topic's chain as spans."""
    return OffsetMap(
        [
            Span(
                sid=segment.sid,
                base_offset=segment.base_offset,
                end_offset=segment.end_offset if segment.state is SegmentState.SEALED else None,
                max_timestamp_ms=segment.max_timestamp,
            )
            for segment in topic.kept
        ]
    )


def sealed_segment_of(topic: Topic, offset: int) -> Segment | None:
    """The sealed segment that holds `offset`; None if none does. Cheap however long the chain is,
    for whoever asks but once."""
    place = bisect_right(topic.segments, offset, key=_base_offset) - 1
    if place < 0:
        return None
    segment = topic.segments[place]
    is_sealed = segment.state is SegmentState.SEALED
    return segment if is_sealed and offset < segment.end_offset else None


_base_offset = attrgetter("base_offset")


def first_epoch_of_run(topic: Topic) -> int:
    """The oldest leader epoch that clients of the current leader may still use.

    A roll that keeps the leader costs clients nothing: every epoch since this writer process took
    over is accepted.
    """
    last = topic.segments[-1]
    first = last.epoch
    for segment in reversed(topic.segments):
        if (segment.writer, segment.writer_incarnation) != (last.writer, last.writer_incarnation):
            break
        first = segment.epoch
    return first


def broker_addresses(
    state: ClusterState, listener: str, *, besides: Collection[int] = ()
) -> tuple[BrokerAddress, ...]:
    """Live brokers, and those `besides`, as clients of `listener` should dial them; a broker
    without that listener is left out."""
    found = []
    for node, broker in sorted(state.brokers.items()):
        for name, host, port in broker.listeners:
            if name == listener and (not broker.fenced or node in besides):
                found.append(BrokerAddress(node, host, port, broker.rack))
    return tuple(found)
