"""The cluster as one node sees it: what `/v1/cluster` answers (pure).

Everything comes from this node's view of the metadata, but for the lag: only a topic's writer knows
how far its followers are, and tells.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from broker.replication.messages import Written
from raft.leaving import remaining
from raft.members import Members
from raft.state import Broker, ClusterState, Segment, SegmentState, Topic


def overview(
    state: ClusterState,
    *,
    node_id: int,
    raft_leader: int | None,
    reaches_majority: bool,
    members: Members,
    written: Mapping[bytes, Written],
) -> dict[str, object]:
    """Ready for JSON. `state` is how `node_id` sees it (`controller/sight.py`), `written` is
    what is known of how far followers are, by topic id."""
    leads = Counter(
        topic.last.writer
        for topic in state.topics.values()
        if topic.last.state is SegmentState.OPEN
    )
    return {
        "cluster_id": state.cluster_id,
        "answered_by": node_id,
        "raft_leader": raft_leader,
        "reaches_majority": reaches_majority,
        "revision": state.revision,
        "nodes": [
            _node(state, broker, members, leads[broker.node])
            | {"is_raft_leader": broker.node == raft_leader}
            for _, broker in sorted(state.brokers.items())
        ],
        "unregistered_members": _unregistered(state, members),
        "topics": [
            _topic(state, topic, written.get(topic.topic_id))
            for topic in sorted(state.topics.values(), key=lambda topic: topic.name)
        ],
    }


def _unregistered(state: ClusterState, members: Members) -> list[dict[str, object]]:
    """Who was let into the metadata, and is no node: on its way, or never to come."""
    known = {broker.disk.hex() for broker in state.brokers.values()}
    return [
        {"member": voter, "raft_role": "voter" if voter in members.voters else "learner"}
        for voter in (*members.voters, *members.learners)
        if voter not in known
    ]


def _node(
    state: ClusterState, broker: Broker, members: Members, lead_count: int
) -> dict[str, object]:
    voter = broker.disk.hex()
    role = "voter" if voter in members.voters else "learner" if voter in members else "none"
    return {
        "node_id": broker.node,
        "is_alive": not broker.fenced,
        "raft_role": role,
        "incarnation": broker.incarnation,
        "peer": f"{broker.raft_host}:{broker.raft_port}",
        "listeners": {name: f"{host}:{port}" for name, host, port in broker.listeners},
        "led_topics": lead_count,
        "is_leaving": broker.leaving,
        "remaining": asdict(remaining(state, broker.node)) if broker.leaving else None,
    }


def under_replicated(state: ClusterState) -> int:
    """Segments with fewer live copies than their topic wants and there are nodes for."""
    alive = _alive(state)
    return sum(_lacking(state, alive, topic) for topic in state.topics.values())


def unreadable(state: ClusterState) -> int:
    """Closed segments that no live node holds whole."""
    alive = _alive(state)
    return sum(len(_unreadable(alive, topic)) for topic in state.topics.values())


def _alive(state: ClusterState) -> dict[int, bytes]:
    """Live nodes and their disks."""
    return {node: broker.disk for node, broker in state.brokers.items() if not broker.fenced}


def _lacking(state: ClusterState, alive: Mapping[int, bytes], topic: Topic) -> int:
    wanted = min(topic.replication_factor, state.staying_count)
    return sum(len(_live_replicas(alive, segment)) < wanted for segment in topic.segments)


def _unreadable(alive: Mapping[int, bytes], topic: Topic) -> list[tuple[int, int]]:
    """Their first offset that is kept, and their end."""
    found = []
    for segment in topic.segments:
        if segment.state is SegmentState.SEALED and not _live_replicas(alive, segment):
            first = max(segment.base_offset, topic.log_start_offset)
            if first < segment.end_offset:
                found.append((first, segment.end_offset))
    return found


def _topic(state: ClusterState, topic: Topic, written: Written | None) -> dict[str, object]:
    last = topic.last
    alive = _alive(state)
    segments = [_segment(alive, segment) for segment in topic.segments]
    return {
        "name": topic.name,
        "is_internal": topic.internal,
        "leader_id": last.writer if _is_led(alive, last) else None,
        "leader_epoch": topic.epoch,
        "replication_factor": topic.replication_factor,
        "replicas": last.replicas,
        "live_replicas": _live_replicas(alive, last),
        "log_start_offset": topic.log_start_offset,
        "under_replicated_segments": _lacking(state, alive, topic),
        "unreadable": _unreadable(alive, topic),
        "lag": None if written is None else {str(node): lag for node, lag in written.lag.items()},
        "high_watermark": None if written is None else written.high_watermark,
        "segments": segments,
    }


def _is_led(alive: Mapping[int, bytes], last: Segment) -> bool:
    return last.state is SegmentState.OPEN and last.writer in alive


def _segment(alive: Mapping[int, bytes], segment: Segment) -> dict[str, object]:
    is_sealed = segment.state is SegmentState.SEALED
    return {
        "sid": segment.sid,
        "state": segment.state.name.lower(),
        "writer": segment.writer,
        "leader_epoch": segment.epoch,
        "base_offset": segment.base_offset,
        "end_offset": segment.end_offset if is_sealed else None,
        "size": segment.size if is_sealed else None,
        "replicas": segment.replicas,
        "live_replicas": _live_replicas(alive, segment),
        "accepts_loss": segment.accepts_loss,
    }


def _live_replicas(alive: Mapping[int, bytes], segment: Segment) -> list[int]:
    """Live nodes that hold a whole copy once it is sealed. Before, those that follow its writer and
    could say where it ends: not one that came back without its disk."""
    if segment.state is SegmentState.SEALED:
        return sorted(node for node, disk in segment.holders if alive.get(node) == disk)
    void = {node for node, _ in segment.void}
    return [node for node in segment.replicas if node in alive and node not in void]
