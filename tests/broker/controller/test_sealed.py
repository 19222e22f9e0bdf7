"""Old segments from a replica that holds them, when the leader does not (KIP-392)."""

from pathlib import Path

import anyio
import pytest

from broker.errors import NotLeader, OffsetOutOfRange, UnknownLeaderEpoch
from tests.broker.cluster import Cluster, cluster
from tests.broker.controller.cluster_checks import acknowledged, settled_copies


async def led_by_a_newcomer(made: Cluster) -> tuple[int, int]:
    """(leader, replica): of "t", whose first records the leader does not hold, and the replica
    does."""
    topic = await made.controller(1).create_topic("t", configs={})
    await acknowledged(made, 20)
    await settled_copies(made)
    lost = (await made.leader()).topic.leader_id
    made.raft_leader = lost % 4 + 1
    made.kill(lost)
    with anyio.fail_after(20):
        while True:
            await made.put(b"more")
            metadata = made.raft.state.topics[topic.topic_id.bytes]
            last, holders = metadata.segments[-1], dict(metadata.segments[0].holders)
            if last.writer not in holders and set(last.replicas) & holders.keys() - {lost}:
                holder = min(set(last.replicas) & holders.keys() - {lost})
                return last.writer, holder


async def test_a_client_is_sent_to_a_replica_that_holds_them(tmp_path: Path) -> None:
    async with cluster(tmp_path, 4, entries_max=5, monitor_interval_ms=50) as made:
        leader, holder = await led_by_a_newcomer(made)
        partition = made.controller(leader).partition(made.controller(leader).topic("t"))
        assert partition.preferred_reader(0) == holder
        assert partition.preferred_reader(partition.high_watermark - 1) == -1
        copies = made.controller(holder).sealed_copies(made.controller(holder).topic("t"))
        assert await copies.read(0, size_max=100) == await partition.read(0, size_max=100)
        assert await copies.fetch(0, size_max=100) == await partition.fetch(0, size_max=100)
        assert 5 <= copies.high_watermark <= partition.high_watermark
        assert copies.preferred_reader(0) == -1


async def test_what_only_the_leader_knows_is_left_to_the_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await acknowledged(made, 5)
        leader = (await made.leader()).topic.leader_id
        follower = made.controller(leader % 3 + 1)
        copies = follower.sealed_copies(follower.topic("t"))
        assert copies.high_watermark == 0
        for offset in (0, 4, 99):
            with pytest.raises(NotLeader):
                await copies.read(offset, size_max=100)
        with pytest.raises(OffsetOutOfRange):
            await copies.read(-1, size_max=100)
        copies.check_epoch(-1)
        copies.check_epoch(follower.topic("t").leader_epoch)
        with pytest.raises(UnknownLeaderEpoch):
            copies.check_epoch(follower.topic("t").leader_epoch + 1)
