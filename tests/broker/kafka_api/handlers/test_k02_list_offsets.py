"""ListOffsets: a wrong answer here is a consumer that starts in the wrong place."""

from dataclasses import replace
from typing import Any

import pytest

from broker.errors import NotLeader
from broker.ports import SegmentView
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import LIST_OFFSETS

T0 = 1_700_000_000_000


async def look_up(node: Node, timestamp: int, version: int = 9, **partition: Any) -> dict[str, Any]:
    wanted = {"partition": 0, "timestamp": timestamp, **partition}
    topics = [{"name": "t", "partitions": [wanted]}]
    answer = await node.connect().ask(LIST_OFFSETS, version, topics=topics)
    ((found,),) = [topic["partitions"] for topic in answer["topics"]]
    return dict(found)


async def filled(node: Node) -> None:
    """Offsets 0, 1, 2 at T0, +1, +2, then 3 at +100, then 4 at +50."""
    partition = await node.create("t")
    await partition.append(batch(b"a", b"b", b"c", timestamp_ms=T0), acks=-1)
    await partition.append(batch(b"d", timestamp_ms=T0 + 100), acks=-1)
    await partition.append(batch(b"e", timestamp_ms=T0 + 50), acks=-1)
    segments = (SegmentView(0, 0, 3, 1, 2, 70), SegmentView(1, 3, None, 1, 3, None))
    partition.view = replace(partition.view, segments=segments)


@pytest.mark.parametrize(
    ("timestamp", "offset", "found_timestamp", "epoch"),
    [
        (-1, 5, -1, 3),
        (-2, 0, -1, 2),
        (-3, 3, T0 + 100, 3),
        (-4, 0, -1, 2),
        (-5, -1, -1, -1),
        (0, 0, T0, 3),
        (T0 + 1, 1, T0 + 1, 3),
        (T0 + 3, 3, T0 + 100, 3),
        (T0 + 100, 3, T0 + 100, 3),
        (T0 + 101, -1, -1, -1),
        (2**63 - 1, -1, -1, -1),
    ],
)
async def test_every_kind_of_question(
    node: Node, timestamp: int, offset: int, found_timestamp: int, epoch: int
) -> None:
    """Exact to the record; what is not found is no error; what is found has its timestamp."""
    await filled(node)
    found = await look_up(node, timestamp)
    assert found["error"] == 0
    assert (found["offset"], found["timestamp"]) == (offset, found_timestamp)
    assert found["leader_epoch"] == epoch


@pytest.mark.parametrize("version", range(1, 10))
async def test_latest_and_earliest_in_every_version(node: Node, version: int) -> None:
    await filled(node)
    assert (await look_up(node, -1, version))["offset"] == 5
    assert (await look_up(node, -2, version))["offset"] == 0


@pytest.mark.parametrize(
    ("timestamp", "version"), [(-3, 6), (-4, 7), (-5, 8), (-6, 9), (-(2**63), 9)]
)
async def test_a_question_the_version_does_not_have_is_unsupported(
    node: Node, timestamp: int, version: int
) -> None:
    await filled(node)
    found = await look_up(node, timestamp, version)
    assert (found["error"], found["offset"]) == (35, -1)


async def test_latest_is_the_watermark_and_not_what_is_merely_written(node: Node) -> None:
    await filled(node)
    partition = node.controller.partitions["t"]
    partition.is_held = True
    await partition.append(batch(b"f"), acks=1)
    assert (await look_up(node, -1))["offset"] == 5


async def test_an_empty_log(node: Node) -> None:
    await node.create("t")
    assert [(await look_up(node, one))["offset"] for one in (-1, -2, -3, 0)] == [0, 0, -1, -1]


@pytest.mark.parametrize(("epoch", "error"), [(-1, 0), (3, 0), (2, 74), (4, 75)])
async def test_a_leader_epoch_is_checked(node: Node, epoch: int, error: int) -> None:
    await filled(node)
    assert (await look_up(node, -1, current_leader_epoch=epoch))["error"] == error


async def test_duplicates_are_answered_each_and_in_order(node: Node) -> None:
    """First and last offset of one partition may be asked in one request."""
    await filled(node)
    wanted = [
        {"partition": 0, "timestamp": -2},
        {"partition": 0, "timestamp": -1},
        {"partition": 1, "timestamp": -1},
    ]
    topics = [{"name": "t", "partitions": wanted}, {"name": "missing", "partitions": wanted[:1]}]
    answer = await node.connect().ask(LIST_OFFSETS, 5, topics=topics)
    told = [
        (topic["name"], one["partition"], one["error"], one["offset"])
        for topic in answer["topics"]
        for one in topic["partitions"]
    ]
    assert told == [("t", 0, 0, 0), ("t", 0, 0, 5), ("t", 1, 3, -1), ("missing", 0, 3, -1)]


@pytest.mark.parametrize(("timestamp", "error"), [(-1, 6), (-3, 6), (-2, 0), (0, 0)])
async def test_a_leader_that_nobody_confirms_does_not_tell_the_newest(
    node: Node, timestamp: int, error: int
) -> None:
    await filled(node)
    node.controller.partitions["t"].unconfirmed = NotLeader("no majority says so")
    assert (await look_up(node, timestamp))["error"] == error


async def test_another_nodes_topic_is_not_leader(node: Node) -> None:
    """An offset from the wrong node would reset the consumer."""
    await filled(node)
    partition = node.controller.partitions["t"]
    partition.view = replace(partition.view, leader_id=2)
    assert (await look_up(node, -1))["error"] == 6
