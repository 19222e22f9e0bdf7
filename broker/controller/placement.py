"""Who writes next, and on which nodes (pure).

A segment takes as many live nodes as there are, up to the topic's target. The leader goes round
when a segment rolls, unless the topic is to keep it, and only to a node that already holds what
came before: nobody waits for a copy to be made."""

from collections.abc import Collection, Sequence

from crc32c import crc32c

from broker.controller.topic_config import TopicConfig
from raft.commands import Next
from raft.state import ClusterState, Segment, Topic


def live_nodes(state: ClusterState) -> list[int]:
    """Registered and not fenced, in order."""
    return sorted(node for node, broker in state.brokers.items() if not broker.fenced)


def staying_nodes(state: ClusterState) -> list[int]:
    """Live, and not about to leave for good."""
    return [node for node in live_nodes(state) if not state.brokers[node].leaving]


def replicas_min(state: ClusterState, target: int, min_insync_replicas: int) -> int:
    """A segment that opens with fewer replicas would be safe on fewer disks than it promises.

    More than the topic is to have can never be: then acks=all is refused, and all else goes on."""
    possible = min(target, state.staying_count)
    return max(possible // 2 + 1, min(min_insync_replicas, possible))


def for_new_topic(state: ClusterState, name: str, target: int) -> Next | None:
    """Spread by name; None while too few nodes are live to open a segment that keeps its
    promise."""
    for live in (staying_nodes(state), live_nodes(state)):
        if live:
            start = crc32c(name.encode()) % len(live)
            opened = _next(state, live[start], live, target)
            if len(opened.replicas) >= replicas_min(state, target, 1):
                return opened
    return None


def for_roll(
    state: ClusterState,
    topic: Topic,
    caught_up: Collection[int],
    *,
    keep_leader: bool = False,
    leaving: bool = False,
) -> Next | None:
    """After a planned end. `caught_up` nodes hold all of the segment durably, the writer included;
    when it is `leaving`, another one writes; with `keep_leader` it goes on itself if it can.

    None when too few nodes are live to open a segment that keeps its promise.
    """
    config = TopicConfig.of(topic.configs)
    rotates = config.has_leader_rotation and not topic.pinned
    return _successor(
        state,
        topic,
        caught_up,
        min(config.min_insync_replicas, len(topic.last.replicas)),
        stays=keep_leader or not rotates,
        without=topic.segments[-1].writer if leaving else None,
    )


def after_seal(state: ClusterState, topic: Topic, holders: Collection[int]) -> Next | None:
    """After the end of a segment that others had to seal: one of those who hold all of it.

    The writer itself if it lives. Not its node when that is back as another process: that has just
    begun to start, clients have just seen it go, and followers have it among those who are away.
    With fewer replicas than `min.insync.replicas` if need be: acks=all is then refused, but the
    records can be read.
    """
    return with_all_asked_for(state, topic, holders) or _successor(
        state, topic, holders, 1, stays=state.writer_of(topic.last) is not None
    )


def with_all_asked_for(state: ClusterState, topic: Topic, holders: Collection[int]) -> Next | None:
    """As `after_seal`, on as many replicas as `min.insync.replicas` asks for or not at all."""
    min_insync_replicas = TopicConfig.of(topic.configs).min_insync_replicas
    stays = state.writer_of(topic.last) is not None
    return _successor(state, topic, holders, min_insync_replicas, stays=stays)


def _successor(
    state: ClusterState,
    topic: Topic,
    holders: Collection[int],
    min_insync_replicas: int,
    *,
    stays: bool,
    without: int | None = None,
) -> Next | None:
    """The writer, if it `stays` and may, or the next of the `holders` in the round. Whoever is
    leaving the cluster holds or writes a segment only if it could not be opened else."""
    writer = topic.segments[-1].writer
    needed = replicas_min(state, topic.replication_factor, min_insync_replicas)
    for nodes in (staying_nodes(state), live_nodes(state)):
        live = [node for node in nodes if node != without]
        candidates = [node for node in live if node in holders]
        if candidates:
            opened = _next(
                state,
                writer if stays and writer in candidates else _after(writer, candidates),
                live,
                topic.replication_factor,
                prefer=topic.segments[-1].replicas,
            )
            if len(opened.replicas) >= needed:
                return opened
    return None


def misplaced(state: ClusterState, topic: Topic) -> str:
    """Why the open segment should give way to one on other nodes; "" if it should not.

    It has fewer live replicas than it could: a node joined, or one of its replicas is gone, or is
    back without its disk and can never vouch for this segment. Or one of them is about to leave for
    good, and is not needed: who could only be opened there again is left where it is.
    """
    staying = staying_nodes(state)
    target, replicas = topic.replication_factor, topic.segments[-1].replicas
    void = {node for node, _ in topic.segments[-1].void}
    needed = replicas_min(state, target, TopicConfig.of(topic.configs).min_insync_replicas)
    for live in (staying, live_nodes(state)):
        could = min(target, len(live))
        if could < needed:
            continue
        leaving = [one for one in replicas if one in state.brokers and state.brokers[one].leaving]
        if leaving and live is staying:
            return f"node {leaving[0]} is leaving"
        has = sum(node in live and node not in void for node in replicas)
        return f"{has} sound replicas where {could} are possible" if has < could else ""
    return ""


class Misplaced:
    """`misplaced`, found anew only when something has changed: it is asked about every topic at
    each look, and thousands of idle ones would hold everybody else up."""

    def __init__(self) -> None:
        self._brokers: object = None
        self._known: dict[bytes, tuple[Topic, str]] = {}

    def why(self, state: ClusterState, topic: Topic) -> str:
        if state.brokers is not self._brokers or len(self._known) > 2 * len(state.topics) + 16:
            self._known.clear()
            self._brokers = state.brokers
        known = self._known.get(topic.topic_id)
        if known is None or known[0] is not topic:
            known = self._known[topic.topic_id] = topic, misplaced(state, topic)
        return known[1]


def _after(node: int, candidates: Sequence[int]) -> int:
    """The next one in the round, `node` itself last."""
    return min(candidates, key=lambda other: (other <= node, other))


def _next(
    state: ClusterState,
    writer: int,
    live: Sequence[int],
    target: int,
    *,
    prefer: Sequence[int] = (),
) -> Next:
    others = [node for node in live if node != writer]
    start = next((index for index, node in enumerate(others) if node > writer), 0)
    round_robin = others[start:] + others[:start]
    chosen = [node for node in round_robin if node in prefer]
    chosen += [node for node in round_robin if node not in prefer]
    return Next(
        writer,
        state.brokers[writer].incarnation,
        tuple(sorted([writer, *chosen[: max(target, 1) - 1]])),
    )


def should_copy(
    state: ClusterState, topic: Topic, segment: Segment, node: int, away: Collection[int]
) -> bool:
    """Should `node` make itself one more copy of this sealed segment?

    Every node answers for itself, and all agree: the first live nodes that hold none, counted from
    a start that depends on the segment, one for each copy that is missing. Holders that are `away`
    for a short while still count; a holder whose disk was replaced does not, nor one that leaves.
    """
    holders = {holder.node for holder in state.holders_of(segment)}
    live = staying_nodes(state)
    staying = {
        other for other in away if other in state.brokers and not state.brokers[other].leaving
    }
    present = holders & (staying | set(live))
    missing = min(topic.replication_factor, len(live)) - len(present)
    if missing <= 0 or not holders & set(live_nodes(state)):
        return False
    start = crc32c(topic.topic_id + segment.sid.to_bytes(8, "big")) % len(live)
    candidates = [other for other in live[start:] + live[:start] if other not in holders]
    return node in candidates[:missing]


def is_surplus(state: ClusterState, topic: Topic, segment: Segment, node: int, disk: bytes) -> bool:
    """Does `node`, on this disk, hold a closed segment that was written for others, and that as
    many others hold as the topic wants?

    They must live, and be about to stay. An emptied segment is none: its window is all there is.
    """
    if node in segment.replicas or (node, disk) not in segment.holders or topic.is_emptied(segment):
        return False
    others = {holder.node for holder in state.holders_of(segment)} - {node}
    return len(others.intersection(staying_nodes(state))) >= topic.replication_factor
