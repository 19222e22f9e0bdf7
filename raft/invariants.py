"""What must hold after every change of the state (pure).

Checked after each apply in tests and wherever a node is asked to verify itself; a violation is a
bug of ours, never of a peer, and the node that finds one stops rather than go on from a state
nobody can explain.
"""

from raft.state import EPOCH_FIRST, ClusterState, Segment, SegmentState, Topic


class InvariantViolated(AssertionError):
    """The state contradicts itself; the text says where."""


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise InvariantViolated(text)


def check_invariants(state: ClusterState, before: ClusterState | None = None) -> None:
    """Raises InvariantViolated. With `before`, topics that did not change are taken as good, and
    changes are checked too."""
    _check(len(state.names) == len(state.topics), "names and topics differ in number")
    for name, topic_id in state.names.items():
        topic = state.topics.get(topic_id)
        _check(
            topic is not None and topic.name == name,
            f"name {name!r} leads to no topic of that name",
        )
    for topic_id, topic in state.topics.items():
        old = None if before is None else before.topics.get(topic_id)
        if topic is not old:
            _check(topic.topic_id == topic_id, f"topic {topic.name} is filed under another id")
            _check(topic_id not in state.deleted_topics, f"topic {topic.name} is alive and deleted")
            _check_topic(topic, state)
            if old is not None:
                _check_change(old, topic)
    if before is not None:
        _check(state.revision > before.revision, "the revision did not grow")
        _check(state.next_producer_id >= before.next_producer_id, "producer ids went back")
        _check(before.cluster_id in ("", state.cluster_id), "the cluster changed its id")


def _check_topic(topic: Topic, state: ClusterState) -> None:
    at = f"topic {topic.name}"
    _check(len(topic.segments) > 0, f"{at} has no segment")
    _check(topic.last.state is not SegmentState.SEALED, f"{at} has nothing open")
    _check(0 <= topic.log_start_offset, f"{at} starts below 0")
    _check(
        topic.segments[0].base_offset <= topic.log_start_offset,
        f"{at} starts before its first segment",
    )
    _check(topic.log_start_offset <= topic.last.base_offset, f"{at} starts beyond its open segment")
    _check(
        all(s.state is SegmentState.SEALED for s in topic.segments[:-1]),
        f"{at} is open in the middle",
    )
    for one, next_one in zip(topic.segments, topic.segments[1:], strict=False):
        _check(
            one.end_offset == next_one.base_offset, f"{at}: gap or overlap after segment {one.sid}"
        )
        _check(
            one.sid < next_one.sid and one.epoch < next_one.epoch,
            f"{at}: ids or epochs do not grow",
        )
    _check(topic.last.sid < topic.next_sid, f"{at} would use an id twice")
    _check(topic.deleted_up_to_sid < topic.last.sid, f"{at} deleted its open segment")
    for segment in topic.segments:
        _check_segment(segment, topic, state)


def _check_segment(segment: Segment, topic: Topic, state: ClusterState) -> None:
    at = f"topic {topic.name} segment {segment.sid}"
    _check(EPOCH_FIRST <= segment.epoch <= topic.epoch, f"{at}: epoch outside the topic's")
    _check(segment.writer in segment.replicas, f"{at}: the writer is no replica")
    if segment.state is SegmentState.SEALED:
        _check(segment.end_offset > segment.base_offset, f"{at}: sealed and empty")
        _check(
            segment.size > 0 and len(segment.holders) > 0, f"{at}: sealed without bytes or holders"
        )
    else:
        _check(
            all(node in state.brokers for node in segment.replicas), f"{at}: a replica is no broker"
        )
        unset = (segment.end_offset, segment.size, segment.digest, segment.max_timestamp)
        _check(unset == (-1, -1, -1, -1), f"{at}: an end before it is sealed")
        _check(not segment.holders, f"{at}: holders before it is sealed")
    if segment.state is SegmentState.OPEN:
        _check(
            segment.epoch == topic.epoch and segment.seal_epoch == 0, f"{at}: open in an old epoch"
        )
    if segment.state is SegmentState.SEALING:
        _check(segment.epoch < segment.seal_epoch == topic.epoch, f"{at}: sealed in an old epoch")


def _check_change(old: Topic, new: Topic) -> None:
    at = f"topic {new.name}"
    _check(
        new.name == old.name and new.created_revision == old.created_revision,
        f"{at} is another topic",
    )
    _check(new.epoch >= old.epoch, f"{at}: the epoch went back")
    _check(new.next_sid >= old.next_sid, f"{at}: segment ids went back")
    _check(new.deleted_up_to_sid >= old.deleted_up_to_sid, f"{at}: tombstones went back")
    _check(new.log_start_offset >= old.log_start_offset, f"{at}: the log start went back")
    kept = {segment.sid: segment for segment in new.segments}
    for segment in old.segments:
        now = kept.get(segment.sid)
        if now is None:
            _check(segment.sid <= new.deleted_up_to_sid, f"{at}: segment {segment.sid} vanished")
        elif segment.state is SegmentState.SEALED:
            fixed = (now.base_offset, now.end_offset, now.size, now.digest, now.epoch)
            before = (
                segment.base_offset,
                segment.end_offset,
                segment.size,
                segment.digest,
                segment.epoch,
            )
            _check(fixed == before, f"{at}: sealed segment {segment.sid} changed")
