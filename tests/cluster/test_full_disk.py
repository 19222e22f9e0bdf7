"""A disk that somebody else has filled: nothing is lost, and nobody has to restart anything."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer

from tests.chaos.verdict import read_all
from tests.cluster.clients import numbered
from tests.cluster.disks import fill, small_disk
from tests.cluster.processes import Cluster, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

DISK_SIZE = 48 * 1024 * 1024
SETTINGS = {"WALRUS_DISK_RESERVE_BYTES": str(4 * 1024 * 1024), "WALRUS_MONITOR_CHECK_MS": "200"}


class Sender:
    """Sends one after the other; what was acknowledged, and the errors."""

    def __init__(self, cluster: Cluster, timeout_ms: int) -> None:
        self.acked: list[tuple[int, bytes]] = []
        self.errors: list[KafkaError] = []
        self._producer = Producer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": timeout_ms,
                "log_level": 0,
            }
        )

    def send(self, topic: str, payloads: list[bytes]) -> None:
        for payload in payloads:
            self._producer.produce(topic, payload, on_delivery=self._told)
        assert self._producer.flush(120) == 0

    def _told(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.errors.append(error)
            return
        offset, value = message.offset(), message.value()
        assert offset is not None and value is not None
        self.acked.append((offset, value))


def _cluster(folder: Path, count: int) -> Cluster:
    return Cluster(folder, count, SETTINGS)


def _is_whole(cluster: Cluster) -> bool:
    found = cluster.nodes[1].json("/v1/cluster")
    return not any(topic["under_replicated_segments"] for topic in found["topics"])


def test_the_writers_disk_is_full_and_another_node_goes_on(tmp_path: Path) -> None:
    cluster = _cluster(tmp_path, 3)
    with small_disk(cluster.nodes[1].folder / "data", DISK_SIZE) as disk:
        try:
            cluster.start()
            names = iter(f"t{number}" for number in range(100))
            topic = next(names)
            cluster.register(topic)
            while cluster.leader(topic) is not cluster.nodes[1]:
                topic = next(names)
                cluster.register(topic)
            sender = Sender(cluster, timeout_ms=60_000)
            sender.send(topic, numbered("before", range(50), 10_000))
            ballast = fill(disk)
            sender.send(topic, numbered("full", range(200), 10_000))
            assert cluster.leader(topic) is not cluster.nodes[1]
            assert cluster.nodes[1].is_running
            ballast.unlink()
            sender.send(topic, numbered("after", range(50), 10_000))
            wait_until(lambda: _is_whole(cluster), "every copy is complete", timeout_s=90)
            assert not sender.errors
            assert read_all(cluster.bootstrap, topic) == sender.acked
            assert len(sender.acked) == 300
        finally:
            cluster.close()


def test_one_node_refuses_reads_on_and_takes_more_when_there_is_room(tmp_path: Path) -> None:
    cluster = _cluster(tmp_path, 1)
    node = cluster.nodes[1]
    with small_disk(node.folder / "data", DISK_SIZE) as disk:
        try:
            cluster.start()
            cluster.register("logs")
            sender = Sender(cluster, timeout_ms=3_000)
            sender.send("logs", numbered("before", range(50), 10_000))
            ballast = fill(disk)
            sender.send("logs", numbered("full", range(50), 10_000))
            assert sender.errors and node.is_running
            assert read_all(node.kafka, "logs") == sender.acked
            ballast.unlink()
            acked_count = len(sender.acked)
            # A producer that gave a record up may go on only as a new one.
            sender_after = Sender(cluster, timeout_ms=60_000)
            sender_after.send("logs", numbered("after", range(50), 10_000))
            assert not sender_after.errors
            stored = read_all(node.kafka, "logs")
            assert stored[:acked_count] == sender.acked
            assert stored[-50:] == sender_after.acked
        finally:
            cluster.close()
