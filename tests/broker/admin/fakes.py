"""A node's status and topics, as the admin routes are given them."""

from collections.abc import Mapping
from uuid import UUID

from broker.ports import NodeStatus, SegmentView, TopicView

TOPIC = TopicView(
    name="hello",
    topic_id=UUID(int=7),
    leader_id=1,
    leader_epoch=3,
    replicas=(1,),
    in_sync=(1,),
    offline=(),
    is_internal=False,
    replication_factor=1,
    configs={"retention.ms": "1000"},
    log_start_offset=0,
    segments=(
        SegmentView(1, 0, 10, writer=1, leader_epoch=2, size=4096),
        SegmentView(2, 10, None, writer=1, leader_epoch=3, size=None),
    ),
)


def status(*, ready: bool = True, detail: str = "") -> NodeStatus:
    return NodeStatus(
        node_id=1,
        cluster_id="Zm9v",
        backend="pread",
        backend_reason="io_uring refused (EPERM)",
        fsync="each",
        data_dir="data",
        ready=ready,
        detail=detail,
    )


async def overview(cluster_id: str) -> Mapping[str, object]:
    """Of a cluster of which nothing else is known."""
    return {"cluster_id": cluster_id}


async def nobody(node: int, leaving: bool) -> None:
    """Nobody leaves."""


async def nothing(topic: str, force: str) -> None:
    """No topic is stuck."""


async def unknown(member: str) -> None:
    """No member is forgotten."""


async def no_surplus() -> Mapping[str, object]:
    """Every copy is needed."""
    return {"segments": 0, "size": 0}
