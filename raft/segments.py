"""Commands that end a topic's open segment and open the next one (pure)."""

import msgspec

from raft.commands import (
    AcceptLoss,
    Applied,
    BeginSeal,
    BeginSealMany,
    CommitRoll,
    CommitSealMany,
    Next,
    SealedEnd,
    SealItem,
    Uuid,
)
from raft.draft import NUMBER_MAX, Draft, Refused, require
from raft.state import ClusterState, Refusal, Segment, SegmentState, Topic

REPLICAS_MAX = 31

_replace = msgspec.structs.replace


def opened(sid: int, epoch: int, base_offset: int, opens: Next) -> Segment:
    """A segment at the beginning of its life."""
    return Segment(
        sid=sid,
        state=SegmentState.OPEN,
        epoch=epoch,
        writer=opens.writer,
        writer_incarnation=opens.writer_incarnation,
        replicas=opens.replicas,
        void=(),
        base_offset=base_offset,
        end_offset=-1,
        size=-1,
        digest=-1,
        max_timestamp=-1,
        holders=(),
        seal_epoch=0,
        recoverer=-1,
    )


def with_last(topic: Topic, last: Segment) -> Topic:
    """`last` in place of the last segment."""
    return _replace(topic, segments=(*topic.segments[:-1], last))


def check_next(state: ClusterState, opens: Next) -> None:
    """The next writer must be the very process that is registered, and nobody may have fenced it
    meanwhile."""
    writer = state.brokers.get(opens.writer)
    if writer is None or any(node not in state.brokers for node in opens.replicas):
        raise Refused(Refusal.UNKNOWN_BROKER)
    require(writer.incarnation == opens.writer_incarnation, Refusal.STALE_INCARNATION)
    require(not writer.fenced, Refusal.FENCED_BROKER)
    distinct = len(set(opens.replicas)) == len(opens.replicas) <= REPLICAS_MAX
    require(distinct and opens.writer in opens.replicas, Refusal.BAD_COMMAND)


