"""The thing under test is built here, and only here."""

from collections.abc import AsyncIterator

import anyio
import pytest

from tests.broker.kafka_api.harness import Node


@pytest.fixture
async def is_quick() -> bool:
    """Whether connections offer their requests to the quick way first."""
    return False


@pytest.fixture
async def node(is_quick: bool) -> AsyncIterator[Node]:
    """A node that serves the Kafka protocol over a log in memory."""
    node = Node(is_quick=is_quick)
    async with anyio.create_task_group() as tasks:
        node.groups.start(tasks)
        yield node
        tasks.cancel_scope.cancel()
