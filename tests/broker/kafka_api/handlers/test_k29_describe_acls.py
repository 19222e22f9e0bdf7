"""DescribeAcls: what a broker without an authorizer says."""

import pytest

from tests.broker.kafka_api.admin_layouts import DESCRIBE_ACLS
from tests.broker.kafka_api.harness import Node


@pytest.mark.parametrize("version", range(1, 4))
async def test_security_is_disabled(node: Node, version: int) -> None:
    answer = await node.connect().ask(DESCRIBE_ACLS, version, resource_name="t")
    assert (answer["error"], answer["resources"]) == (54, [])
    assert "authorizer" in answer["error_message"]
