"""A native client at any node: its appends and reads reach the leader, through failovers too."""

from pathlib import Path

import anyio
import pytest

from broker.controller.router import Routed
from broker.errors import (
    BatchTooLarge,
    LeaderMoved,
    NotLeader,
    OffsetOutOfRange,
    OutcomeUnknown,
    OutOfTouch,
)
from broker.ports import ACKS_ALL
from broker.replication.peers import Conversation, NeverConnected
from tests.broker.cluster import Cluster, cluster
from tests.broker.one_node import batch, read_all, values

STAMPS = "LogAppendTime"


def elsewhere(made: Cluster) -> int:
    """A node that does not lead the topic."""
    leader = made.controller(min(made.network.nodes)).topic("t").leader_id
    return next(node for node in made.network.nodes if node != leader)


async def test_a_batch_that_comes_in_anywhere_is_appended_once_by_the_leader(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.leader()
        controller = made.controller(elsewhere(made))
        routed = controller.anywhere(controller.topic("t"))
        sent = batch(b"a", b"b", producer=(7, 0, 0))
        first = await routed.append(sent, acks=ACKS_ALL)
        await routed.committed(first.end_offset, acks=ACKS_ALL, timeout_s=5)
        again = await routed.append(sent, acks=ACKS_ALL)
        assert (first.base_offset, first.end_offset) == (again.base_offset, again.end_offset)
        data = await routed.read(0, size_max=1000)
        assert data == await (await made.leader()).read(0, size_max=1000)
        assert values(await read_all(await made.leader())) == [b"a", b"b"]


async def test_the_leaders_refusal_is_the_askers(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={"max.message.bytes": "200"})
        await made.leader()
        controller = made.controller(elsewhere(made))
        routed = controller.anywhere(controller.topic("t"))
        with pytest.raises(BatchTooLarge):
            await routed.append(batch(b"x" * 300, producer=(7, 0, 0)), acks=ACKS_ALL)
        with pytest.raises(OffsetOutOfRange):
            await routed.read(99, size_max=100)


async def test_a_leader_that_dies_costs_the_asker_time_and_nothing_else(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        leader = (await made.leader()).topic.leader_id
        node = elsewhere(made)
        made.raft_leader = node
        controller = made.controller(node)
        routed = controller.anywhere(controller.topic("t"))
        await routed.append(batch(b"before", producer=(7, 0, 0)), acks=ACKS_ALL)
        made.kill(leader)
        with anyio.fail_after(20):
            after = await routed.append(batch(b"after", producer=(7, 0, 1)), acks=ACKS_ALL)
            await routed.committed(after.end_offset, acks=ACKS_ALL, timeout_s=5)
        assert values(await read_all(await made.leader())) == [b"before", b"after"]


async def test_nobody_to_route_to_is_said_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.controller.router.PATIENCE_S", 0.3)
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.leader()
        node = elsewhere(made)
        controller = made.controller(node)
        routed = controller.anywhere(controller.topic("t"))
        made.network.isolate(node)
        with pytest.raises((OutcomeUnknown, NotLeader)):
            await routed.append(batch(b"x", producer=(7, 0, 0)), acks=ACKS_ALL)


async def test_what_a_deposed_leader_appended_is_not_called_committed(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.put(b"first")
        node = (await made.leader()).topic.leader_id
        made.raft_leader = elsewhere(made)
        controller = made.controller(node)
        routed = controller.anywhere(controller.topic("t"))
        made.network.isolate(node)
        appended = await routed.append(batch(b"lost", producer=(7, 0, 0)), acks=ACKS_ALL)
        with anyio.fail_after(20):
            while controller.topic("t").leader_id in (node, -1):
                await anyio.sleep(0.02)
        with pytest.raises(OutcomeUnknown):
            await routed.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=5)
        assert values(await read_all(await made.leader())) == [b"first"]


async def test_what_waits_at_a_rotation_knows_that_it_may_be_sent_on(tmp_path: Path) -> None:
    async with cluster(tmp_path, entries_max=5, monitor_interval_ms=20) as made:
        await made.controller(1).create_topic("t", configs={"message.timestamp.type": STAMPS})
        moved = 0
        stored: dict[int, bytes] = {}
        for number in range(200):
            topic = made.controller(1).topic("t")
            controller = made.controller((await made.leader()).topic.leader_id)
            value = b"%d" % number
            try:
                partition = controller.partition(topic)
                appended = await partition.append(batch(value), acks=ACKS_ALL)
                await partition.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=5)
            except LeaderMoved:
                moved += 1
                routed = controller.anywhere(topic, resends=False)
                appended = await routed.append(batch(value), acks=ACKS_ALL)
                assert appended.log_append_time_ms == made.clock.now_ms()
            stored[appended.base_offset] = value
            if moved == 3:
                break
        assert moved == 3
        assert await read_all(await made.leader()) == sorted(stored.items())


async def test_what_may_not_be_sent_again_is_not_when_its_outcome_is_unknown(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        leader = (await made.leader()).topic.leader_id
        controller = made.controller(elsewhere(made))
        routed = controller.anywhere(controller.topic("t"), resends=False)
        made.network.answers_lost = 1
        with pytest.raises(OutcomeUnknown):
            await routed.append(batch(b"once"), acks=ACKS_ALL)
        assert (await made.leader()).topic.leader_id == leader
        assert values(await read_all(await made.leader())) == [b"once"]


class Nobody:
    """`Peers` of whom none can be reached."""

    async def call(self, node: int, frame: object, *, timeout_s: float) -> memoryview:
        raise NeverConnected(f"node {node}: Name or service not known")

    async def converse(self, node: int) -> Conversation:
        raise AssertionError("nobody follows here")


async def test_a_record_that_never_left_is_not_said_to_be_stored_perhaps(tmp_path: Path) -> None:
    """Two of three machines are off, and not even their names are known any more: what a client
    hears is that its record was refused, and why."""
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.leader()
        controller = made.controller(elsewhere(made))
        routed = Routed(controller.topic("t"), controller, Nobody(), patience_s=0.2)
        with pytest.raises(OutOfTouch, match=r"leader cannot be reached: node \d: Name or"):
            await routed.append(batch(b"x", producer=(7, 0, 0)), acks=ACKS_ALL)
