"""Heartbeat: a wrong answer throws a good member out."""

from typing import Any

import pytest

from broker.errors import Loading
from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.members import (
    ILLEGAL_GENERATION,
    INVALID_GROUP_ID,
    NOT_COORDINATOR,
    OK,
    REBALANCING,
    UNKNOWN_MEMBER,
    Member,
)


@pytest.mark.parametrize("version", range(5))
async def test_each_state_has_its_answer(node: Node, version: int) -> None:
    member = await Member(node).stable()
    assert await member.heartbeat(version) == OK
    member.generation = 0
    assert await member.heartbeat(version) == ILLEGAL_GENERATION
    member.generation = 1
    other = await Member(node).send_join(0)
    assert await member.heartbeat(version) == REBALANCING
    await member.join()
    await other.answer()
    assert await member.heartbeat(version) == OK
    await member.leave()
    assert await member.heartbeat(version) == UNKNOWN_MEMBER
    assert await Member(node, "unheard").heartbeat(version) == UNKNOWN_MEMBER
    assert await Member(node, "").heartbeat(version) == INVALID_GROUP_ID


async def test_another_node_coordinates(node: Node) -> None:
    member = await Member(node).stable()
    node.depose("__consumer_offsets")
    assert await member.heartbeat() == NOT_COORDINATOR


@pytest.mark.parametrize("version", range(5))
async def test_a_group_that_is_being_read_back_throws_nobody_out(
    node: Node, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number that they do not expect here ends aiokafka's coordinator, and sarama's session."""
    member = await Member(node).stable()

    async def loading(*_: Any) -> Any:
        raise Loading("soon")

    monkeypatch.setattr(node.groups, "heartbeat", loading)
    assert await member.heartbeat(version) == OK
