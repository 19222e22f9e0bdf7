"""Members of the metadata that never became nodes, and stay on the list for ever."""

import json

import pytest

from tests.cluster.commands import walrus_cluster
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Cluster, Node, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def _unregistered(cluster: Cluster) -> list[str]:
    rows = cluster.nodes[2].json("/v1/cluster")["unregistered_members"]
    return [row["member"] for row in rows]


def test_a_node_whose_id_is_taken_can_be_forgotten(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    twin = Node(cluster.folder / "twin", 3, cluster.nodes[1].peer, environment=cluster.environment)
    twin.start()
    try:
        wait_until(lambda: not twin.is_running, "the twin gives up")
        assert "node id 3 belongs to a live node" in twin.log_tail()
    finally:
        twin.close()
    wait_until(lambda: _unregistered(cluster), "the twin was let into the metadata")
    (member,) = _unregistered(cluster)
    shown = walrus_cluster("status", by=cluster.nodes[1])
    assert f"walrus cluster forget {member}" in shown.stdout
    done = walrus_cluster("forget", member, by=cluster.nodes[3])
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not _unregistered(cluster), "it is off the list")
    again = walrus_cluster("forget", member, by=cluster.nodes[1])
    assert (again.returncode, again.stderr) == (
        1,
        f"walrus: the metadata has no member {member}\n",
    )


def test_a_node_is_not_forgotten_by_mistake(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    identity = json.loads((cluster.nodes[2].folder / "data" / "identity").read_bytes())
    member = identity["disk_id"]
    refused = walrus_cluster("forget", member, by=cluster.nodes[1])
    assert refused.returncode == 1
    assert "walrus cluster decommission 2" in refused.stderr


def test_a_newcomer_is_let_in_by_whoever_it_was_told_of(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    leader = cluster.raft_leader()
    assert leader is not None
    told_of = next(node for node in cluster.nodes.values() if node is not leader)
    newcomer = cluster.add()
    newcomer.join = told_of.peer
    newcomer.start()
    cluster.wait_ready()
    assert cluster.raft_leader() is leader
