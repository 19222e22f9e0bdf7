"""Commands about who holds a sealed segment (pure)."""

import msgspec

from raft.commands import AddHolder, Applied, RemoveHolder, Uuid
from raft.draft import Draft, Refused, require
from raft.segments import disk_of
from raft.state import Refusal, Segment, SegmentState, Topic

_replace = msgspec.structs.replace


def _sealed(topic: Topic, sid: int) -> Segment:
    segment = topic.segment(sid)
    if segment is None:
        raise Refused(Refusal.STALE_SEGMENT)
    require(segment.state is SegmentState.SEALED, Refusal.NOT_SEALED)
    return segment


def _put_holders(
    draft: Draft, topic: Topic, sid: int, holders: tuple[tuple[int, Uuid], ...]
) -> None:
    segments = tuple(_replace(s, holders=holders) if s.sid == sid else s for s in topic.segments)
    draft.put_topic(_replace(topic, segments=segments))


def add_holder(draft: Draft, command: AddHolder) -> Applied:
    """Naming one that is named already is fine."""
    topic = draft.topic(command.topic_id)
    segment = _sealed(topic, command.sid)
    require(command.node in draft.state.brokers, Refusal.UNKNOWN_BROKER)
    require(disk_of(draft.state, command.node) == command.disk, Refusal.STALE_DISK)
    holder = (command.node, command.disk)
    if holder not in segment.holders:
        _put_holders(draft, topic, command.sid, tuple(sorted((*segment.holders, holder))))
    return draft.applied()


def remove_holder(draft: Draft, command: RemoveHolder) -> Applied:
    """Only while enough others remain: as many as the topic wants, or every live node if there are
    fewer."""
    topic = draft.topic(command.topic_id)
    segment = _sealed(topic, command.sid)
    brokers = draft.state.brokers
    others = tuple(holder for holder in segment.holders if holder != (command.node, command.disk))
    if len(others) == len(segment.holders):
        return draft.applied()
    live = {node for node, broker in brokers.items() if not broker.fenced}
    good = sum(node in live and brokers[node].disk == disk for node, disk in others)
    is_lost = disk_of(draft.state, command.node) != command.disk
    require(
        good >= (1 if is_lost else max(1, min(topic.replication_factor, len(live)))),
        Refusal.TOO_FEW_HOLDERS,
    )
    _put_holders(draft, topic, command.sid, others)
    return draft.applied()
