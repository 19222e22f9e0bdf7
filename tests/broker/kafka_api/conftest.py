"""The thing under test is built here, and only here."""

import pytest

from tests.broker.kafka_api.harness import Node


@pytest.fixture
def node() -> Node:
    """A node that serves the Kafka protocol over a log in memory."""
    return Node()
