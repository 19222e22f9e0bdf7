"""The thing under test is built here, and only here."""

from collections.abc import AsyncIterator

import anyio
import pytest

from tests.broker.kafka_api.harness import Node, Way


@pytest.fixture
async def way() -> Way:
    return Way.GENERAL


@pytest.fixture
async def node(way: Way) -> AsyncIterator[Node]:
    """A node that serves the Kafka protocol over a log in memory."""
    node = Node(way=way)
    async with anyio.create_task_group() as tasks:
        node.groups.start(tasks)
        yield node
        tasks.cancel_scope.cancel()
