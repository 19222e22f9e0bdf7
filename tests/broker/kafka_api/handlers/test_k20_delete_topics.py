"""DeleteTopics: gone means gone, and only what was asked."""

import uuid
from typing import Any

import pytest

from broker.errors import MetadataUnavailable
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import DELETE_TOPICS


async def delete(node: Node, version: int = 6, **values: Any) -> list[Any]:
    answer = await node.connect().ask(DELETE_TOPICS, version, **values)
    return list(answer["topics"])


@pytest.mark.parametrize("version", range(1, 6))
async def test_by_name_and_gone_at_once(node: Node, version: int) -> None:
    await node.create("t")
    await node.create("keep")
    told = await delete(node, version, names=["t", "missing"])
    assert [(one["name"], one["error"]) for one in told] == [("t", 0), ("missing", 3)]
    answer = await node.metadata(topics=[{"name": "t"}], allow_auto_create=False)
    assert answer["topics"][0]["error"] == 3
    assert list(node.controller.partitions) == ["keep"]


async def test_by_id_or_by_name_in_v6(node: Node) -> None:
    a = (await node.create("a")).view.topic_id
    b = (await node.create("b")).view.topic_id
    missing = uuid.uuid4()
    topics = [{"topic_id": a}, {"name": "b"}, {"topic_id": missing}, {"name": "missing"}]
    told = await delete(node, topics=topics)
    assert [(one["name"], one["topic_id"], one["error"]) for one in told] == [
        ("a", a, 0),
        ("b", b, 0),
        (None, missing, 100),
        ("missing", uuid.UUID(int=0), 3),
    ]


async def test_neither_or_both_is_a_contradiction(node: Node) -> None:
    partition = await node.create("t")
    both = {"name": "t", "topic_id": partition.view.topic_id}
    assert [one["error"] for one in await delete(node, topics=[{}, both])] == [42, 42]
    assert "t" in node.controller.partitions


async def test_the_same_topic_twice_is_refused_both_times(node: Node) -> None:
    await node.create("t")
    assert [one["error"] for one in await delete(node, 4, names=["t", "t"])] == [42, 42]
    assert "t" in node.controller.partitions


async def test_internal_topics_stay(node: Node) -> None:
    await node.create("__state")
    assert [one["error"] for one in await delete(node, topics=[{"name": "__state"}])] == [17]
    assert "__state" in node.controller.partitions


async def test_a_topic_that_another_node_has_just_made_is_deleted_and_not_called_unknown(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metadata reaches a node that stood still later than its client."""
    await node.create("new")
    made = node.controller.partitions.pop("new")
    times = 0

    async def catch_up() -> None:
        nonlocal times
        times += 1
        node.controller.partitions["new"] = made

    monkeypatch.setattr(node.controller, "caught_up", catch_up)
    told = await delete(node, topics=[{"name": "new"}, {"name": "missing"}, {"name": "none"}])
    assert [one["error"] for one in told] == [0, 3, 3]
    assert times == 1


async def test_nothing_is_called_unknown_while_the_metadata_cannot_be_asked(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable() -> None:
        raise MetadataUnavailable("no majority")

    monkeypatch.setattr(node.controller, "caught_up", unavailable)
    assert [one["error"] for one in await delete(node, topics=[{"name": "t"}])] == [7]
