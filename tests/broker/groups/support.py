"""What tests of a node's groups share: commits by hand, and groups of one member."""

import asyncio
import time

from broker.groups.coordinator import GroupConfig
from broker.groups.messages import Join, JoinAnswer, Sync, Ticket, Who
from broker.groups.records import OffsetValue
from broker.groups.states import GroupLimits
from tests.broker.one_node import ManualClock, OneNode

HOUR_MS = 3_600_000

FAST = GroupConfig(
    limits=GroupLimits(session_ms_min=1, initial_delay_ms=0), offsets_retention_ms=HOUR_MS
)


class RealClock(ManualClock):
    """Wall time under the test's control; sessions run by themselves."""

    def monotonic(self) -> float:
        return time.monotonic()


async def commit(node: OneNode, group: str, offset: int) -> None:
    partition = await node.topic()
    finish = await node.groups.commit(group, partition.topic.topic_id, offset)
    await finish()


async def commit_now(node: OneNode, group: str, offset: int) -> None:
    """Without a task, but for the first one."""
    partition = await node.topic()
    kept = node.groups.position_now(group, partition.topic.topic_id)
    outcome = asyncio.get_running_loop().create_future()
    if kept is None or not kept.commit_now(offset, outcome.set_result, is_alone=True):
        await commit(node, group, offset)
    else:
        assert await outcome is None


async def position(node: OneNode, group: str) -> int | None:
    partition = await node.topic()
    return await node.groups.position(group, partition.topic.topic_id)


async def join(
    node: OneNode, group: str, member_id: str = "", *, session_ms: int = 60_000
) -> JoinAnswer:
    def event(fresh_id: str, ticket: Ticket) -> Join:
        return Join(
            ticket=ticket,
            member_id=member_id,
            fresh_id=fresh_id,
            session_ms=session_ms,
            rebalance_ms=session_ms,
            protocol_type="consumer",
            protocols=(("range", b"\0\0\0\0\0\1\0\1t"),),
        )

    return await (await node.groups.join(group, event)).answer()


async def sync(node: OneNode, group: str, joined: JoinAnswer) -> bytes:
    def event(ticket: Ticket) -> Sync:
        return Sync(
            ticket=ticket,
            member_id=joined.member_id,
            generation=joined.generation,
            assignments={joined.member_id: b"everything"},
        )

    answer = await (await node.groups.sync(group, event)).answer()
    assert answer.refusal is None
    return answer.assignment


async def stable(node: OneNode, group: str, *, session_ms: int = 60_000) -> JoinAnswer:
    """A group of one member."""
    joined = await join(node, group, session_ms=session_ms)
    assert await sync(node, group, joined) == b"everything"
    return joined


async def commit_as(node: OneNode, group: str, joined: JoinAnswer, offset: int) -> None:
    topic_id = (await node.topic()).topic.topic_id
    durable = await node.groups.commit_offsets(
        group,
        Who(joined.member_id),
        joined.generation,
        {topic_id: OffsetValue(offset, 3, "note", node.clock.now_ms())},
    )
    await durable()
