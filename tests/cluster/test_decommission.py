"""A node that is taken out for good, with what only it had."""

import subprocess
from typing import Any

import pytest

from tests.chaos.verdict import read_all
from tests.cluster.clients import native, numbered, put
from tests.cluster.commands import walrus_cluster
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Cluster, Node, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def _decommission(node: int, *flags: str, by: Node) -> subprocess.CompletedProcess[str]:
    return walrus_cluster("decommission", str(node), *flags, by=by)


def _four(make_cluster: MakeCluster) -> Cluster:
    cluster = make_cluster(max_segment_entries=10, monitor_check_ms=50)
    cluster.add().start()
    cluster.wait_ready()
    return cluster


def _write(node: Node, payloads: list[bytes]) -> None:
    with native(node) as client:
        for payload in payloads:
            put(client, "logs", payload)


def _nodes(by: Node) -> dict[int, Any]:
    return {row["node_id"]: row for row in by.json("/v1/cluster")["nodes"]}


def _has_all_copies(by: Node) -> bool:
    topics = by.json("/v1/cluster")["topics"]
    return not any(topic["under_replicated_segments"] for topic in topics)


@pytest.mark.parametrize("leads_raft", [False, True])
def test_a_node_that_leaves_takes_nothing_with_it(
    make_cluster: MakeCluster, leads_raft: bool
) -> None:
    cluster = _four(make_cluster)
    cluster.register("logs")
    payloads = numbered("before", range(95))
    _write(cluster.nodes[1], payloads)
    raft_leader = cluster.raft_leader()
    assert raft_leader is not None
    others = [node for node in cluster.nodes.values() if node is not raft_leader]
    leaver, by = (raft_leader, others[0]) if leads_raft else (others[0], raft_leader)
    done = _decommission(leaver.node_id, by=by)
    assert done.returncode == 0, done.stderr
    assert f"Node {leaver.node_id} is out." in done.stdout
    assert leaver.process is not None
    assert leaver.process.wait(60) == 0, "a supervisor would take it for a crash to be repaired"
    assert "taken out of the cluster" in leaver.log_tail()
    assert "Traceback" not in leaver.log_tail()
    assert leaver.node_id not in _nodes(by)
    assert _has_all_copies(by)
    # Any one of those who stay may be lost now.
    another = next(node for node in cluster.nodes.values() if node not in (leaver, by))
    another.kill()
    more = numbered("after", range(25))
    _write(by, more)
    assert [value for _, value in read_all(by.kafka, "logs")] == [*payloads, *more]
    # And who was taken out does not come back by being started.
    leaver.start()
    assert leaver.process.wait(60) == 1
    assert "empty --data-dir" in leaver.log_tail()


def test_a_dead_node_is_given_up(make_cluster: MakeCluster) -> None:
    cluster = _four(make_cluster)
    cluster.register("logs")
    payloads = numbered("message", range(45))
    _write(cluster.nodes[1], payloads)
    dead, by = cluster.nodes[4], cluster.nodes[1]
    dead.kill()
    done = _decommission(4, by=by)
    assert done.returncode == 0, done.stderr
    assert sorted(_nodes(by)) == [1, 2, 3]
    assert _has_all_copies(by)
    assert [value for _, value in read_all(by.kafka, "logs")] == payloads
    dead.start()
    assert dead.process is not None
    assert dead.process.wait(60) == 1, dead.log_tail()
    assert "empty --data-dir" in dead.log_tail()


def test_an_operator_who_changes_their_mind(make_cluster: MakeCluster) -> None:
    """Of three nodes, two stay: what wants three copies has two meanwhile."""
    cluster = make_cluster(max_segment_entries=10, monitor_check_ms=50)
    cluster.register("logs")
    by, leaver = cluster.nodes[1], cluster.nodes[3]
    refused = _decommission(9, by=by)
    assert (refused.returncode, refused.stderr) == (
        1, "walrus: node 9: the cluster has no such node\n",
    )  # fmt: skip
    cluster.nodes[2].kill()
    _write(by, numbered("message", range(25)))
    assert _decommission(3, "--no-wait", by=by).returncode == 0
    wait_until(lambda: _nodes(by)[3]["is_leaving"], "it is marked")
    assert leaver.is_running, "two of three are not enough to let it go: one copy would be left"
    assert "stays" in _decommission(3, "--cancel", by=by).stdout
    assert not _nodes(by)[3]["is_leaving"]
    cluster.nodes[2].start()
    cluster.wait_ready()
    wait_until(lambda: _has_all_copies(by), "all is as it was")
