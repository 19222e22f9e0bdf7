"""How many copies a topic asks for, and what becomes of it while they are not there."""

from pathlib import Path

import anyio
import pytest

from broker.errors import LeaderMoved, NotEnoughReplicas
from broker.ports import ACKS_ALL, ACKS_LEADER
from tests.broker.cluster import cluster
from tests.broker.controller.cluster_checks import acknowledged, check, until
from tests.broker.one_node import batch, read_all, values


async def test_more_copies_wanted_than_the_topic_has_refuse_acks_all_and_nothing_else(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic(
            "t", configs={"min.insync.replicas": "2"}, replication_factor=1
        )
        partition = await made.leader()
        with pytest.raises(NotEnoughReplicas):
            await partition.append(batch(b"never"), acks=ACKS_ALL)
        appended = await partition.append(batch(b"one copy"), acks=ACKS_LEADER)
        await partition.committed(appended.end_offset, acks=ACKS_LEADER, timeout_s=3)
        assert values(await read_all(partition)) == [b"one copy"]
        node = partition.metadata.last.writer
        made.kill(node)
        await made.start(node)
        assert values(await read_all(await made.leader())) == [b"one copy"]


async def test_a_topic_that_wants_all_copies_is_read_on_when_its_leader_dies(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, monitor_interval_ms=20) as made:
        await made.controller(1).create_topic("t", configs={"min.insync.replicas": "3"})
        known = await acknowledged(made, 5)
        node = (await made.leader()).metadata.last.writer
        made.kill(node)
        made.raft_leader = next(iter(made.network.nodes))
        await check(made, known)
        with pytest.raises(NotEnoughReplicas):
            await (await made.leader()).append(batch(b"never"), acks=ACKS_ALL)
        await made.start(node)
        known |= await acknowledged(made, 5, b"again")
        await check(made, known)
        assert len((await made.leader()).metadata.last.replicas) == 3


async def test_what_waits_for_a_follower_that_never_comes_goes_on_in_the_next_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment on two nodes of three loses one of them, and is closed for it: what waited is
    sent on to where it goes on, and its client hears of no error."""
    monkeypatch.setattr("broker.controller.bucket.FOLLOWERS_PATIENCE_S", 60.0)
    async with cluster(tmp_path) as made:
        made.kill(3)
        await until(lambda: made.raft.state.brokers[3].fenced)
        await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 3)
        partition = await made.leader()
        leader = partition.metadata.last.writer
        await made.start(3)
        made.raft_leader = leader
        made.kill(3 - leader)
        await until(lambda: not partition.bucket or not partition.bucket.writer.has_quorum)
        with anyio.fail_after(20), pytest.raises(LeaderMoved):
            await partition.append(batch(b"waited"), acks=ACKS_ALL)
        routed = made.controller(leader).anywhere(partition.topic, resends=False)
        appended = await routed.append(batch(b"waited"), acks=ACKS_ALL)
        await routed.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=10)
        await check(made, known | {appended.base_offset: b"waited"})


async def test_how_many_copies_are_asked_for_is_in_force_when_it_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not from the next segment on: that may be days away."""
    monkeypatch.setattr("broker.controller.bucket.FOLLOWERS_PATIENCE_S", 0.1)
    async with cluster(tmp_path) as made:
        view = await made.controller(1).create_topic("t", configs={})
        known = await acknowledged(made, 3)
        partition = await made.leader()
        leader = made.raft_leader = partition.metadata.last.writer
        made.kill(leader % 3 + 1)
        for wanted in (3, 2, 3):
            configs = {"min.insync.replicas": str(wanted)}
            await made.controller(leader).configure(view.topic_id, lambda _: configs)  # noqa: B023
            if wanted == 3:
                with pytest.raises(NotEnoughReplicas):
                    await partition.append(batch(b"never"), acks=ACKS_ALL)
            else:
                known |= await acknowledged(made, 3, b"two will do")
        await check(made, known)


async def test_nobody_is_parked_for_a_roll_that_waits_for_a_node_that_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment is due at every look, and cannot be closed before its third copy is back: who
    writes with acks=1 would stand still for half of the time."""
    monkeypatch.setattr("broker.controller.roll.DRAIN_TIMEOUT_S", 60.0)
    async with cluster(tmp_path, entries_max=1, monitor_interval_ms=20) as made:
        await made.controller(1).create_topic("t", configs={"min.insync.replicas": "3"})
        leader = made.raft_leader = (await made.leader()).metadata.last.writer
        away = leader % 3 + 1
        made.kill(away)
        await until(lambda: made.raft.state.brokers[away].fenced)
        partition = await made.leader()
        for number in range(3):
            with anyio.fail_after(5):
                appended = await partition.append(batch(b"%d" % number), acks=ACKS_LEADER)
                await partition.committed(appended.end_offset, acks=ACKS_LEADER, timeout_s=3)
            await anyio.sleep(0.1)
        await made.start(away)
        await until(lambda: len(made.raft.state.topics[partition.metadata.topic_id].segments) > 1)
        assert values(await read_all(await made.leader())) == [b"0", b"1", b"2"]
