"""Brokers that leave for good (pure): what is still theirs, and the end of it.

A broker that is leaving gets no more copies, and what only it would hold is copied elsewhere. When
nothing is left that needs it, it is removed, with every mention of its copies.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from raft.commands import Applied, MarkLeaving, RemoveBroker, Uuid
from raft.draft import Draft, Refused, require
from raft.state import Broker, ClusterState, Refusal, Segment, SegmentState, Topic

_replace = msgspec.structs.replace


@dataclass(frozen=True, slots=True)
class Remaining:
    """What still needs a broker that is leaving."""

    unsealed: int
    """Topics whose last segment has a copy there."""
    sealed: int
    """Closed segments with too few copies on those who stay."""

    def __bool__(self) -> bool:
        return bool(self.unsealed or self.sealed)


def remaining(state: ClusterState, node: int) -> Remaining:
    """Looks at every segment of every topic."""
    staying = staying_disks(state)
    unsealed = sealed = 0
    for topic in state.topics.values():
        unsealed += node in topic.last.replicas
        wanted = min(topic.replication_factor, state.staying_count)
        sealed += sum(_needs(segment, node, staying, wanted) for segment in topic.segments)
    return Remaining(unsealed, sealed)


def staying_disks(state: ClusterState) -> dict[int, Uuid]:
    """Live brokers that are not leaving, and their disks."""
    return {
        node: broker.disk
        for node, broker in state.brokers.items()
        if not broker.fenced and not broker.leaving
    }


def _needs(segment: Segment, node: int, staying: Mapping[int, Uuid], wanted: int) -> bool:
    if segment.state is not SegmentState.SEALED or node not in dict(segment.holders):
        return False
    return sum(staying.get(holder) == disk for holder, disk in segment.holders) < wanted


def mark_leaving(draft: Draft, command: MarkLeaving) -> Applied:
    """Also of one that is dead. Somebody must stay."""
    broker = _broker(draft, command.node)
    others = [other for node, other in draft.state.brokers.items() if node != command.node]
    stays = any(not other.leaving for other in others)
    require(stays or not command.leaving, Refusal.LAST_BROKER)
    if broker.leaving != command.leaving:
        draft.put_broker(_replace(broker, leaving=command.leaving))
    return draft.applied()


def remove_broker(draft: Draft, command: RemoveBroker) -> Applied:
    """Only one that is leaving, and that nothing needs any more."""
    broker = _broker(draft, command.node)
    require(broker.disk == command.disk, Refusal.STALE_DISK)
    require(broker.leaving, Refusal.NOT_LEAVING)
    require(not remaining(draft.state, command.node), Refusal.STILL_NEEDED)
    for topic_id in sorted(draft.state.topics):
        _forget(draft, draft.state.topics[topic_id], command.node)
    draft.remove_broker(command.node)
    return draft.applied()


def _broker(draft: Draft, node: int) -> Broker:
    broker = draft.state.brokers.get(node)
    if broker is None:
        raise Refused(Refusal.UNKNOWN_BROKER)
    return broker


def _forget(draft: Draft, topic: Topic, node: int) -> None:
    segments = tuple(
        _replace(segment, holders=tuple(one for one in segment.holders if one[0] != node))
        if node in dict(segment.holders)
        else segment
        for segment in topic.segments
    )
    if any(new is not old for new, old in zip(segments, topic.segments, strict=True)):
        draft.put_topic(_replace(topic, segments=segments))
