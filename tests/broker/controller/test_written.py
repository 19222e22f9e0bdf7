"""How far followers are, asked of a node that leads nothing."""

from pathlib import Path

from tests.broker.cluster import cluster


async def test_a_follower_that_hangs_behind_is_seen_from_any_node(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        await nodes.controller(1).create_topic("t", configs={})
        partition = await nodes.leader()
        topic_id = partition.metadata.topic_id
        leader = partition.metadata.last.writer
        end_offset = await nodes.put(b"seen by all") + 1
        for node in nodes.network.nodes:
            found = await nodes.broker(node).written.of_all()
            assert found[topic_id].high_watermark == end_offset, node
            assert set(found[topic_id].lag) == {1, 2, 3} - {leader}


async def test_a_leader_that_does_not_answer_leaves_its_lag_unknown(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        await nodes.controller(1).create_topic("t", configs={})
        partition = await nodes.leader()
        topic_id = partition.metadata.topic_id
        leader = partition.metadata.last.writer
        other = next(node for node in nodes.network.nodes if node != leader)
        nodes.network.isolate(leader)
        assert topic_id not in await nodes.broker(other).written.of_all()
        assert topic_id in await nodes.broker(leader).written.of_all()
