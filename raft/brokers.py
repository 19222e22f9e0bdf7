"""Commands about the cluster and its brokers (pure)."""

import msgspec

from raft.commands import Applied, FenceBroker, FormCluster, RegisterBroker, Uuid
from raft.draft import Draft, Refused, require
from raft.segments import with_last
from raft.state import Broker, Refusal

NODE_MAX = 2**31 - 1
"""Kafka's node ids are int32."""
LISTENERS_MAX = 16
CLUSTER_ID_SIZE_MAX = 64

_replace = msgspec.structs.replace


def form_cluster(draft: Draft, command: FormCluster) -> Applied:
    """Once; saying the same again is fine."""
    require(0 < len(command.cluster_id) <= CLUSTER_ID_SIZE_MAX, Refusal.BAD_COMMAND)
    require(draft.state.cluster_id in ("", command.cluster_id), Refusal.WRONG_CLUSTER)
    draft.set(cluster_id=command.cluster_id)
    return draft.applied()


def register_broker(draft: Draft, command: RegisterBroker) -> Applied:
    """A node id whose other disk is still believed alive is refused: two machines must not share
    one identity.

    The machine that really lost its disk asks again once the old incarnation is fenced.
    """
    require(0 <= command.node <= NODE_MAX and len(command.disk) == 16, Refusal.BAD_COMMAND)
    require(
        0 <= command.raft_port <= 65535 and len(command.listeners) <= LISTENERS_MAX,
        Refusal.BAD_COMMAND,
    )
    require(all(0 <= port <= 65535 for _, _, port in command.listeners), Refusal.BAD_COMMAND)
    before = draft.state.brokers.get(command.node)
    if before is not None:
        require(before.disk == command.disk or before.fenced, Refusal.NODE_ID_TAKEN)
        if before.disk != command.disk or not command.clean:
            _void_open_segments(draft, (before.node, before.disk))
    draft.put_broker(
        Broker(
            node=command.node,
            incarnation=draft.index,
            disk=command.disk,
            raft_host=command.raft_host,
            raft_port=command.raft_port,
            listeners=command.listeners,
            rack=command.rack,
            fenced=False,
            leaving=before is not None and before.leaving,
        )
    )
    return draft.applied(draft.index)


def _void_open_segments(draft: Draft, lost: tuple[int, Uuid]) -> None:
    for topic_id in sorted(draft.state.topics):
        topic = draft.state.topics[topic_id]
        last = topic.last
        if lost[0] in last.replicas and lost not in last.void:
            draft.put_topic(with_last(topic, _replace(last, void=(*last.void, lost))))


def fence_broker(draft: Draft, command: FenceBroker) -> Applied:
    """This process of the broker opens no segment any more, until it registers anew."""
    broker = draft.state.brokers.get(command.node)
    if broker is None:
        raise Refused(Refusal.UNKNOWN_BROKER)
    require(broker.incarnation == command.incarnation, Refusal.STALE_INCARNATION)
    draft.put_broker(_replace(broker, fenced=True))
    return draft.applied()
