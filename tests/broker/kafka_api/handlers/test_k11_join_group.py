"""JoinGroup: what clients of each age are told. What happens in the group: tests/broker/groups."""

import anyio
import pytest

from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import (
    INCONSISTENT_PROTOCOL,
    INVALID_GROUP_ID,
    INVALID_SESSION_TIMEOUT,
    MEMBER_ID_REQUIRED,
    NOT_COORDINATOR,
    OK,
    SUBSCRIPTION,
    UNKNOWN_MEMBER,
    Member,
)


@pytest.mark.parametrize("version", range(10))
async def test_the_first_member_leads_the_first_generation(node: Node, version: int) -> None:
    member = Member(node)
    first = await member.joined(await member.send_join(version))
    if version >= 4:
        assert first["error"] == MEMBER_ID_REQUIRED
        assert first["member_id"].startswith("test-"), "people look for the client's name in it"
        assert first["generation"] == -1
        first = await member.joined(await member.send_join(version))
    assert (first["error"], first["generation"]) == (OK, 1)
    assert first["leader"] == first["member_id"]
    assert [(one["member_id"], one["metadata"]) for one in first["members"]] == [
        (first["member_id"], SUBSCRIPTION)
    ]
    assert first["protocol" if version < 7 else "nullable_protocol"] == "range"
    assert first.get("protocol_type") == ("consumer" if version >= 7 else None)


@pytest.mark.parametrize("version", range(10))
async def test_a_refusal_names_no_protocol_and_no_generation(node: Node, version: int) -> None:
    answer = await Member(node, session_ms=10).join(version)
    assert answer["error"] == INVALID_SESSION_TIMEOUT
    assert (answer["generation"], answer["leader"], answer["members"]) == (-1, "", [])
    if version < 7:
        assert answer["protocol"] == ""
    else:
        assert answer["nullable_protocol"] is None


async def test_followers_are_told_nothing_about_each_other(node: Node) -> None:
    members = [Member(node) for _ in range(3)]
    answers = []

    async def join(member: Member) -> None:
        answers.append(await member.join())

    async with anyio.create_task_group() as tasks:
        for member in members:
            tasks.start_soon(join, member)
    assert {answer["generation"] for answer in answers} == {1}
    assert len({answer["leader"] for answer in answers}) == 1
    assert sorted(len(answer["members"]) for answer in answers) == [0, 0, 3]


async def test_a_static_member_needs_no_second_step(node: Node) -> None:
    member = Member(node, instance_id="i")
    answer = await member.joined(await member.send_join())
    assert answer["error"] == OK
    assert answer["member_id"].startswith("i-")
    assert [one["instance_id"] for one in answer["members"]] == ["i"]


async def test_names_that_cannot_be(node: Node) -> None:
    assert (await Member(node, "").join())["error"] == INVALID_GROUP_ID
    assert (await Member(node, protocol_type="").join())["error"] == INCONSISTENT_PROTOCOL
    assert (await Member(node, protocols=[]).join())["error"] == INCONSISTENT_PROTOCOL
    stranger = Member(node)
    stranger.member_id = "nobody"
    assert (await stranger.join())["error"] == UNKNOWN_MEMBER


async def test_another_node_coordinates(node: Node) -> None:
    member = await Member(node).stable()
    node.depose("__consumer_offsets")
    assert (await member.join())["error"] == NOT_COORDINATOR