def _check_end(
    state: ClusterState, segment: Segment, end: SealedEnd, holders: tuple[tuple[int, Uuid], ...]
) -> None:
    """A sealed segment with records is durable on a majority of its replica set before anybody may
    rely on its end."""
    empty = end.end_offset == segment.base_offset
    require(segment.base_offset <= end.end_offset <= NUMBER_MAX, Refusal.BAD_END)
    require(end.size == 0 if empty else 0 < end.size <= NUMBER_MAX, Refusal.BAD_END)
    require(0 <= end.digest < 2**32 and -1 <= end.max_timestamp <= NUMBER_MAX, Refusal.BAD_END)
    require(-1 <= end.appended_ms <= NUMBER_MAX, Refusal.BAD_END)
    nodes = {node for node, _ in holders}
    require(len(nodes) == len(holders) <= REPLICAS_MAX, Refusal.BAD_COMMAND)
    require(all(disk_of(state, node) == disk for node, disk in holders), Refusal.STALE_DISK)
    require(empty or len(holders) >= len(segment.replicas) // 2 + 1, Refusal.TOO_FEW_HOLDERS)


def disk_of(state: ClusterState, node: int) -> Uuid | None:
    """The disk that `node` registered with."""
    broker = state.brokers.get(node)
    return None if broker is None else broker.disk


def _succeed(
    topic: Topic, end: SealedEnd, holders: tuple[tuple[int, Uuid], ...], opens: Next
) -> Topic:
    """Close the last segment at `end`, open the next. An empty one leaves no trace but its id; one
    with records has a header, so what is emptied before it goes."""
    last = topic.last
    successor = opened(topic.next_sid, topic.epoch, end.end_offset, opens)
    if end.end_offset == last.base_offset:
        kept = topic.segments[:-1]
        deleted_up_to_sid = last.sid
    else:
        sealed = _replace(
            last,
            state=SegmentState.SEALED,
            end_offset=end.end_offset,
            size=end.size,
            digest=end.digest,
            max_timestamp=end.max_timestamp,
            appended_ms=end.appended_ms,
            holders=tuple(sorted(holders)),
        )
        kept = (*(segment for segment in topic.kept if segment is not last), sealed)
        emptied = [segment.sid for segment in topic.segments if topic.is_emptied(segment)]
        deleted_up_to_sid = max(topic.deleted_up_to_sid, *emptied, 0)
    return _replace(
        topic,
        next_sid=topic.next_sid + 1,
        segments=(*kept, successor),
        deleted_up_to_sid=deleted_up_to_sid,
    )


def _sealing(topic: Topic, recoverer: int) -> Topic:
    """The next attempt to seal: a higher epoch orders it after every earlier one."""
    epoch = topic.epoch + 1
    last = _replace(topic.last, state=SegmentState.SEALING, seal_epoch=epoch, recoverer=recoverer)
    return _replace(with_last(topic, last), epoch=epoch)


def begin_seal(draft: Draft, command: BeginSeal) -> Applied:
    """One attempt, by one recoverer; it may interrupt another."""
    topic = draft.topic(command.topic_id)
    require(topic.last.sid == command.sid, Refusal.STALE_SEGMENT)
    require(topic.epoch == command.expect_epoch, Refusal.STALE_EPOCH)
    require(command.recoverer in draft.state.brokers, Refusal.UNKNOWN_BROKER)
    topic = _sealing(topic, command.recoverer)
    draft.put_topic(topic)
    return draft.applied(topic.epoch)


def accept_loss(draft: Draft, command: AcceptLoss) -> Applied:
    """Only of a segment that is being sealed, and of which too few disks are left to vouch for its
    end: nobody may give up what only has to be waited for."""
    topic = draft.topic(command.topic_id)
    require(topic.last.sid == command.sid, Refusal.STALE_SEGMENT)
    require(topic.last.state is SegmentState.SEALING, Refusal.NOT_SEALING)
    require(topic.epoch == command.expect_epoch, Refusal.STALE_EPOCH)
    require(command.recoverer in draft.state.brokers, Refusal.UNKNOWN_BROKER)
    live = {node for node, one in draft.state.brokers.items() if not one.fenced}
    vouching = live & set(topic.last.replicas) - {node for node, _ in topic.last.void}
    count = len(topic.last.replicas)
    require(len(vouching) <= count - (count // 2 + 1), Refusal.NOT_STUCK)
    topic = _sealing(topic, command.recoverer)
    draft.put_topic(with_last(topic, _replace(topic.last, accepts_loss=True)))
    return draft.applied(topic.epoch)


def begin_seal_many(draft: Draft, command: BeginSealMany) -> Applied:
    """All that earlier processes of this node left open, or were sealing: an epoch has one attempt,
    and what that has chosen is known to its process alone."""
    broker = draft.state.brokers.get(command.node)
    if broker is None:
        raise Refused(Refusal.UNKNOWN_BROKER)
    require(broker.incarnation == command.incarnation, Refusal.STALE_INCARNATION)
    items = []
    for topic_id in sorted(draft.state.topics):
        topic = draft.state.topics[topic_id]
        last = topic.last
        was_written = last.writer == command.node and last.writer_incarnation < command.incarnation
        was_sealed = last.state is SegmentState.SEALING and last.recoverer == command.node
        if was_written or was_sealed:
            topic = _sealing(topic, command.node)
            draft.put_topic(topic)
            items.append((topic_id, topic.last.sid, topic.epoch))
    return draft.applied(0, *items)


def commit_seal_many(draft: Draft, command: CommitSealMany) -> Applied:
    """Each item stands or falls alone."""
    return draft.applied(0, *(_commit_seal(draft, item) for item in command.items))


def _commit_seal(draft: Draft, item: SealItem) -> tuple[Uuid, int, int]:
    """(topic id, new sid, its epoch), or sid -1 and the topic's epoch when this item alone is
    refused."""
    epoch = -1
    try:
        topic = draft.topic(item.topic_id)
        epoch = topic.epoch
        require(topic.last.sid == item.sid, Refusal.STALE_SEGMENT)
        require(topic.last.state is SegmentState.SEALING, Refusal.NOT_SEALING)
        require(topic.last.seal_epoch == item.seal_epoch, Refusal.STALE_EPOCH)
        _check_end(draft.state, topic.last, item.end, item.holders)
        check_next(draft.state, item.next)
    except Refused:
        return item.topic_id, -1, epoch
    topic = _succeed(topic, item.end, item.holders, item.next)
    draft.put_topic(topic)
    return topic.topic_id, topic.last.sid, topic.epoch


def commit_roll(draft: Draft, command: CommitRoll) -> Applied:
    """Its own writer ends the segment; nobody needs to be asked."""
    topic = draft.topic(command.topic_id)
    require(topic.last.sid == command.sid, Refusal.STALE_SEGMENT)
    require(topic.last.state is SegmentState.OPEN, Refusal.NOT_OPEN)
    require(topic.epoch == command.open_epoch, Refusal.STALE_EPOCH)
    _check_end(draft.state, topic.last, command.end, command.holders)
    check_next(draft.state, command.next)
    topic = _succeed(
        _replace(topic, epoch=topic.epoch + 1), command.end, command.holders, command.next
    )
    draft.put_topic(topic)
    return draft.applied(topic.last.sid, (topic.topic_id, topic.last.sid, topic.epoch))
