"""DescribeGroups: what operators decide by."""

import pytest

from broker.errors import NotLeader
from broker.groups.shards import shard_of
from tests.broker.kafka_api.group_layouts import DESCRIBE_GROUPS
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import (
    GROUP_ID_NOT_FOUND,
    NOT_COORDINATOR,
    OK,
    SUBSCRIPTION,
    Member,
)


@pytest.mark.parametrize("version", range(7))
async def test_a_stable_group(node: Node, version: int) -> None:
    member = await Member(node).stable()
    answer = await node.connect().ask(DESCRIBE_GROUPS, version, groups=["g"])
    (group,) = answer["groups"]
    assert (group["error"], group["state"]) == (OK, "Stable")
    assert (group["protocol_type"], group["protocol"]) == ("consumer", "range")
    (one,) = group["members"]
    assert (one["member_id"], one["client_id"], one["client_host"]) == (
        member.member_id,
        "test",
        "/127.0.0.1",
    )
    assert (one["metadata"], one["assignment"]) == (SUBSCRIPTION, b"all")


async def test_a_rebalancing_group_shows_members_and_nothing_unsettled(node: Node) -> None:
    await Member(node).stable()
    await Member(node).send_join(0)
    answer = await node.connect().ask(DESCRIBE_GROUPS, 5, groups=["g"])
    (group,) = answer["groups"]
    assert (group["state"], group["protocol"]) == ("PreparingRebalance", "")
    assert [(one["metadata"], one["assignment"]) for one in group["members"]] == [(b"", b"")] * 2


@pytest.mark.parametrize("version", range(7))
async def test_a_group_that_does_not_exist_is_dead(node: Node, version: int) -> None:
    answer = await node.connect().ask(DESCRIBE_GROUPS, version, groups=["unheard"])
    (group,) = answer["groups"]
    assert group["state"] == "Dead"
    assert group["error"] == (GROUP_ID_NOT_FOUND if version >= 6 else OK)


async def test_authorized_operations_only_for_those_who_ask(node: Node) -> None:
    """The smallest integer means "not asked", and is no bit field."""
    await Member(node).stable()
    for is_asked, expected in ((False, -(2**31)), (True, 0xD48)):
        answer = await node.connect().ask(
            DESCRIBE_GROUPS, 5, groups=["g", "dead"], include_operations=is_asked
        )
        assert [group["operations"] for group in answer["groups"]] == [expected] * 2


async def test_another_node_coordinates(node: Node) -> None:
    await Member(node).stable()
    node.depose("__consumer_offsets")
    answer = await node.connect().ask(DESCRIBE_GROUPS, 5, groups=["g"])
    assert answer["groups"][0]["error"] == NOT_COORDINATOR


async def test_a_group_that_lives_elsewhere_is_not_dead(node: Node) -> None:
    """Its coordinator was deposed and does not know yet."""
    await Member(node).stable()
    unheard = next(name for name in map(str, range(100)) if shard_of(name) == shard_of("g"))
    for partition in node.controller.partitions.values():
        partition.unconfirmed = NotLeader("no majority says so")
    answer = await node.connect().ask(DESCRIBE_GROUPS, 6, groups=[unheard])
    assert answer["groups"][0]["error"] == NOT_COORDINATOR


async def test_a_group_whose_shard_is_read_back_at_that_moment_is_not_dead(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Member(node).stable()
    (shard,) = node.groups._shards

    async def confirmed() -> None:
        shard.close()

    monkeypatch.setattr(shard.log.partition, "confirmed", confirmed)
    answer = await node.connect().ask(DESCRIBE_GROUPS, 6, groups=["g"])
    assert answer["groups"][0]["state"] == "Stable"
