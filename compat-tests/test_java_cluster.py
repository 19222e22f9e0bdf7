"""Java's clients on three nodes, one of which is killed in the middle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.groups import until
from harness.java import VERSIONS, Java
from harness.processes import Client, read_in_order
from tests.cluster.processes import Cluster

pytestmark = [pytest.mark.java, pytest.mark.full, pytest.mark.timeout(240)]

COUNT = 300


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_message_lost_with_the_leader(version: str, cluster: Cluster, tmp_path: Path) -> None:
    """Idempotent producer, acks=all, and a group of two, while the leader of a topic is killed.

    In the log every acknowledged value is there once and in order; the group reads all of it.
    """
    java = Java(version, tmp_path)
    topics = [f"cluster-{number}" for number in range(4)]
    for topic in topics:
        cluster.register(topic)
    given = (cluster.bootstrap, ",".join(topics))
    members = [
        Client(java.member(cluster.bootstrap, "group", topics), tmp_path / f"member-{number}.log")
        for number in range(2)
    ]
    writer = Client(
        java.command("Writer.java", *given, "n", str(COUNT), "30"), tmp_path / "writer.log"
    )
    try:
        until(lambda: len(writer.of("acked")) > COUNT, "a quarter is written", 60)
        leader = cluster.leader(topics[0])
        assert leader is not None
        leader.kill()
        writer.wait()
        assert not writer.of("failed")
        wanted = {f"{topic}/n{number}" for topic in topics for number in range(COUNT)}
        until(lambda: {v for m in members for v in m.values()} >= wanted, "all is read", 90)
        for member in members:
            member.close()
        assert read_in_order(members)
        _check_log(members, topics)
    finally:
        for client in (*members, writer):
            client.discard()


def _check_log(members: list[Client], topics: list[str]) -> None:
    """Each value has one offset, and they are in the writer's order without a gap."""
    found: dict[str, dict[int, str]] = {topic: {} for topic in topics}
    for member in members:
        for topic, offset, value in member.of("read"):
            assert found[topic].setdefault(int(offset), value) == value
    for topic, log in found.items():
        values = [log[offset] for offset in sorted(log)]
        assert values == [f"{topic}/n{number}" for number in range(COUNT)]
