"""Clients of a topic that has moved: told where to, so that they need not ask."""

from dataclasses import replace

import pytest

from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layout import Message
from tests.broker.kafka_api.layouts import FETCH, PRODUCE

NOT_LEADER = 6
ELSEWHERE = {"id": 2, "host": "127.0.0.2", "port": 9092, "rack": "b"}


async def moved(node: Node) -> dict[str, object]:
    """A topic that node 2 leads now, and the request that does not know it, per API."""
    partition = await node.create("t")
    partition.view = replace(partition.view, leader_id=2, leader_epoch=7)
    return {
        "produce": [{"name": "t", "partitions": [{"index": 0, "records": batch(b"a")}]}],
        "fetch": [
            {
                "topic_id": partition.view.topic_id,
                "partitions": [{"partition": 0, "fetch_offset": 0}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("api", "message", "version"), [("produce", PRODUCE, 10), ("fetch", FETCH, 16)]
)
async def test_a_client_of_the_old_leader_is_told_the_new_one_and_its_address(
    node: Node, api: str, message: Message, version: int
) -> None:
    topics = (await moved(node))[api]
    answer = await node.connect().ask(message, version, topics=topics)
    ((found,),) = [topic["partitions"] for topic in answer["topics"]]
    assert found["error"] == NOT_LEADER
    assert found["current_leader"] == {"id": 2, "epoch": 7}
    assert answer["node_endpoints"] == [ELSEWHERE]


@pytest.mark.parametrize(
    ("api", "message", "version"), [("produce", PRODUCE, 9), ("fetch", FETCH, 15)]
)
async def test_an_older_client_gets_no_field_it_does_not_know(
    node: Node, api: str, message: Message, version: int
) -> None:
    topics = (await moved(node))[api]
    answer = await node.connect().ask(message, version, topics=topics)
    ((found,),) = [topic["partitions"] for topic in answer["topics"]]
    assert found["error"] == NOT_LEADER
    assert "current_leader" not in found
    assert "node_endpoints" not in answer


async def test_nobody_is_sent_to_a_leader_that_is_not_alive(node: Node) -> None:
    topics = (await moved(node))["produce"]
    node.controller.live.pop()
    answer = await node.connect().ask(PRODUCE, 10, topics=topics)
    ((found,),) = [topic["partitions"] for topic in answer["topics"]]
    assert found["error"] == NOT_LEADER
    assert "current_leader" not in found
    assert "node_endpoints" not in answer
