"""LeaveGroup: one member, many members, members that never were."""

import pytest

from tests.broker.kafka_api.group_layouts import LEAVE_GROUP
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import INVALID_GROUP_ID, OK, UNKNOWN_MEMBER, Member


@pytest.mark.parametrize("version", range(3))
async def test_one_member(node: Node, version: int) -> None:
    member = await Member(node).stable()
    for expected in (OK, UNKNOWN_MEMBER):
        answer = await node.connect().ask(
            LEAVE_GROUP, version, group="g", member_id=member.member_id
        )
        assert answer["error"] == expected


@pytest.mark.parametrize("version", range(3, 6))
async def test_many_members_each_with_its_answer(node: Node, version: int) -> None:
    static = Member(node, instance_id="i")
    await static.join()
    members = [
        {"member_id": "nobody"},
        {"member_id": "", "instance_id": "i"},
        {"member_id": "", "instance_id": "j"},
    ]
    answer = await node.connect().ask(LEAVE_GROUP, version, group="g", members=members)
    assert answer["error"] == OK
    assert [one["error"] for one in answer["members"]] == [UNKNOWN_MEMBER, OK, UNKNOWN_MEMBER]
    assert [one["instance_id"] for one in answer["members"]] == [None, "i", "j"]


@pytest.mark.parametrize("version", range(3))
async def test_nobody_is_in_a_group_that_does_not_exist(node: Node, version: int) -> None:
    answer = await node.connect().ask(LEAVE_GROUP, version, group="unheard", member_id="a")
    assert answer["error"] == UNKNOWN_MEMBER


@pytest.mark.parametrize("version", range(3, 6))
async def test_each_is_told_that_it_is_not_in_a_group_that_does_not_exist(
    node: Node, version: int
) -> None:
    """Java's removeMembersFromConsumerGroup looks here; an error at the top is its failure."""
    members = [{"member_id": "a"}, {"member_id": "", "instance_id": "i"}]
    answer = await node.connect().ask(LEAVE_GROUP, version, group="unheard", members=members)
    told = [(one["member_id"], one["instance_id"], one["error"]) for one in answer["members"]]
    assert answer["error"] == OK
    assert told == [("a", None, UNKNOWN_MEMBER), ("", "i", UNKNOWN_MEMBER)]


@pytest.mark.parametrize("version", range(6))
async def test_a_group_without_a_name(node: Node, version: int) -> None:
    answer = await node.connect().ask(LEAVE_GROUP, version, group="")
    assert answer["error"] == INVALID_GROUP_ID
