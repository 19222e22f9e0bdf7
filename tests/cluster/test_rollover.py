"""Seal counts that are not what was written, and reads that skip or repeat at a rollover."""

import pytest

from tests.chaos.verdict import read_all
from tests.cluster.clients import get_all, native, numbered, put
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Cluster, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ENTRIES = 10


def _fill_one_segment(cluster: Cluster, number: int, payloads: list[bytes]) -> None:
    leader = cluster.leader("rolls")
    assert leader is not None
    with native(leader) as client:
        for payload in payloads:
            put(client, "rolls", payload)
    wait_until(
        lambda: all(
            node.state("rolls")["current_segment"] == number + 1 for node in cluster.nodes.values()
        ),
        f"every node knows segment {number + 1}",
    )


def test_seal_counts_that_are_sampled(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(max_segment_entries=ENTRIES, monitor_check_ms=50)
    cluster.register("rolls")
    payloads = numbered("message", range(6 * ENTRIES))
    for number in range(1, 7):
        batch = payloads[(number - 1) * ENTRIES : number * ENTRIES]
        _fill_one_segment(cluster, number, batch)
    for node in cluster.nodes.values():
        state = node.state("rolls")
        assert state["sealed_segments"] == {str(sid): ENTRIES for sid in range(1, 7)}
        assert state["last_sealed_entry_offset"] == 6 * ENTRIES
        assert set(state["segment_leaders"].values()) == {1, 2, 3}
    with native(cluster.nodes[2]) as client:
        assert get_all(client, "rolls") == payloads
    expected = list(enumerate(payloads))
    for node in cluster.nodes.values():
        assert read_all(node.kafka, "rolls") == expected


def test_a_rollover_in_the_middle_of_a_burst(make_cluster: MakeCluster) -> None:
    """Nobody waits for the seals here: they come when they come, and still count exactly."""
    cluster = make_cluster(max_segment_entries=ENTRIES, monitor_check_ms=50)
    cluster.register("rolls")
    payloads = numbered("message", range(200))
    with native(cluster.nodes[3]) as client:
        for payload in payloads:
            put(client, "rolls", payload)
    assert read_all(cluster.bootstrap, "rolls") == list(enumerate(payloads))
    state = cluster.nodes[1].state("rolls")
    assert sum(state["sealed_segments"].values()) == state["last_sealed_entry_offset"]
    assert len(state["sealed_segments"]) >= 5
