"""DeleteGroups: never under somebody's feet."""

import pytest

from tests.broker.kafka_api.group_layouts import DELETE_GROUPS
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import (
    GROUP_ID_NOT_FOUND,
    NON_EMPTY_GROUP,
    NOT_COORDINATOR,
    OK,
    Member,
)


@pytest.mark.parametrize("version", range(3))
async def test_each_group_has_its_answer(node: Node, version: int) -> None:
    await node.create("t")
    await Member(node, "members").stable()
    await Member(node, "by hand").commit(1)
    groups = ["members", "unheard", "by hand", "by hand"]
    answer = await node.connect().ask(DELETE_GROUPS, version, groups=groups)
    assert [(one["group"], one["error"]) for one in answer["results"]] == [
        ("members", NON_EMPTY_GROUP),
        ("unheard", GROUP_ID_NOT_FOUND),
        ("by hand", OK),
        ("by hand", GROUP_ID_NOT_FOUND),
    ]
    assert (await Member(node, "by hand").committed())["offset"] == -1


async def test_another_node_coordinates(node: Node) -> None:
    await node.create("t")
    await Member(node).commit(1)
    node.depose("__consumer_offsets")
    answer = await node.connect().ask(DELETE_GROUPS, 2, groups=["g"])
    assert answer["results"][0]["error"] == NOT_COORDINATOR
