"""OffsetFetch: an error that looks like "nothing committed" sends a consumer to the beginning."""

from typing import Any

import pytest

from broker.errors import Loading, MetadataUnavailable, NotLeader
from broker.groups.shards import shard_of
from tests.broker.kafka_api.group_layouts import OFFSET_FETCH
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import (
    LOADING,
    NOT_COORDINATOR,
    OK,
    Member,
)


@pytest.mark.parametrize("version", range(1, 10))
async def test_a_failure_stands_at_the_top_and_in_every_partition(node: Node, version: int) -> None:
    """aiokafka reads the partitions alone, Java and librdkafka the top first."""
    await node.create("t")
    member = Member(node)
    assert await member.commit(7) == OK
    node.depose("__consumer_offsets")
    found = await member.committed(version)
    assert found["error"] == NOT_COORDINATOR
    assert found["offset"] == -1
    if version >= 2:
        assert found["top"] == NOT_COORDINATOR


@pytest.mark.parametrize("version", range(1, 10))
async def test_a_shard_that_loads_is_not_an_empty_one(
    node: Node, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.create("t")
    member = Member(node)
    assert await member.commit(7) == OK

    async def loading(*_: Any) -> Any:
        raise Loading("soon")

    monkeypatch.setattr(node.groups, "offsets", loading)
    assert (await member.committed(version))["error"] == LOADING
    monkeypatch.undo()
    assert (await member.committed(version))["offset"] == 7


async def test_a_shard_that_is_lost_and_won_back_while_it_is_read(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.create("t")
    member = Member(node)
    assert await member.commit(7) == OK
    (shard,) = node.groups._shards
    partition, drained = shard.log.partition, shard.log.partition.drained
    shard.close()

    async def lost() -> None:
        monkeypatch.setattr(partition, "drained", drained)
        raise NotLeader("it is elsewhere now")

    monkeypatch.setattr(partition, "drained", lost)
    assert (await member.committed())["offset"] == 7


async def test_unavailable_is_said_as_loading_which_aiokafka_retries(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.create("t")

    async def unavailable(*_: Any) -> Any:
        raise MetadataUnavailable("no quorum")

    monkeypatch.setattr(node.groups, "offsets", unavailable)
    assert (await Member(node).committed(3))["error"] == LOADING


@pytest.mark.parametrize("version", range(1, 10))
async def test_nothing_committed_is_no_error(node: Node, version: int) -> None:
    """sarama wants an empty note, not null."""
    await node.create("t")
    found = await Member(node).committed(version)
    assert (found["offset"], found["error"], found["metadata"]) == (-1, OK, "")


@pytest.mark.parametrize("version", range(2, 10))
async def test_all_topics_of_a_group(node: Node, version: int) -> None:
    for name in ("t", "u"):
        await node.create(name)
    member = Member(node)
    assert await member.commit(7) == OK
    asked = {"group": "g", "topics": None}
    answer = await node.connect().ask(
        OFFSET_FETCH, version, **(asked if version < 8 else {"groups": [asked]})
    )
    found = answer if version < 8 else answer["groups"][0]
    assert [(topic["name"], topic["partitions"][0]["offset"]) for topic in found["topics"]] == [
        ("t", 7)
    ]


async def test_topics_and_partitions_that_do_not_exist_have_no_position(node: Node) -> None:
    """As with Kafka: Java raises an error to the application for any other answer."""
    await node.create("t")
    assert await Member(node).commit(7) == OK
    topics = [{"name": "t", "partitions": [1, 0]}, {"name": "missing", "partitions": [0]}]
    answer = await node.connect().ask(OFFSET_FETCH, 5, group="g", topics=topics)
    found = [
        (one["partition"], one["offset"], one["error"])
        for topic in answer["topics"]
        for one in topic["partitions"]
    ]
    assert found == [(1, -1, OK), (0, 7, OK), (0, -1, OK)]


async def test_one_of_many_groups_fails_alone(node: Node) -> None:
    await node.create("t")
    assert await Member(node, "g").commit(7) == OK
    assert await Member(node, "h").commit(8) == OK
    shard = f"__consumer_offsets_{shard_of('g')}"
    assert shard_of("g") != shard_of("h")
    node.depose(shard)
    asked = [{"group": name, "topics": [{"name": "t", "partitions": [0]}]} for name in ("g", "h")]
    answer = await node.connect().ask(OFFSET_FETCH, 9, groups=asked)
    assert [group["error"] for group in answer["groups"]] == [NOT_COORDINATOR, OK]


async def test_a_topic_made_anew_starts_without_the_old_ones_position(node: Node) -> None:
    partition = await node.create("t")
    assert await Member(node).commit(7) == OK
    await node.controller.delete_topic(partition.topic.topic_id)
    await node.create("t")
    assert (await Member(node).committed())["offset"] == -1
