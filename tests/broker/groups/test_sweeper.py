"""Positions that go too early, and those that stay for ever."""

from pathlib import Path

from broker.groups.messages import Who
from tests.broker.groups.support import (
    FAST,
    HOUR_MS,
    RealClock,
    commit,
    commit_as,
    position,
    stable,
)
from tests.broker.one_node import running


async def test_offsets_of_a_group_with_members_never_expire(tmp_path: Path) -> None:
    clock = RealClock()
    async with running(tmp_path, clock=clock, groups=FAST) as node:
        joined = await stable(node, "g")
        await commit_as(node, "g", joined, 5)
        await commit(node, "by hand", 5)
        clock.wall_ms += HOUR_MS
        await node.groups.sweeper.sweep()
        assert await position(node, "g") == 5
        assert await position(node, "by hand") is None
        await node.groups.leave("g", [Who(joined.member_id)])
        await node.groups.sweeper.sweep()
        assert await position(node, "g") == 5, "its hour begins when the last member goes"
        clock.wall_ms += HOUR_MS
        await node.groups.sweeper.sweep()
        assert await position(node, "g") is None
        assert await node.groups.list_groups() == []
        _, durable = await node.groups.offsets("g")
        await durable()
        disk = node.backend.crash_clone("none")
    async with running(tmp_path, disk, clock=clock, groups=FAST) as node:
        assert await node.groups.list_groups() == []


async def test_offsets_in_a_deleted_topic_go(tmp_path: Path) -> None:
    async with running(tmp_path, clock=RealClock(), groups=FAST) as node:
        joined = await stable(node, "g")
        await commit_as(node, "g", joined, 5)
        await node.controller.delete_topic((await node.topic()).topic.topic_id)
        assert len((await node.groups.offsets("g"))[0]) == 1
        await node.groups.sweeper.sweep()
        assert (await node.groups.offsets("g"))[0] == {}
        assert await node.groups.heartbeat("g", Who(joined.member_id), 1) is None
