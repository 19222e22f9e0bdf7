"""A shard under load, and one whose disk or leadership goes away."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from broker.errors import NotLeader, StorageFailed, UnknownTopic
from broker.groups.shards import SHARD_CONFIGS
from broker.groups.state_log import PACK_SIZE_MAX, StateLog
from engine.backends._memory import MemoryBackend
from engine.batch import iter_headers
from engine.format import log_name
from tests.broker.cluster import cluster
from tests.broker.one_node import OneNode, running


async def load(node: OneNode) -> StateLog:
    try:
        topic = node.controller.topic("__consumer_offsets_9")
    except UnknownTopic:
        topic = await node.controller.create_topic(
            "__consumer_offsets_9", configs=SHARD_CONFIGS, is_internal=True
        )
    return await StateLog.load(node.controller, node.controller.partition(topic), node.clock)


async def batches(log: StateLog) -> list[int]:
    """How many changes each batch has."""
    data = await log.partition.read(log.partition.log_start_offset, size_max=1 << 30)
    return [header.record_count for _, header in iter_headers(data)]


def decay(log: StateLog, value: bytes) -> None:
    """One bit of it, on the disk of the node that leads."""
    segment = log.partition.log.segments()[-1]
    path = log.partition.log.directory / str(segment.sid) / log_name(segment.base_offset)
    backend = segment._services.backend
    assert isinstance(backend, MemoryBackend)
    stored = backend.fs.contents(path)
    stored[stored.index(value) + len(value) - 1] ^= 8


class SlowDisk:
    """Once it `is_slow`, its writes wait in `held` for whoever calls them."""

    def __init__(self) -> None:
        self.is_slow = False
        self.held: list[Callable[[], None]] = []
        self.backend = MemoryBackend(schedule=self._schedule)

    def _schedule(self, operation: str, _: int, ready: Callable[[], None]) -> None:
        if self.is_slow and operation == "write":
            self.held.append(ready)
        else:
            ready()


async def test_commits_of_one_turn_that_each_cost_a_batch(tmp_path: Path) -> None:
    async with running(tmp_path) as node, anyio.create_task_group() as tasks:
        log = await load(node)
        tasks.start_soon(log.run)
        durables = [log.put([(b"key %d" % number, b"value")]) for number in range(1000)]
        for durable in durables:
            await durable()
        assert await batches(log) == [1000]
        assert len(log.live) == 1000
        tasks.cancel_scope.cancel()


async def test_a_change_without_a_task_that_overtakes_one_with_a_task(tmp_path: Path) -> None:
    async with running(tmp_path) as node, anyio.create_task_group() as tasks:
        log = await load(node)
        woken: list[Exception | None] = []
        durable = log.put([(b"a", b"1")])
        assert not log.put_now([(b"a", b"2")], woken.append, is_alone=True)
        tasks.start_soon(log.run)
        await durable()
        assert log.put_now([(b"a", b"3")], woken.append, is_alone=False)
        assert log.put_now([(b"b", b"1")], woken.append, is_alone=False)
        assert log.live == {b"a": b"3", b"b": b"1"}
        await log.put([(b"b", b"2")])()
        assert woken == [None, None]
        assert (await load(node)).live == {b"a": b"3", b"b": b"2"}
        log.partition.close(NotLeader("deposed"))
        assert not log.put_now([(b"a", b"4")], woken.append, is_alone=True)
        assert log.live == {b"a": b"3", b"b": b"2"}
        tasks.cancel_scope.cancel()


async def test_a_change_without_a_task_that_is_told_before_it_is_durable(tmp_path: Path) -> None:
    disk = SlowDisk()
    async with (
        running(tmp_path, disk.backend) as node,
        anyio.create_task_group() as tasks,
    ):
        log = await load(node)
        tasks.start_soon(log.run)
        await log.put([(b"a", b"1")])()
        disk.is_slow = True
        woken: list[Exception | None] = []
        assert log.put_now([(b"a", b"2")], woken.append, is_alone=True)
        told: list[bool] = []

        async def tell() -> None:
            await log.settled()()
            told.append(True)

        tasks.start_soon(tell)
        await anyio.wait_all_tasks_blocked()
        assert not woken
        assert not told
        for ready in disk.held:
            ready()
        with anyio.fail_after(10):
            while not told:
                await anyio.sleep(0.01)
        assert woken == [None]
        tasks.cancel_scope.cancel()


async def test_a_pack_that_grows_beyond_what_a_batch_may_have(tmp_path: Path) -> None:
    async with running(tmp_path) as node, anyio.create_task_group() as tasks:
        log = await load(node)
        tasks.start_soon(log.run)
        half = b"x" * (PACK_SIZE_MAX // 2)
        large = b"y" * (PACK_SIZE_MAX * 8)
        values = [half, half, b"", large, b"small"]
        for number, value in enumerate(values):
            durable = log.put([(b"%d" % number, value)])
        await durable()
        assert sum(await batches(log)) == len(values)
        assert max(await batches(log)) <= 2
        again = await load(node)
        assert list(again.live.values()) == values
        tasks.cancel_scope.cancel()


async def test_changes_of_one_call_that_are_torn_apart(tmp_path: Path) -> None:
    async with running(tmp_path) as node, anyio.create_task_group() as tasks:
        log = await load(node)
        log.put([(b"a", b"1"), (b"b", b"1")])
        log.put([(b"a", b"2"), (b"b", None)])
        tasks.start_soon(log.run)
        await log.settled()()
        disk = node.backend.kill_clone()
        tasks.cancel_scope.cancel()
    async with running(tmp_path, disk) as node:
        assert (await load(node)).live == {b"a": b"2"}


async def test_waiting_for_an_append_that_will_never_come(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        log = await load(node)
        durable = log.put([(b"a", b"1")])
        log.fail(NotLeader("moved"))
        with pytest.raises(NotLeader):
            await durable()
        with pytest.raises(NotLeader):
            log.put([(b"b", b"1")])
        with pytest.raises(NotLeader):
            await log.settled()()
        await log.run()
        assert log.live == {}


async def test_an_append_that_is_refused_ends_the_log(tmp_path: Path) -> None:
    async with running(tmp_path) as node, anyio.create_task_group() as tasks:
        log = await load(node)
        tasks.start_soon(log.run)
        await log.put([(b"a", b"1")])()
        log.partition.close(NotLeader("deposed"))
        durables = [log.put([(b"b", b"1")]), log.put([(b"c", b"1")])]
        for durable in durables:
            with pytest.raises(NotLeader):
                await durable()
        assert isinstance(log.failure, NotLeader)
        assert log.live == {b"a": b"1"}
        tasks.cancel_scope.cancel()


async def test_a_shard_that_is_read_back_while_its_last_change_is_on_its_way(
    tmp_path: Path,
) -> None:
    """Who made it is told that it is safe as soon as it is: whoever had read less would take it
    back."""
    disk = SlowDisk()
    async with running(tmp_path, disk.backend) as node, anyio.create_task_group() as tasks:
        log = await load(node)
        tasks.start_soon(log.run)
        await log.put([(b"a", b"1")])()
        disk.is_slow = True
        durable = log.put([(b"a", b"2")])
        await anyio.wait_all_tasks_blocked()
        again: list[StateLog] = []

        async def read_back() -> None:
            again.append(await load(node))

        async with anyio.create_task_group() as readers:
            readers.start_soon(read_back)
            with anyio.fail_after(10):
                while not disk.held:
                    await anyio.sleep(0.01)
            await anyio.wait_all_tasks_blocked()
            for ready in disk.held:
                ready()
        await durable()
        assert again[0].live == {b"a": b"2"}
        tasks.cancel_scope.cancel()


async def test_a_position_that_has_decayed_on_the_disk_is_not_believed(tmp_path: Path) -> None:
    """Its group would go on from there, over records that it has never seen, or over none."""
    async with running(tmp_path) as node, anyio.create_task_group() as tasks:
        log = await load(node)
        tasks.start_soon(log.run)
        await log.put([(b"group", b"position 10")])()
        await log.put([(b"another", b"position 20")])()
        decay(log, b"position 10")
        with pytest.raises(StorageFailed, match="cannot be read at offset 0: no holder"):
            await load(node)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("is_sealed", [False, True], ids=["written", "sealed"])
async def test_positions_that_have_decayed_on_the_leaders_disk_alone(
    tmp_path: Path, is_sealed: bool
) -> None:
    """The other nodes still know them: nobody has to wait for leadership to move."""
    name = "__consumer_offsets_9"
    async with cluster(tmp_path) as made, anyio.create_task_group() as tasks:
        await made.controller(1).create_topic(name, configs=SHARD_CONFIGS, is_internal=True)
        partition = await made.leader(name)
        node = partition.topic.leader_id
        log = await StateLog.load(made.controller(node), partition, made.clock)
        tasks.start_soon(log.run)
        for number in range(10):
            await log.put([(b"group", b"position %d" % number), (b"old", b"there")])()
        await log.put([(b"old", None)])()
        decay(log, b"position 5")
        if is_sealed:
            assert await made.broker(node).leading.roll_in_place(partition, "a test")
        log.fail(NotLeader("a test"))
        await log.ended.wait()
        again = await StateLog.load(made.controller(node), partition, made.clock)
        assert again.live == {b"group": b"position 9"}
        tasks.start_soon(again.run)
        await again.put([(b"group", b"position 10")])()
        once_more = await StateLog.load(made.controller(node), partition, made.clock)
        assert once_more.live == {b"group": b"position 10"}
        tasks.cancel_scope.cancel()


async def test_positions_that_were_carried_over_and_the_new_leader_has_no_copy_of(
    tmp_path: Path,
) -> None:
    """They are in the header of the oldest segment, which this node never held: not asking who does
    would begin with nothing, and every group at its start."""
    name = "__consumer_offsets_9"
    async with (
        cluster(tmp_path, count=4, monitor_interval_ms=50) as made,
        anyio.create_task_group() as tasks,
    ):
        await made.controller(1).create_topic(name, configs=SHARD_CONFIGS, is_internal=True)
        partition = await made.leader(name)
        (opened,), first = partition.metadata.segments, partition.topic.leader_id
        (stranger,) = set(made.disks) - set(opened.replicas)
        log = await StateLog.load(made.controller(first), partition, made.clock)
        tasks.start_soon(log.run)
        await log.put([(b"old", b"1")])()
        assert await made.broker(first).leading.roll(partition, "a test")
        while not partition.log_start_offset:
            await log.put([(b"new", b"2")])()
        made.kill(max(set(opened.replicas) - {first}))
        with anyio.fail_after(20):
            while (leader := (await made.leader(name)).topic.leader_id) != stranger:
                await made.broker(leader).leading.roll_away("a test")
                await anyio.sleep(0.02)
        partition = await made.leader(name)
        assert partition.log.get(partition.metadata.segments[0].sid) is None
        again = await StateLog.load(made.controller(stranger), partition, made.clock)
        assert again.live == {b"old": b"1", b"new": b"2"}
        tasks.cancel_scope.cancel()
