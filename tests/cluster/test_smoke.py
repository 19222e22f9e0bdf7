"""Messages that one node takes and another does not give."""

import pytest

from tests.cluster.clients import get_all, native, numbered, put
from tests.cluster.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_messages_lost_between_two_nodes(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.register("logs")
    payloads = numbered("message", range(20))
    leader = cluster.leader("logs")
    assert leader is not None
    with native(leader) as client:
        for payload in payloads:
            put(client, "logs", payload)
    with native(cluster.nodes[2]) as client:
        assert get_all(client, "logs") == payloads
    for node in cluster.nodes.values():
        with native(node) as client:
            assert client.get("logs") is None, f"node {node.node_id} hands something out twice"
        assert node.state("logs")["sealed_segments"] == {}


def test_clients_that_know_one_node_only(make_cluster: MakeCluster) -> None:
    """Each message is put at one node and taken at the next."""
    cluster = make_cluster()
    cluster.register("logs")
    nodes = list(cluster.nodes.values())
    for number, payload in enumerate(numbered("message", range(12))):
        with native(nodes[number % 3]) as client:
            put(client, "logs", payload)
        with native(nodes[(number + 1) % 3]) as client:
            assert get_all(client, "logs") == [payload]
