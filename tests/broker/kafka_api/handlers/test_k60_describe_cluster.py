"""DescribeCluster: what admin clients and Connect ask first."""

from typing import Any

import pytest

from tests.broker.kafka_api.harness import Node
from tests.broker.kafka_api.layouts import DESCRIBE_CLUSTER


async def describe(node: Node, version: int = 2, **values: Any) -> dict[str, Any]:
    return await node.connect("OUTSIDE").ask(DESCRIBE_CLUSTER, version, **values)


@pytest.mark.parametrize("version", range(3))
async def test_the_cluster_as_this_listener_sees_it(node: Node, version: int) -> None:
    answer = await describe(node, version)
    assert (answer["error"], answer["cluster_id"]) == (0, "walrus-test-cluster")
    assert answer["controller_id"] == 1
    told = [(one["broker_id"], one["port"], one["rack"]) for one in answer["brokers"]]
    assert told == [(1, 19092, None), (2, 19092, "b")]


async def test_authorized_operations_are_a_bit_field_when_asked(node: Node) -> None:
    assert (await describe(node, include_operations=True))["operations"] == 8096
    assert (await describe(node))["operations"] == -(2**31)


@pytest.mark.parametrize(("endpoint", "error"), [(2, 114), (3, 115), (0, 115), (-1, 115)])
async def test_what_is_no_broker_is_not_described(node: Node, endpoint: int, error: int) -> None:
    answer = await describe(node, endpoint_type=endpoint)
    assert (answer["error"], answer["brokers"], answer["endpoint_type"]) == (error, [], endpoint)
