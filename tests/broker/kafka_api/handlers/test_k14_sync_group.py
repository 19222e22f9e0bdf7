"""SyncGroup: nobody consumes by an assignment that is not the leader's, or not durable."""

from typing import Any

import anyio
import pytest

from broker.errors import Loading
from broker.groups.generations import EMPTY_ASSIGNMENT
from tests.broker.kafka_api.group_layouts import SYNC_GROUP
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import (
    ILLEGAL_GENERATION,
    INCONSISTENT_PROTOCOL,
    INVALID_GROUP_ID,
    OK,
    REBALANCING,
    UNKNOWN_MEMBER,
    Member,
)


async def pair(node: Node) -> tuple[Member, Member]:
    """A leader and a follower that have joined."""
    leader, follower = Member(node), Member(node)
    asked = [await leader.send_join(0), await follower.send_join(0)]
    for member, one in zip((leader, follower), asked, strict=True):
        await member.joined(one)
    return leader, follower


@pytest.mark.parametrize("version", range(6))
async def test_a_follower_waits_for_the_leader_and_the_leader_for_the_disk(
    node: Node, version: int
) -> None:
    leader, follower = await pair(node)
    (shard,) = [one for name, one in node.controller.partitions.items() if name.startswith("__")]
    shard.is_held = True
    followed = await follower.send_sync(version)
    led = await leader.send_sync(
        version, {leader.member_id: b"for the leader", follower.member_id: b"for the follower"}
    )
    with anyio.move_on_after(0.1) as scope:
        await led.finish()
    assert scope.cancelled_caught, "an assignment was handed out before it was durable"
    shard.release()
    answer = await followed.answer()
    assert (answer["error"], answer["assignment"]) == (OK, b"for the follower")
    if version >= 5:
        assert (answer["protocol_type"], answer["protocol"]) == ("consumer", "range")


async def test_a_member_that_the_leader_forgot_gets_an_assignment_of_nothing(node: Node) -> None:
    """To franz-go no bytes are an error."""
    leader, follower = await pair(node)
    followed = await follower.send_sync()
    await (await leader.send_sync(5, {leader.member_id: b"all"})).answer()
    assert (await followed.answer())["assignment"] == EMPTY_ASSIGNMENT


async def test_refusals(node: Node) -> None:
    member = await Member(node).stable()
    good: dict[str, Any] = {
        "group": "g", "generation": 1, "member_id": member.member_id,
        "protocol_type": "consumer", "protocol": "range",
    }  # fmt: skip
    for change, expected in (
        ({"group": ""}, INVALID_GROUP_ID),
        ({"group": "unheard"}, UNKNOWN_MEMBER),
        ({"member_id": "nobody"}, UNKNOWN_MEMBER),
        ({"generation": 2}, ILLEGAL_GENERATION),
        ({"protocol": "sticky"}, INCONSISTENT_PROTOCOL),
        ({"protocol_type": "connect"}, INCONSISTENT_PROTOCOL),
        ({"protocol_type": None}, INCONSISTENT_PROTOCOL),
        ({"protocol": None}, INCONSISTENT_PROTOCOL),
        ({}, OK),
    ):
        answer = await node.connect().ask(SYNC_GROUP, 5, **(good | change))
        assert answer["error"] == expected, change


@pytest.mark.parametrize("version", range(6))
async def test_a_group_that_is_being_read_back_is_joined_again(
    node: Node, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java's consumer throws any other number here at the application."""
    member = await Member(node).stable()

    async def loading(*_: Any) -> Any:
        raise Loading("soon")

    monkeypatch.setattr(node.groups, "sync", loading)
    assert (await (await member.send_sync(version)).answer())["error"] == REBALANCING
    monkeypatch.undo()
    assert (await (await member.send_sync(version)).answer())["assignment"] == b"all"
