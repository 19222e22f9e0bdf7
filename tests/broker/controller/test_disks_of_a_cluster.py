"""Disks that are lost, replaced or damaged, and what the others make of it."""

from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from broker.controller.restart import Restart
from broker.errors import InvalidRequest
from broker.replication import messages
from engine.backends._memory import MemoryBackend
from engine.format import log_name, topic_directory
from raft.state import ClusterState
from tests.broker.cluster import Cluster, cluster
from tests.broker.controller.cluster_checks import acknowledged, check, settled_copies
from tests.broker.one_node import TOPICS, put, read_all, values


async def test_two_disks_of_three_lost_stop_their_topic_and_nothing_else(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await acknowledged(made, 5)
        kept = (await made.leader()).topic.leader_id % 3 + 1
        made.raft_leader = kept
        lost = [node for node in (1, 2, 3) if node != kept]
        for node in lost:
            made.kill(node)
            made.disks[node] = MemoryBackend()
            made.disk_ids[node] = bytes([node + 100]) * 16
        with capture_logs() as logs, anyio.fail_after(20):
            while not all(made.raft.state.brokers[node].fenced for node in lost):
                await anyio.sleep(0.02)
            for node in lost:
                await made.start(node)
            while not any("too few copies" in line["event"] for line in logs):
                await anyio.sleep(0.02)
        assert made.controller(kept).topic("t").leader_id == -1
        created = await made.controller(kept).create_topic("u", configs={})
        partition = made.controller(created.leader_id).partition(created)
        await put(partition, b"goes on")
        assert values(await read_all(partition)) == [b"goes on"]
        await _accept_what_is_left(made, kept)


async def test_a_leader_whose_followers_are_gone_for_good_goes_on_with_other_nodes(
    tmp_path: Path,
) -> None:
    """It has everything, and can acknowledge nothing: only an operator knows that nobody comes."""
    async with cluster(tmp_path, 5) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        partition = await made.leader()
        writer = partition.topic.leader_id
        made.raft_leader = writer
        gone = [node for node in partition.metadata.last.replicas if node != writer]
        for node in gone:
            made.kill(node)
        with anyio.fail_after(20):
            while not all(made.raft.state.brokers[node].fenced for node in gone):
                await anyio.sleep(0.02)
        unclean_seal = made.controller(writer).unclean_seal
        with pytest.raises(InvalidRequest, match=f"node {writer}, has all that was acknowledged"):
            await unclean_seal("t", force="")
        assert (await made.leader()).topic.leader_id == writer, "nothing changes without a decision"
        await unclean_seal("t", force="t")
        known |= await acknowledged(made, 5, b"and on")
        for node in gone:
            await made.start(node)
        await check(made, known)


async def test_a_replaced_disk_confirms_no_leader_of_a_segment_that_has_ended(
    tmp_path: Path,
) -> None:
    """The promise that ended it may have been on the disk that is gone: a deposed leader would take
    the new copy's word for a majority."""
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 5)
        old = await made.leader()
        ended, writer = old.metadata.last, old.topic.leader_id
        made.raft_leader = writer % 3 + 1
        made.kill(writer)
        known |= await acknowledged(made, 5, b"next")
        made.raft_leader = (await made.leader()).topic.leader_id
        replaced = 6 - writer - made.raft_leader
        made.kill(replaced)
        made.disks[replaced] = MemoryBackend()
        made.disk_ids[replaced] = b"n" * 16
        with anyio.fail_after(20):
            while not made.raft.state.brokers[replaced].fenced:
                await anyio.sleep(0.02)
        made.network.isolate(replaced)
        broker = (await made.start(replaced)).broker
        topic_id = old.metadata.topic_id
        with anyio.fail_after(20):
            while broker._replicas.copies.get(topic_id, ended.sid) is None:
                await anyio.sleep(0.02)
        ask = messages.UnfencedAsk(topic_id, ended.sid, ended.epoch)
        frame = b"".join(await broker.answer(ask, memoryview(b"")))
        reply, _ = messages.decode_reply(memoryview(frame))
        assert isinstance(reply, messages.UnfencedReply)
        assert not reply.is_known or reply.why
        made.network.heal()
        await made.start(writer)
        await check(made, known)


async def _accept_what_is_left(made: Cluster, kept: int) -> None:
    unclean_seal = made.controller(kept).unclean_seal
    with pytest.raises(InvalidRequest, match=f"nodes {kept} can"):
        await unclean_seal("t", force="")
    with pytest.raises(InvalidRequest, match="not stuck"):
        await unclean_seal("u", force="u")
    await unclean_seal("t", force="t")
    decided = made.raft.state.topic_named("t")
    await unclean_seal("t", force="t")
    again = made.raft.state.topic_named("t")
    assert again == decided, "who says it again does not have the attempt begin anew"
    partition = await made.leader()
    assert len(await read_all(partition)) == 5, "the one copy that was left had it all"
    await put(partition, b"and on")
    await settled_copies(made)
    topic = made.raft.state.topics[partition.metadata.topic_id]
    assert topic.segments[0].accepts_loss


async def test_what_is_deleted_while_a_node_reads_its_disk_back_leaves_that_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading back may take minutes, and the others go on meanwhile: nobody would look at these
    files again before the next start."""
    read_back = Restart.read_back
    async with cluster(tmp_path) as made:
        for name in ("gone", "cut"):
            await made.controller(1).create_topic(name, configs={})
            for _ in range(2):
                await made.put(b"old", name)
                leader = await made.leader(name)
                await made.broker(leader.topic.leader_id).leading.roll(leader, "to be sealed")
            await made.put(b"new", name)
        await settled_copies(made)
        ids = {name: made.controller(1).topic(name).topic_id for name in ("gone", "cut")}
        paths = {name: TOPICS / topic_directory(name, of.bytes) for name, of in ids.items()}
        made.kill(3)
        fs = made.disks[3].fs
        assert fs.exists(paths["gone"]) and fs.exists(paths["cut"] / "1")

        async def delete_meanwhile(restart: Restart) -> ClusterState:
            state = await read_back(restart)
            await made.controller(1).delete_topic(ids["gone"])
            await made.controller(1).delete_prefix(ids["cut"], 1)
            return state

        monkeypatch.setattr(Restart, "read_back", delete_meanwhile)
        await made.start(3)
        with anyio.fail_after(20):
            while fs.exists(paths["gone"]) or fs.exists(paths["cut"] / "1"):
                await anyio.sleep(0.01)


@pytest.mark.parametrize("is_sealed", [False, True], ids=["cannot vouch", "sealed elsewhere"])
async def test_a_damaged_copy_that_nobody_relies_on_does_not_keep_its_node_away(
    tmp_path: Path, is_sealed: bool
) -> None:
    """After a power cut without a sync of each write, what was written last has holes."""
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 10)
        leader = await made.leader()
        node, topic_id = leader.topic.leader_id % 3 + 1, leader.metadata.topic_id
        log = made.network.nodes[node].store.log("t", topic_id)
        with anyio.fail_after(20):
            while (copy := log.get(1)) is None or copy.durable_offset < 10:
                await anyio.sleep(0.01)
        made.kill(node)
        fs = made.disks[node].fs
        file = fs.open(log.directory / "1" / log_name(0))
        fs.pwrite(file, fs.size(file) // 2, bytes(80))
        if is_sealed:
            assert await made.broker(leader.topic.leader_id).leading.roll(leader, "to be sealed")
        made.is_clean = is_sealed
        await made.start(node)
        known |= await acknowledged(made, 5, b"after")
        await settled_copies(made)
        await check(made, known)
