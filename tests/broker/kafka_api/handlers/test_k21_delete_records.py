"""DeleteRecords: what is asked to go goes, and nothing else."""

from typing import Any

import pytest

from tests.broker.kafka_api.admin_layouts import DELETE_RECORDS
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node


async def delete(node: Node, offset: int, name: str = "t", version: int = 2) -> dict[str, Any]:
    topics = [{"name": name, "partitions": [{"partition": 0, "offset": offset}]}]
    answer = await node.connect().ask(DELETE_RECORDS, version, topics=topics)
    ((found,),) = [topic["partitions"] for topic in answer["topics"]]
    return dict(found)


async def filled(node: Node, name: str = "t", **configs: str) -> None:
    partition = await node.create(name, **configs)
    await partition.append(batch(b"a", b"b", b"c"), acks=-1)


@pytest.mark.parametrize("version", range(3))
@pytest.mark.parametrize(("offset", "low"), [(0, 0), (2, 2), (3, 3), (-1, 3)])
async def test_the_log_start_moves_to_the_offset(
    node: Node, version: int, offset: int, low: int
) -> None:
    await filled(node)
    found = await delete(node, offset, version=version)
    assert (found["error"], found["low_watermark"]) == (0, low)
    below = await node.connect().fetch("t", low - 1) if low else {"error": 1}
    assert below["error"] == 1


async def test_it_never_moves_back(node: Node) -> None:
    await filled(node)
    await delete(node, 2)
    assert (await delete(node, 1))["low_watermark"] == 2


@pytest.mark.parametrize(
    ("name", "offset", "error"),
    [("t", 4, 1), ("t", -2, 1), ("missing", 0, 3), ("elsewhere", 0, 6), ("compacted", 0, 44)],
)
async def test_what_cannot_be_deleted_is_told_why(
    node: Node, name: str, offset: int, error: int
) -> None:
    await filled(node)
    await filled(node, "elsewhere")
    await filled(node, "compacted", cleanup_policy="compact")
    node.depose("elsewhere")
    found = await delete(node, offset, name)
    assert (found["error"], found["low_watermark"]) == (error, -1)


async def test_internal_topics_are_not_touched(node: Node) -> None:
    await filled(node, "__consumer_offsets_0")
    assert (await delete(node, 0, "__consumer_offsets_0"))["error"] == 17


async def test_partitions_are_answered_each_and_in_order(node: Node) -> None:
    await filled(node)
    wanted = [{"partition": 1, "offset": 0}, {"partition": 0, "offset": 1}]
    topics = [{"name": "missing", "partitions": wanted}, {"name": "t", "partitions": wanted}]
    answer = await node.connect().ask(DELETE_RECORDS, 1, topics=topics)
    told = [
        (topic["name"], one["partition"], one["error"], one["low_watermark"])
        for topic in answer["topics"]
        for one in topic["partitions"]
    ]
    assert told == [("missing", 1, 3, -1), ("missing", 0, 3, -1), ("t", 1, 3, -1), ("t", 0, 0, 1)]
