"""Committed offsets through kills, rollovers and deleted topics: they never go back."""

import random
from pathlib import Path

import anyio
import pytest

from broker.errors import InvalidRequest, InvalidTopic
from tests.broker.one_node import OneNode, put, running


async def commit(node: OneNode, group: str, offset: int) -> None:
    partition = await node.topic()
    finish = await node.groups.commit(group, partition.topic.topic_id, offset)
    await finish()


async def position(node: OneNode, group: str) -> int | None:
    partition = await node.topic()
    return await node.groups.position(group, partition.topic.topic_id)


async def test_a_group_that_never_committed_has_no_position_and_makes_no_topic(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        assert await position(node, "g") is None
        assert [topic.name for topic in node.controller.topics()] == ["t"]


@pytest.mark.parametrize("seed", range(5))
async def test_commits_survive_power_cuts(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    disk = None
    committed: dict[str, int] = {}
    for _ in range(4):
        async with running(tmp_path, disk, entries_max=9, monitor_interval_ms=10) as node:
            for group, offset in committed.items():
                assert await position(node, group) == offset, f"seed {seed}"
            for _ in range(rng.randrange(30)):
                group = f"group-{rng.randrange(6)}"
                committed[group] = committed.get(group, 0) + 1
                await commit(node, group, committed[group])
            disk = node.backend.crash_clone("random", rng)


async def test_rollovers_carry_the_state_and_free_the_old_segments(tmp_path: Path) -> None:
    async with running(tmp_path, entries_max=5, monitor_interval_ms=10) as node:
        await commit(node, "early", 42)
        for offset in range(1, 60):
            await commit(node, "g", offset)
            await anyio.sleep(0.002)
        shards = [topic for topic in node.controller.topics() if topic.is_internal]
        busiest = max(shards, key=lambda topic: topic.log_start_offset)
        assert busiest.log_start_offset > 20
        assert len(busiest.segments) <= 3
        disk = node.backend.kill_clone()
    async with running(tmp_path, disk) as node:
        assert await position(node, "g") == 59
        assert await position(node, "early") == 42


async def test_a_topic_created_anew_starts_without_the_old_ones_position(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await commit(node, "g", 7)
        await node.controller.delete_topic((await node.topic()).topic.topic_id)
        await put(await node.topic(), b"x")
        assert await position(node, "g") is None


async def test_clients_can_neither_create_nor_delete_what_belongs_to_the_broker(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        await commit(node, "g", 7)
        internal = next(topic for topic in node.controller.topics() if topic.is_internal)
        with pytest.raises(InvalidTopic):
            await node.controller.delete_topic(internal.topic_id)
        with pytest.raises(InvalidTopic):
            await node.controller.create_topic("__consumer_offsets_99", configs={})


async def test_absurd_commit_metadata_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        topic_id = (await node.topic()).topic.topic_id
        with pytest.raises(InvalidRequest):
            await node.groups.commit("g", topic_id, 1, "x" * 5000)
