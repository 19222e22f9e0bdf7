"""A cluster that survives one restart and not the next."""

import signal

import pytest

from tests.cluster.clients import get_all, native, numbered, put
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Cluster, Node, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def _end(cluster: Cluster, *, gracefully: bool) -> None:
    number = signal.SIGTERM if gracefully else signal.SIGKILL
    for node in cluster.nodes.values():
        node.signal(number)
    for node in cluster.nodes.values():
        assert node.process is not None
        code = node.process.wait(60)
        assert code == 0 or not gracefully, node.log_tail()


def test_messages_and_cursors_that_a_restart_forgets(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.register("logs")
    for round_number, gracefully in enumerate((True, False, True)):
        payloads = numbered(f"round-{round_number}", range(10))
        with native(cluster.nodes[1]) as client:
            for payload in payloads:
                put(client, "logs", payload)
        _end(cluster, gracefully=gracefully)
        cluster.start()
        with native(cluster.nodes[2]) as client:
            assert get_all(client, "logs") == payloads
            put(client, "logs", b"one more")
        with native(cluster.nodes[3]) as client:
            assert get_all(client, "logs") == [b"one more"]


def _waits_for_others(node: Node) -> bool:
    try:
        return "waiting for a majority" in node.get("/readyz")[1]
    except OSError:
        return False


def test_nodes_that_must_be_started_in_an_order(make_cluster: MakeCluster) -> None:
    """The last one to come is the one that formed the cluster, long after the others."""
    cluster = make_cluster()
    cluster.register("logs")
    with native(cluster.nodes[1]) as client:
        put(client, "logs", b"kept")
    _end(cluster, gracefully=False)
    cluster.nodes[3].start()
    wait_until(lambda: _waits_for_others(cluster.nodes[3]), "what it waits for is said")
    cluster.nodes[2].start()
    cluster.nodes[2].wait_until_ready()
    cluster.nodes[3].wait_until_ready()
    with native(cluster.nodes[3]) as client:
        assert get_all(client, "logs") == [b"kept"]
    cluster.nodes[1].start()
    cluster.wait_ready()
