"""CreateAcls: a tool that grants something must learn that nothing was granted."""

import pytest

from tests.broker.kafka_api.admin_layouts import CREATE_ACLS
from tests.broker.kafka_api.harness import Node


@pytest.mark.parametrize("version", range(1, 4))
async def test_security_is_disabled_for_each(node: Node, version: int) -> None:
    acl = {"resource_name": "t", "principal": "User:a", "host": "*"}
    answer = await node.connect().ask(CREATE_ACLS, version, creations=[acl, acl])
    assert [one["error"] for one in answer["results"]] == [54, 54]
    assert all("authorizer" in one["error_message"] for one in answer["results"])
