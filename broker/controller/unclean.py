"""To go on with what is left, after too many copies of a topic's last segment were lost for good.

A segment whose writer is gone ends where enough of its replicas say it does. When too many of their
disks are lost, nobody can say so, and the topic waits: whoever is away may have the rest. Where the
writer is what is left, nothing is missing, but it can acknowledge nothing more. Only an operator
can know that the others will not come back. What they decide is a command in the metadata, and
stays noted in the segment.
"""

from dataclasses import dataclass

import structlog

from broker.controller import placement
from broker.controller.metadata import Metadata
from broker.errors import InvalidRequest, MetadataUnavailable
from broker.replication.quorum import seal_quorum
from raft.commands import AcceptLoss, BeginSeal
from raft.state import ClusterState, Segment, SegmentState, Topic

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stuck:
    """A topic that neither goes on nor can be sealed."""

    sid: int
    base_offset: int
    vouching: tuple[int, ...]
    """Live replicas whose disks hold all that they ever acknowledged."""
    doubtful: tuple[int, ...]
    """Replicas whose disks are lost, or lost writes, whether their nodes are back or not."""
    away: tuple[int, ...]
    """The others that are not there."""
    needed: int
    writer: int | None
    """The leader, if it is there: it has all that was acknowledged."""

    def in_words(self, name: str) -> str:
        """For the operator, before they decide."""
        if self.writer is not None:
            return (
                f"{name} waits: its leader, node {self.writer}, has all that was acknowledged, but"
                f" too few others to acknowledge more: {_nodes(self.doubtful)} lost their disks or"
                f" writes, {_nodes(self.away)} are away. As soon as one of them is back, it goes on"
                " by itself. If you know that none will come, name the topic to have it go on with"
                f" other nodes: --force {name}"
            )
        return (
            f"{name} waits: of the replicas of its segment {self.sid}, {self.needed} would have to"
            f" say where it ends, and {_nodes(self.vouching)} can; {_nodes(self.doubtful)} lost"
            f" their disks or writes, {_nodes(self.away)} are away. Records from offset"
            f" {self.base_offset} on that were acknowledged may be on these alone: bring them back"
            " with their disks if that is possible. To go on with what is left, which loses those"
            f" records for good, name the topic: --force {name}."
            " One of the replicas has to be there for that, with an empty disk if need be."
        )


def stuck(state: ClusterState, topic: Topic) -> Stuck | None:
    """None while the topic can go on, or will be sealed by itself (pure)."""
    last = topic.last
    live = [node for node in last.replicas if node in placement.live_nodes(state)]
    void = {node for node, _ in last.void}
    vouching = tuple(node for node in live if node not in void)
    needed = seal_quorum(len(last.replicas))
    if len(vouching) >= needed:
        return None
    return Stuck(
        sid=last.sid,
        base_offset=last.base_offset,
        vouching=vouching,
        doubtful=tuple(node for node in last.replicas if node in void),
        away=tuple(node for node in last.replicas if node not in {*live, *void}),
        needed=needed,
        writer=last.writer if _is_led(state, last) and last.writer in vouching else None,
    )


def _is_led(state: ClusterState, last: Segment) -> bool:
    return state.writer_of(last) is not None and last.state is SegmentState.OPEN


async def accept_loss(metadata: Metadata, name: str, *, force: str) -> None:
    """Have the topic go on with what is left. `force` is its name once more. Who says it again does
    no harm.

    Raises InvalidRequest, which says what may be lost, or that there is no need, and
    MetadataUnavailable.
    """
    state = metadata.state
    topic = state.topic_named(name)
    if topic is None:
        raise InvalidRequest(f"there is no topic {name}")
    found = stuck(state, topic)
    if found is None:
        raise InvalidRequest(
            f"{name} is not stuck: enough of its replicas are there for it to go on, or to be"
            " sealed without a loss"
        )
    if force != name:
        raise InvalidRequest(found.in_words(name))
    live = placement.live_nodes(state)
    if topic.last.accepts_loss and topic.last.recoverer in live:
        # Noted already. Another command would only interrupt the attempt that is under way.
        return
    answering = found.vouching or [node for node in found.doubtful if node in live] or live
    recoverer, epoch = answering[0], topic.epoch
    if topic.last.state is SegmentState.OPEN:
        epoch = await _decide(metadata, BeginSeal(topic.topic_id, found.sid, epoch, recoverer))
    await _decide(metadata, AcceptLoss(topic.topic_id, found.sid, epoch, recoverer))
    _log.warning("an operator accepts what is left", topic=name, sid=found.sid, lost=found)


async def _decide(metadata: Metadata, command: BeginSeal | AcceptLoss) -> int:
    """The topic's epoch after it."""
    applied = await metadata.propose(command)
    if applied.refusal:
        raise MetadataUnavailable(f"the topic has changed meanwhile: {applied.refusal}; look again")
    return applied.value


def _nodes(nodes: tuple[int, ...]) -> str:
    return "nodes " + ", ".join(map(str, nodes)) if nodes else "no node"
