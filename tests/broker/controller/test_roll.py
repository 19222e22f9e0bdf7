"""Rollovers under load: nothing lost, nothing twice, no error, and exact ends."""

from functools import partial
from pathlib import Path

import anyio
import pytest

from broker.controller import placement
from broker.controller.metadata import Metadata
from broker.controller.partition import LocalPartition
from broker.controller.roll import roll
from broker.errors import (
    MetadataUnavailable,
    NotLeader,
    NotProposed,
    OutOfTouch,
    RequestError,
)
from broker.ports import ACKS_ALL
from raft.commands import AnyCommand, Applied, CommitRoll, Next
from tests.broker.cluster import Cluster, cluster
from tests.broker.one_node import batch, put, read_all, running, values


async def writer(partition: LocalPartition, name: int, count: int) -> None:
    for number in range(count):
        await put(partition, b"%d:%d" % (name, number))


async def test_writers_never_notice_that_segments_roll_beneath_them(tmp_path: Path) -> None:
    async with running(tmp_path, entries_max=10, monitor_interval_ms=10) as node:
        partition = await node.topic()
        async with anyio.create_task_group() as tasks:
            for name in range(8):
                tasks.start_soon(writer, partition, name, 50)
        found = values(await read_all(partition))
        assert len(found) == len(set(found)) == 400
        for name in range(8):
            own = [value for value in found if value and value.startswith(b"%d:" % name)]
            assert own == [b"%d:%d" % (name, number) for number in range(50)]
        segments = partition.topic.segments
        assert len(segments) > 3
        for before, after in zip(segments, segments[1:], strict=False):
            assert before.end_offset == after.base_offset


async def test_an_append_beyond_twice_the_limit_does_not_wait_for_the_monitor(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, entries_max=10, monitor_interval_ms=60_000) as node:
        partition = await node.topic()
        for number in range(25):
            await put(partition, b"%d" % number)
        # The metadata's disk is a real one: a sync may wait for all that others have written.
        with anyio.fail_after(50):
            while len(partition.topic.segments) < 2:
                await anyio.sleep(0.01)


async def test_segments_roll_by_bytes_too_and_batches_never_split(tmp_path: Path) -> None:
    async with running(tmp_path, size_max=4096, monitor_interval_ms=10) as node:
        partition = await node.topic()
        for number in range(20):
            await put(partition, b"x" * 1000, b"%d" % number)
            await anyio.sleep(0.005)
        assert len(partition.topic.segments) > 2
        assert len(await read_all(partition)) == 40


async def test_the_topics_own_segment_size_counts(tmp_path: Path) -> None:
    async with running(tmp_path, monitor_interval_ms=10) as node:
        partition = await node.topic(segment_bytes="1000")
        await put(partition, b"x" * 1000)
        with anyio.fail_after(10):
            while len(partition.topic.segments) < 2:
                await anyio.sleep(0.01)


async def test_idle_and_empty_segments_never_roll(tmp_path: Path) -> None:
    async with running(tmp_path, entries_max=1, monitor_interval_ms=10) as node:
        partition = await node.topic()
        await anyio.sleep(0.1)
        assert len(partition.topic.segments) == 1
        await put(partition, b"x")
        await anyio.sleep(0.1)
        assert len(partition.topic.segments) == 2


@pytest.mark.parametrize("is_applied", [True, False], ids=["took effect", "did not"])
async def test_a_rollover_whose_outcome_nobody_told_does_not_close_the_topic_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_applied: bool
) -> None:
    propose, untold = Metadata.propose, 0

    async def lose_the_answer(metadata: Metadata, command: AnyCommand) -> Applied:
        nonlocal untold
        if not isinstance(command, CommitRoll) or untold == 2:
            return await propose(metadata, command)
        untold += 1
        if is_applied:
            await propose(metadata, command)
        raise MetadataUnavailable("no majority answered")

    monkeypatch.setattr(Metadata, "propose", lose_the_answer)
    monkeypatch.setattr("broker.controller.roll.AGAIN_PAUSE_S", 0.01)
    async with running(tmp_path, entries_max=10, monitor_interval_ms=10) as node:
        partition = await node.topic()
        with anyio.fail_after(20):
            await writer(partition, 1, 100)
            while len(partition.topic.segments) < 3:
                await anyio.sleep(0.01)
        assert untold > 0
        assert values(await read_all(partition)) == [b"1:%d" % number for number in range(100)]


