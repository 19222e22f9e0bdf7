"""Files that are damaged while their node is down: it comes up, and nothing is lost."""

from pathlib import Path

import anyio
import pytest

from broker.controller.partition import LocalPartition
from engine.errors import CorruptSegmentError
from engine.format import log_name
from tests.broker.cluster import Cluster, cluster
from tests.broker.controller.cluster_checks import acknowledged, check, settled_copies


async def everywhere(made: Cluster, partition: LocalPartition, sid: int, end_offset: int) -> None:
    """Wait until every node has the segment up to there on its disk."""
    topic_id = partition.metadata.topic_id
    with anyio.fail_after(20):
        while not all(
            (copy := member.store.log("t", topic_id).get(sid)) is not None
            and copy.durable_offset == end_offset
            for member in made.network.nodes.values()
        ):
            await anyio.sleep(0.01)


def damage(made: Cluster, node: int, path: Path) -> None:
    content = made.disks[node].fs.contents(path)
    content[len(content) // 2] ^= 0xFF


def void(made: Cluster, partition: LocalPartition) -> set[int]:
    last = made.raft.state.topics[partition.metadata.topic_id].last
    return {node for node, _ in last.void}


@pytest.mark.parametrize("is_writer", [False, True], ids=["follower", "writer"])
async def test_a_damaged_copy_of_an_open_segment_vouches_no_more_and_keeps_no_node_away(
    tmp_path: Path, is_writer: bool
) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 10)
        leader = await made.leader()
        writer = leader.topic.leader_id
        node = writer if is_writer else writer % 3 + 1
        await everywhere(made, leader, 1, 10)
        log = made.network.nodes[node].store.log("t", leader.metadata.topic_id)
        if is_writer:  # nobody can seal it before the damage is seen
            made.network.isolate(writer % 3 + 1)
        made.kill(node)
        damage(made, node, log.directory / "1" / log_name(0))
        member = await made.start(node)
        copy = member.broker._replicas.copies.get(leader.metadata.topic_id, 1)
        assert copy is not None and copy.replica.unknown
        assert void(made, leader) == {node}
        made.kill(node)  # what was cut looks whole by now
        await made.start(node)
        assert void(made, leader) == {node}
        made.network.heal()
        known |= await acknowledged(made, 5, b"after")
        await settled_copies(made)
        await check(made, known)


@pytest.mark.parametrize("file", ["log", "head", "meta"])
@pytest.mark.parametrize("sid", [1, 3], ids=["old", "newest"])
async def test_a_damaged_copy_of_a_sealed_segment_is_made_anew_from_another_node(
    tmp_path: Path, sid: int, file: str
) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known: dict[int, bytes] = {}
        for number in range(3):
            known |= await acknowledged(made, 5, b"%d" % number)
            leader = await made.leader()
            assert await made.broker(leader.topic.leader_id).leading.roll(leader, "to be sealed")
        await settled_copies(made)
        leader = await made.leader()
        node, topic_id = leader.topic.leader_id % 3 + 1, leader.metadata.topic_id
        log = made.network.nodes[node].store.log("t", topic_id)
        directory = log.directory / str(sid)
        with anyio.fail_after(20):
            while (copy := log.get(sid)) is None or not copy.sealed:
                await anyio.sleep(0.01)
        base_offset = 5 * (sid - 1)
        made.kill(node)
        fs = made.disks[node].fs
        whole = bytes(fs.contents(directory / log_name(base_offset)))
        if file == "log" and sid == 1:
            del fs.contents(directory / log_name(base_offset))[-1:]  # only its size is looked at
        elif file == "log":
            damage(made, node, directory / log_name(base_offset))
        elif file == "head":
            damage(made, node, directory / "head")
        else:
            fs.contents(directory / "meta")[:] = bytes(8192)
        await made.start(node)
        log = made.network.nodes[node].store.log("t", topic_id)
        with anyio.fail_after(20):
            while (copy := log.get(sid)) is None or not copy.sealed:
                await anyio.sleep(0.01)
        assert fs.contents(directory / log_name(base_offset)) == whole
        aside = directory.with_name(f"{sid}.damaged")
        assert fs.exists(aside) == (file != "head" or sid == 3)
        known |= await acknowledged(made, 5, b"after")
        await check(made, known)
        await made.controller(leader.topic.leader_id).delete_prefix(leader.topic.topic_id, 15)
        with anyio.fail_after(20):
            while fs.exists(aside):
                await anyio.sleep(0.01)


async def test_the_only_copy_there_is_waits_for_an_operator_when_it_is_damaged(
    tmp_path: Path,
) -> None:
    with pytest.raises(ExceptionGroup) as failure:
        async with cluster(tmp_path, 1) as made:
            await made.controller(1).create_topic("t", configs={})
            await acknowledged(made, 10)
            partition = await made.leader()
            made.kill(1)
            damage(made, 1, partition.log.directory / "1" / log_name(0))
            await made.start(1)
    assert failure.group_contains(CorruptSegmentError, match="walrus truncate")


@pytest.mark.parametrize("file", ["log", "head"])
async def test_a_sealed_copy_that_is_damaged_under_its_leader_is_read_from_another_node(
    tmp_path: Path, file: str
) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        leader = await made.leader()
        assert await made.broker(leader.topic.leader_id).leading.roll(leader, "to be sealed")
        await settled_copies(made)
        leader = await made.leader()
        log = leader.log
        with anyio.fail_after(20):
            while (copy := log.get(1)) is None or not copy.sealed:
                await anyio.sleep(0.01)
        _, head = await leader.first_header()
        content = made.disks[leader.topic.leader_id].fs.contents(
            log.directory / "1" / (log_name(0) if file == "log" else "head")
        )
        content[16] ^= 0xFF
        await check(made, known)
        assert (await leader.first_header())[1] == head
