"""OffsetDelete: what is read is kept."""

from tests.broker.kafka_api.group_layouts import OFFSET_DELETE
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import (
    GROUP_ID_NOT_FOUND,
    NON_EMPTY_GROUP,
    OK,
    SUBSCRIBED,
    UNKNOWN_TOPIC_OR_PARTITION,
    Member,
)

T = [{"name": "t", "partitions": [{"partition": 0}, {"partition": 1}]}]


async def delete(node: Node, group: str = "g") -> tuple[int, list[int]]:
    answer = await node.connect().ask(OFFSET_DELETE, 0, group=group, topics=T)
    codes = [one["error"] for topic in answer["topics"] for one in topic["partitions"]]
    return answer["error"], codes


async def test_positions_of_a_group_without_members(node: Node) -> None:
    await node.create("t")
    await Member(node).commit(7)
    assert await delete(node) == (OK, [OK, UNKNOWN_TOPIC_OR_PARTITION])
    assert (await Member(node).committed())["offset"] == -1


async def test_a_topic_that_somebody_reads(node: Node) -> None:
    await node.create("t")
    await (await Member(node).stable()).commit(7)
    assert await delete(node) == (OK, [SUBSCRIBED, UNKNOWN_TOPIC_OR_PARTITION])
    assert (await Member(node).committed())["offset"] == 7


async def test_groups_of_other_kinds(node: Node) -> None:
    await node.create("t")
    await Member(node, protocol_type="connect").join()
    assert await delete(node) == (NON_EMPTY_GROUP, [])
    assert await delete(node, "unheard") == (GROUP_ID_NOT_FOUND, [])
