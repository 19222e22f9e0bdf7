"""DescribeLogDirs: what the disk of this node holds."""

import pytest

from tests.broker.kafka_api.admin_layouts import DESCRIBE_LOG_DIRS
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node


@pytest.mark.parametrize("version", range(1, 5))
async def test_one_directory_and_the_size_of_each_topic(node: Node, version: int) -> None:
    data = batch(b"one", b"two")
    await (await node.create("t")).append(data, acks=-1)
    await node.create("empty")
    answer = await node.connect().ask(DESCRIBE_LOG_DIRS, version, topics=None)
    (found,) = answer["results"]
    assert (answer.get("error", 0), found["error"], found["log_dir"]) == (0, 0, "/data")
    told = {
        topic["name"]: [(one["partition"], one["size"], one["offset_lag"], one["is_future"])
                        for one in topic["partitions"]]
        for topic in found["topics"]
    }  # fmt: skip
    assert told == {"t": [(0, len(data), 0, False)], "empty": [(0, 0, 0, False)]}
    if version >= 4:
        assert (found["total_size"], found["usable_size"]) == (1000, 400)


@pytest.mark.parametrize(
    ("asked", "names"),
    [([("t", [0])], ["t"]), ([("t", [1])], []), ([("missing", [0])], []), ([], [])],
)
async def test_only_what_is_asked_for(
    node: Node, asked: list[tuple[str, list[int]]], names: list[str]
) -> None:
    await node.create("t")
    await node.create("u")
    topics = [{"topic": name, "partitions": partitions} for name, partitions in asked]
    answer = await node.connect().ask(DESCRIBE_LOG_DIRS, 4, topics=topics)
    assert [topic["name"] for topic in answer["results"][0]["topics"]] == names
