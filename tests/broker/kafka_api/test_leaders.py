"""Clients of a topic that has moved: told where to, so that they need not ask."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from broker.kafka_api import leaders
from tests.broker.kafka_api.fakes import batch
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layout import Message
from tests.broker.kafka_api.layouts import FETCH, LIST_OFFSETS, METADATA, PRODUCE

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


# ---- between two leaders -------------------------------------------------------------------------

ASKED: dict[str, tuple[Message, int, dict[str, Any]]] = {
    "produce": (
        PRODUCE,
        9,
        {"topics": [{"name": "t", "partitions": [{"index": 0, "records": batch(b"a")}]}]},
    ),
    "fetch": (
        FETCH,
        11,
        {
            "topics": [{"topic": "t", "partitions": [{"partition": 0, "fetch_offset": 0}]}],
            "max_wait_ms": 30_000,
        },
    ),
    "list": (
        LIST_OFFSETS,
        7,
        {"topics": [{"name": "t", "partitions": [{"partition": 0, "timestamp": -1}]}]},
    ),
}


async def ask_between_two_leaders(node: Node, api: str, then: int) -> dict[str, Any]:
    """The answer of a node that learns of the next leader only after it was asked."""
    await node.create("t")
    node.depose("t", leader_id=-1)
    message, version, values = ASKED[api]
    connection = node.connect()
    asked = await connection.send(message, version, **values)
    answers: list[dict[str, Any]] = []

    async def finish() -> None:
        answers.append(asked.one(await asked.answer()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(finish)
        await connection.send(METADATA, 12, topics=[])  # What comes next begins meanwhile.
        await anyio.sleep(3 * leaders.LOOK_S)
        assert not answers, "refused while nobody led"
        node.depose("t", leader_id=then)
    return answers[0]


@pytest.mark.parametrize("api", ["produce", "fetch", "list"])
async def test_a_client_with_few_attempts_gives_up_before_there_is_a_leader(
    node: Node, api: str
) -> None:
    """sarama tries a record four times in 0.4 s, librdkafka asks for an offset three times in
    0.5 s."""
    assert (await ask_between_two_leaders(node, api, then=2))["error"] == NOT_LEADER


async def test_a_question_for_the_end_is_answered_by_the_next_leader_if_it_is_this_node(
    node: Node,
) -> None:
    found = await ask_between_two_leaders(node, "list", then=1)
    assert (found["error"], found["offset"]) == (0, 0)


@pytest.mark.parametrize("api", ["produce", "fetch", "list"])
async def test_a_topic_that_nobody_will_lead_is_refused_in_the_end(
    node: Node, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaders, "LEADER_WAIT_S", 0.01)
    await node.create("t")
    node.depose("t", leader_id=-1)
    message, version, values = ASKED[api]
    asked = await node.connect().send(message, version, **values)
    assert asked.one(await asked.answer())["error"] == NOT_LEADER


async def test_a_topic_without_leader_keeps_nobody_from_the_records_of_another(node: Node) -> None:
    await node.create("t")
    node.depose("t", leader_id=-1)
    other = await node.create("other")
    topics = [
        {"topic": name, "partitions": [{"partition": 0, "fetch_offset": 0}]}
        for name in ("t", "other")
    ]
    asked = await node.connect().send(FETCH, 11, topics=topics, max_wait_ms=30_000)
    with anyio.fail_after(leaders.LEADER_WAIT_S / 2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asked.answer)
            await anyio.wait_all_tasks_blocked()
            await other.append(batch(b"a"), acks=-1)
