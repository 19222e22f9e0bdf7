"""DeleteAcls: one answer for each filter."""

import pytest

from tests.broker.kafka_api.admin_layouts import DELETE_ACLS
from tests.broker.kafka_api.harness import Node


@pytest.mark.parametrize("version", range(1, 4))
async def test_security_is_disabled_for_each(node: Node, version: int) -> None:
    answer = await node.connect().ask(DELETE_ACLS, version, filters=[{"resource_name": "t"}, {}])
    assert [(one["error"], one["matching"]) for one in answer["results"]] == [(54, []), (54, [])]
