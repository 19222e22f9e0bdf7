"""Too many disks are gone for good: nothing is guessed, and an operator may accept the rest."""

import shutil
import subprocess
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos.verdict import read_all
from tests.cluster.clients import get_all, native, numbered, put
from tests.cluster.commands import walrus_cluster
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Node, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def _unclean_seal(topic: str, *flags: str, by: Node) -> subprocess.CompletedProcess[str]:
    return walrus_cluster("unclean-seal", topic, *flags, by=by)


def _segments(by: Node) -> Any:
    """Of `logs`, as the metadata has them."""
    (topic,) = (one for one in by.json("/v1/cluster")["topics"] if one["name"] == "logs")
    return topic["segments"]


def _closed_end(by: Node) -> int:
    """Where the closed ones end."""
    return int(_segments(by)[-1]["base_offset"])


def test_two_disks_of_three_and_a_majority_that_lives(make_cluster: MakeCluster) -> None:
    """Of five nodes, whose metadata is safe."""
    cluster = make_cluster()
    for _ in range(2):
        cluster.add().start()
    cluster.wait_ready()
    cluster.register("logs")
    payloads = numbered("message", range(20))
    with native(cluster.nodes[1]) as client:
        for payload in payloads:
            put(client, "logs", payload)
    topic = cluster.nodes[1].topic("logs")
    refused = _unclean_seal("logs", "--force", "logs", by=cluster.nodes[1])
    assert refused.returncode == 1
    assert "not stuck" in refused.stderr
    lost = [topic["leader_id"], next(n for n in topic["replicas"] if n != topic["leader_id"])]
    (kept,) = set(topic["replicas"]) - set(lost)
    by = next(node for node_id, node in cluster.nodes.items() if node_id not in topic["replicas"])
    for node_id in lost:
        cluster.nodes[node_id].kill()
        shutil.rmtree(cluster.nodes[node_id].folder / "data")
        cluster.nodes[node_id].join = by.peer
    for node_id in lost:
        cluster.nodes[node_id].start()
    cluster.wait_ready()
    assert by.topic("logs")["leader_id"] == -1
    told = _unclean_seal("logs", by=by)
    assert told.returncode == 1
    assert f"nodes {kept} can" in told.stderr
    assert "--force logs" in told.stderr
    done = _unclean_seal("logs", "--force", "logs", by=by)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: by.topic("logs")["leader_id"] > 0, "the topic goes on")
    with native(by) as client:
        put(client, "logs", b"and on")
    found = [value for _, value in read_all(by.kafka, "logs")]
    assert found == [*payloads, b"and on"], "the disk that was left had followed"
    assert _segments(by)[0]["accepts_loss"]


def test_a_topic_of_one_copy_whose_disk_is_gone(make_cluster: MakeCluster) -> None:
    """Status says what nobody has any more, and readers go on behind it once that is deleted."""
    cluster = make_cluster(max_segment_entries=10, monitor_check_ms=50)
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic("logs", 1, 1)])["logs"].result(30)
    wait_until(lambda: cluster.leader("logs") is not None, "the topic is led")
    owner = cluster.leader("logs")
    assert owner is not None
    by = next(node for node in cluster.nodes.values() if node is not owner)
    with native(by) as client:
        for payload in numbered("message", range(25)):
            put(client, "logs", payload)
    wait_until(lambda: 25 - _closed_end(by) < 10, "all full segments are closed")
    end = _closed_end(by)
    owner.kill()
    unled = "walrus_cluster_unavailable_partitions 1.0"
    wait_until(lambda: unled in by.get("/metrics")[1].splitlines(), "nobody leads it")
    told = _unclean_seal("logs", by=by)
    assert "One of the replicas has to be there" in told.stderr
    shutil.rmtree(owner.folder / "data")
    owner.join = by.peer
    owner.start()
    cluster.wait_ready()
    wait_until(lambda: by.topic("logs")["leader_id"] > 0, "the topic goes on")
    with native(by) as client:
        put(client, "logs", b"and on")
    status = walrus_cluster("status", by=by).stdout
    assert f"logs: no live node has offsets 0 to {end - 1}." in status
    admin.delete_records([TopicPartition("logs", 0, end)])  # Behind what is lost.
    wait_until(lambda: "offsets" not in walrus_cluster("status", by=by).stdout, "deleted")
    assert read_all(cluster.bootstrap, "logs", first=end) == [(end, b"and on")]
    with native(by) as client:
        assert get_all(client, "logs") == [b"and on"]
