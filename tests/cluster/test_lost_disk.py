"""A node whose disk is gone, and two nodes that are gone at once."""

import shutil
from collections.abc import Sequence
from functools import partial

import pytest
from confluent_kafka.admin import AdminClient

from tests.chaos.verdict import read_all
from tests.cluster.clients import get_all, native, numbered, put
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Node, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def _write(node: Node, payloads: list[bytes]) -> None:
    with native(node) as client:
        for payload in payloads:
            put(client, "logs", payload)


@pytest.mark.parametrize("lost", [1, 3])
def test_a_disk_that_is_replaced(make_cluster: MakeCluster, lost: int) -> None:
    """Also that of the node which formed the cluster."""
    cluster = make_cluster(max_segment_entries=10, monitor_check_ms=50)
    cluster.register("logs")
    before, during, after = (numbered(word, range(25)) for word in ("before", "during", "after"))
    _write(cluster.nodes[2], before)
    node = cluster.nodes[lost]
    node.kill()
    _write(cluster.nodes[2], during)
    shutil.rmtree(node.folder / "data")
    node.join = cluster.nodes[2].peer
    node.start()
    cluster.wait_ready()
    by = cluster.nodes[2]
    wait_until(lambda: cluster.has_all_copies(by), "every copy is made anew", timeout_s=90)
    _write(node, after)
    assert read_all(node.kafka, "logs") == list(enumerate([*before, *during, *after]))
    with native(node) as client:
        assert get_all(client, "logs") == [*before, *during, *after]


def test_an_idle_topic_whose_disks_are_replaced_one_after_the_other(
    make_cluster: MakeCluster,
) -> None:
    """Each time when every copy is said to be there again. Nothing but its leader is left of the
    first disks, and then that one dies."""
    cluster = make_cluster(monitor_check_ms=50)
    cluster.register("logs")
    payloads = numbered("message", range(5))
    _write(cluster.nodes[1], payloads)
    leader = cluster.leader("logs")
    assert leader is not None
    for node in cluster.nodes.values():
        if node is leader:
            continue
        node.kill()
        shutil.rmtree(node.folder / "data")
        node.join = leader.peer
        node.start()
        cluster.wait_ready()
        wait_until(partial(cluster.has_all_copies, leader), "every copy is made anew")
    last = cluster.leader("logs")
    assert last is not None
    last.kill()
    left = next(node for node in cluster.nodes.values() if node is not last)
    wait_until(lambda: cluster.leader("logs") not in (None, last), "another node leads")
    _write(left, [b"goes on"])
    assert [value for _, value in read_all(left.kafka, "logs")] == [*payloads, b"goes on"]


def test_the_first_node_that_loses_its_disk_and_is_started_with_the_same_words(
    make_cluster: MakeCluster,
) -> None:
    """With `--bootstrap`, as in a compose file; before the others are up again."""
    cluster = make_cluster(max_segment_entries=10, monitor_check_ms=50)
    cluster.register("logs")
    payloads = numbered("message", range(25))
    _write(cluster.nodes[2], payloads)
    for node in cluster.nodes.values():
        node.stop()
    first = cluster.nodes[1]
    shutil.rmtree(first.folder / "data")
    first.join = ",".join(cluster.nodes[other].peer for other in (2, 3))
    first.arguments = ["--bootstrap"]
    first.start()
    wait_until(lambda: "waiting for a majority" in first.log_path.read_text(), "it asks the others")
    for other in (2, 3):
        cluster.nodes[other].start()
    cluster.wait_ready()
    by = cluster.nodes[2]
    wait_until(lambda: cluster.has_all_copies(by), "every copy is made anew", timeout_s=90)
    assert read_all(first.kafka, "logs") == list(enumerate(payloads))


def _says_it_is_alone(node: Node) -> bool:
    found = node.json("/v1/cluster")
    alive = [row["node_id"] for row in found["nodes"] if row["is_alive"]]
    return (alive, found["raft_leader"], found["reaches_majority"]) == ([2], None, False)


def _in_sync(node: Node) -> Sequence[int]:
    """What Kafka's clients are told."""
    client = AdminClient({"bootstrap.servers": node.kafka})
    isr: Sequence[int] = client.list_topics("logs", timeout=20).topics["logs"].partitions[0].isrs
    return isr


def test_two_of_three_gone(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.register("logs")
    payloads = numbered("message", range(20))
    _write(cluster.nodes[1], payloads)
    left = cluster.nodes[2]
    for node in (cluster.nodes[1], cluster.nodes[3]):
        node.kill()
    reply = left.native(b"PUT logs refused", timeout_s=60)
    assert reply.startswith(b"ERR"), reply
    assert any(why in reply for why in (b"majority", b"no leader", b"outcome unknown")), reply
    wait_until(lambda: _says_it_is_alone(left), "the last node says that it is the last")
    assert set(_in_sync(left)) == {2}
    cluster.nodes[1].start()
    cluster.wait_ready()
    _write(left, [b"taken again"])
    stored = [value for _, value in read_all(left.kafka, "logs")]
    assert stored[:20] == payloads
    # The refused one may be stored when its refusal said that nobody knows.
    rest = [value for value in stored[20:] if value != b"refused"]
    assert rest == [b"taken again"]
    assert stored.count(b"refused") <= int(b"unknown" in reply)
