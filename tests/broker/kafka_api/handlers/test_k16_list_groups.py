"""ListGroups: each group once, on the node that coordinates it."""

from typing import Any

import pytest

from tests.broker.kafka_api.group_layouts import LIST_GROUPS
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import OK, Member


async def listed(node: Node, version: int = 5, **filters: Any) -> dict[str, tuple[str, str]]:
    answer = await node.connect().ask(LIST_GROUPS, version, **filters)
    assert answer["error"] == OK
    return {one["group"]: (one["protocol_type"], one.get("state", "")) for one in answer["groups"]}


@pytest.mark.parametrize("version", range(6))
async def test_groups_with_members_and_groups_by_hand(node: Node, version: int) -> None:
    await node.create("t")
    assert await listed(node, version) == {}
    await Member(node, "members").stable()
    await Member(node, "by hand").commit(1)
    states = ("Stable", "Empty") if version >= 4 else ("", "")
    assert await listed(node, version) == {
        "members": ("consumer", states[0]),
        "by hand": ("", states[1]),
    }


async def test_filters(node: Node) -> None:
    await node.create("t")
    await Member(node, "members").stable()
    await Member(node, "by hand").commit(1)
    assert (await listed(node, states=["stable"])).keys() == {"members"}
    assert (await listed(node, states=["Stable", "Empty"])).keys() == {"members", "by hand"}
    assert await listed(node, states=["Unheard"]) == {}
    assert (await listed(node, types=["Classic"])).keys() == {"members", "by hand"}
    assert await listed(node, types=["consumer", "share"]) == {}


async def test_groups_of_another_node_are_its_own(node: Node) -> None:
    await Member(node).stable()
    node.depose("__consumer_offsets")
    assert await listed(node) == {}
