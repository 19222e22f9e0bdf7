"""Configs of topics: changes of several people at once are all in force afterwards."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest

from broker.controller.metadata import Metadata
from broker.controller.retention import HIGH_WATERMARK
from broker.controller.topics import Topics
from broker.controller.windows import Windows
from broker.errors import InvalidConfig, InvalidTopic, TopicExists, UnknownTopicId
from raft import commands as c
from raft.state import ClusterState, Segment, Topic
from tests.broker.one_node import TOPICS, put, running
from tests.raft.support import World, create, world


def setting(**configs: str) -> Mapping[str, str]:
    return {key.replace("_", "."): value for key, value in configs.items()}


async def test_a_name_that_no_metric_could_tell_from_another_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        view = await node.controller.create_topic("a.b", configs={})
        for validate_only in (True, False):
            with pytest.raises(InvalidTopic, match="collides"):
                await node.controller.create_topic("a_b", configs={}, validate_only=validate_only)
        with pytest.raises(TopicExists):
            await node.controller.create_topic("a.b", configs={})
        await node.controller.delete_topic(view.topic_id)
        await node.controller.create_topic("a_b", configs={})


class Restless:
    """Metadata in which something happens just before the first topic comes."""

    def __init__(self, at: World, happen: Callable[[World], object]) -> None:
        self._at, self._happen = at, happen

    @property
    def state(self) -> ClusterState:
        return self._at.state

    async def propose(self, command: c.AnyCommand) -> c.Applied:
        happen, self._happen = self._happen, lambda _: None
        happen(self._at)
        return self._at.do(command)


async def test_of_two_nodes_that_take_names_no_metric_could_tell_apart_one_is_refused() -> None:
    """Neither had heard of the other's topic when it asked."""
    at = world()

    def another_node(at: World) -> None:
        at.ok(create(1, "a.b", at.next(1)))

    topics = Topics(cast(Metadata, Restless(at, another_node)))
    with pytest.raises(InvalidTopic, match="collides with the existing topic 'a.b'"):
        await topics.create("a_b", configs={})
    assert list(at.state.names) == ["a.b"]


@pytest.mark.parametrize(
    "happen",
    [
        lambda at: at.register(1),
        lambda at: at.ok(c.FenceBroker(1, at.state.brokers[1].incarnation)),
    ],
    ids=["started anew", "taken for dead"],
)
async def test_a_topic_whose_first_leader_goes_just_then_is_created_all_the_same(
    happen: Callable[[World], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admin clients do not repeat what was answered with REQUEST_TIMED_OUT."""
    monkeypatch.setattr("broker.controller.placement.crc32c", lambda _: 0)
    metadata = Restless(world(3), happen)
    topic = await Topics(cast(Metadata, metadata)).create("t", configs={})
    writer = metadata.state.brokers[topic.last.writer]
    assert (writer.fenced, writer.incarnation) == (False, topic.last.writer_incarnation)


async def test_changes_of_many_at_once_are_all_in_force(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        topic_id = (await node.topic()).topic.topic_id
        calls = 0

        async def change(number: int) -> None:
            def edit(configs: Mapping[str, str]) -> Mapping[str, str]:
                nonlocal calls
                calls += 1
                return {**configs, f"vendor.{number}": "x"}

            await node.controller.configure(topic_id, edit)

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(change, number)
        configs = node.controller.topic("t").configs
        assert configs == {f"vendor.{number}": "x" for number in range(8)}
        assert calls > 8, "nobody had to try again, so this test shows nothing"


async def test_a_change_is_in_force_when_it_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        partition = await node.topic(max_message_bytes="200")
        topic_id = partition.topic.topic_id
        await node.controller.configure(
            topic_id, lambda _: setting(message_timestamp_type="LogAppendTime")
        )
        assert partition.config.max_message_bytes == 1_048_588
        assert partition.config.is_log_append_time
        await put(partition, b"x" * 300)


async def test_nothing_changes_when_it_is_refused_or_only_tried(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        topic_id = (await node.topic(retention_ms="5")).topic.topic_id
        configure = node.controller.configure
        with pytest.raises(InvalidConfig, match=r"retention\.ms"):
            await configure(topic_id, lambda _: setting(retention_ms="x"))
        with pytest.raises(InvalidConfig):
            await configure(topic_id, lambda _: {f"vendor.{n}": "x" for n in range(500)})
        with pytest.raises(UnknownTopicId):
            await configure(uuid4(), lambda _: {})
        await configure(topic_id, lambda _: {}, validate_only=True)
        revision = node.controller.topic("t").configs
        await configure(topic_id, lambda configs: configs)
        assert node.controller.topic("t").configs == revision == {"retention.ms": "5"}


async def test_internal_topics_keep_their_configs(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        view = await node.controller.create_topic("__own", configs={}, is_internal=True)
        with pytest.raises(InvalidTopic):
            await node.controller.configure(view.topic_id, lambda _: {})


async def test_topics_that_come_and_go_leave_nothing_in_memory(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        for number in range(3):
            partition = await node.topic(f"t{number}")
            await put(partition, b"x")
            await node.controller.delete_topic(partition.topic.topic_id)
        logs = node.controller._store.wal._logs
        with anyio.fail_after(10):
            while logs:
                await anyio.sleep(0.01)


async def test_a_topic_that_is_deleted_while_it_is_being_emptied_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_end, asked, may = Windows.at_end, anyio.Event(), anyio.Event()

    async def slowly(windows: Windows, topic: Topic, segment: Segment) -> bytes:
        asked.set()
        await may.wait()
        return await at_end(windows, topic, segment)

    monkeypatch.setattr(Windows, "at_end", slowly)
    async with running(tmp_path) as node:
        partition = await node.topic()
        await put(partition, b"x")
        await node.controller.delete_records(partition.topic, HIGH_WATERMARK)
        with anyio.fail_after(10):
            await asked.wait()
            await node.controller.delete_topic(partition.topic.topic_id)
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            may.set()
            while not node.broker._replicas._housekeeping.is_idle:
                await anyio.sleep(0.01)
        assert node.backend.fs.listdir(TOPICS) == []