async def test_writers_go_on_in_the_segment_when_no_leader_takes_the_rollover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose, refused = Metadata.propose, 0

    async def no_leader(metadata: Metadata, command: AnyCommand) -> Applied:
        nonlocal refused
        if isinstance(command, CommitRoll):
            refused += 1
            raise NotProposed("no leader")
        return await propose(metadata, command)

    monkeypatch.setattr(Metadata, "propose", no_leader)
    async with running(tmp_path, entries_max=10, monitor_interval_ms=10) as node:
        partition = await node.topic()
        with anyio.fail_after(20):
            await writer(partition, 1, 100)
        assert refused > 0
        assert len(partition.topic.segments) == 1
        assert values(await read_all(partition)) == [b"1:%d" % number for number in range(100)]


async def test_a_writer_is_refused_in_time_while_nobody_can_decide_a_rollover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three nodes die while the third rolls a segment over."""
    propose = Metadata.propose
    is_stuck = True

    async def no_majority(metadata: Metadata, command: AnyCommand) -> Applied:
        if isinstance(command, CommitRoll) and is_stuck:
            raise MetadataUnavailable("no majority answered")
        return await propose(metadata, command)

    monkeypatch.setattr(Metadata, "propose", no_majority)
    monkeypatch.setattr("broker.controller.appends.PARKED_S", 0.05)
    monkeypatch.setattr("broker.controller.roll.AGAIN_PAUSE_S", 0.01)
    async with running(tmp_path) as node, anyio.create_task_group() as tasks:
        partition = await node.topic()
        await put(partition, b"before")
        tasks.start_soon(node.broker.leading.roll, partition, "a test")
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10), pytest.raises(OutOfTouch):
            await partition.append(batch(b"refused"), acks=ACKS_ALL)
        is_stuck = False
        with anyio.fail_after(10):
            while len(partition.topic.segments) < 2:
                await anyio.sleep(0.01)
        await put(partition, b"after")
        assert values(await read_all(partition)) == [b"before", b"after"]


async def test_no_rollover_begins_that_nobody_can_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"before")
        monkeypatch.setattr(Metadata, "reaches_majority", property(lambda _: False))
        assert not await node.broker.leading.roll(partition, "a test")
        await put(partition, b"after")
        assert len(partition.topic.segments) == 1


async def led_by_another(made: Cluster, node: int) -> LocalPartition:
    with anyio.fail_after(20):
        while True:
            for member in made.network.nodes.values():
                try:
                    if member.node != node:
                        return member.controller.partition(member.controller.topic("t"))
                except RequestError:
                    continue
            await anyio.sleep(0.01)


async def test_a_leader_that_hears_of_its_fall_and_its_return_at_once_hides_nothing_from_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path) as made:
        await made.controller(1).create_topic("t", configs={})
        await made.put(b"before")
        first = await made.leader()
        node, metadata = first.topic.leader_id, made.controller(first.topic.leader_id)._metadata
        incarnation = made.raft.state.brokers[node].incarnation
        with monkeypatch.context() as deaf:
            deaf.setattr(metadata, "_refresh", lambda: None)
            leaving = partial(placement.for_roll, leaving=True)
            assert await roll(first, metadata, choose=leaving, reason="test")
            second = await led_by_another(made, node)
            await put(second, b"between")
            await roll(
                second,
                made.controller(second.topic.leader_id)._metadata,
                choose=lambda *_: Next(node, incarnation, tuple(made.disks)),
                reason="test",
            )
        metadata._refresh()
        third = await made.leader()
        assert third.topic.leader_id == node
        assert values(await read_all(third)) == [b"before", b"between"]
        with pytest.raises(NotLeader):  # What was built on the first reign has to start anew.
            await first.append(batch(b"stale"), acks=ACKS_ALL)
        assert await made.put(b"after") == 2
