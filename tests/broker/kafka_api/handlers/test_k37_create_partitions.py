"""CreatePartitions: a clear refusal for every topic, never an empty answer."""

import pytest

from tests.broker.kafka_api.admin_layouts import CREATE_PARTITIONS
from tests.broker.kafka_api.harness import Node


@pytest.mark.parametrize("version", range(4))
async def test_every_topic_is_refused_for_its_own_reason(node: Node, version: int) -> None:
    for name in ("t", "twice"):
        await node.create(name)
    asked = [("t", 4), ("missing", 4), ("twice", 2), ("bad name", 2), ("twice", 2)]
    topics = [{"name": name, "count": count} for name, count in asked]
    answer = await node.connect().ask(CREATE_PARTITIONS, version, topics=topics)
    told = [(one["name"], one["error"]) for one in answer["results"]]
    assert told == [("t", 37), ("missing", 3), ("twice", 42), ("bad name", 17), ("twice", 42)]
    assert all(one["error_message"] for one in answer["results"])
    assert "one partition" in answer["results"][0]["error_message"]


@pytest.mark.parametrize("count", [-1, 0, 1, 2, 1000])
@pytest.mark.parametrize("validate_only", [False, True])
async def test_any_count_is_refused(node: Node, count: int, validate_only: bool) -> None:
    await node.create("t")
    topics = [{"name": "t", "count": count, "assignments": None}]
    answer = await node.connect().ask(
        CREATE_PARTITIONS, 3, topics=topics, validate_only=validate_only
    )
    assert [one["error"] for one in answer["results"]] == [37]


@pytest.mark.parametrize(("count", "error"), [(1, 37), (2, 37), (3, 39)])
async def test_an_assignment_that_does_not_go_with_the_count(
    node: Node, count: int, error: int
) -> None:
    await node.create("t")
    topics = [{"name": "t", "count": count, "assignments": [{"brokers": [1]}]}]
    answer = await node.connect().ask(CREATE_PARTITIONS, 3, topics=topics)
    assert [one["error"] for one in answer["results"]] == [error]
