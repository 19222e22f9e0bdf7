"""Topics that are made, emptied, deleted and made again, seen from every node."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TypeVar

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

from tests.chaos.verdict import read_all
from tests.cluster.conftest import MakeCluster
from tests.cluster.processes import Cluster, Node, wait_until
from tests.node_process import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

T = TypeVar("T")

HERE = TopicPartition("logs", 0)
EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]


_admins: dict[str, AdminClient] = {}


def _admin(node: Node) -> AdminClient:
    """Kept, because an answer never comes to a client that is let go."""
    if node.kafka not in _admins:
        _admins[node.kafka] = AdminClient({"bootstrap.servers": node.kafka, "log_level": 0})
    return _admins[node.kafka]


def _create(node: Node, name: str, **config: str) -> None:
    wanted = NewTopic(name, 1, 3, config={key.replace("_", "."): v for key, v in config.items()})
    _admin(node).create_topics([wanted])[name].result(30)


def _produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0}
    )
    failures: list[object] = []
    for number, value in enumerate(values, 1):
        producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error))
        if number % 10 == 0:  # Small batches: a segment ends between two of them,
            assert producer.flush(60) == 0
            time.sleep(0.02)  # and soon after the last one that it wanted.
    assert producer.flush(60) == 0
    assert not any(failures), failures


def _log_size(node: Node, topic: str) -> int:
    """Bytes of records of this topic on the node's disk, as the file system says."""
    size = 0
    for folder, _, names in os.walk(node.folder / "data" / "topics"):
        for name in names:
            if name.endswith(".log") and f"/topics/{topic}-" in folder:
                with suppress(FileNotFoundError):  # It is being deleted, perhaps at this moment.
                    size += (Path(folder) / name).stat().st_size
    return size


def _of_leader(ask: Callable[[], T]) -> T:
    """librdkafka's admin client looks for the leader and asks it. One that has handed over in
    between says so, and is not asked again."""

    def answer() -> T | None:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            return None

    return wait_until(answer, "a leader that stays")


def _offset(node: Node, spec: OffsetSpec) -> int:
    found = _of_leader(lambda: _admin(node).list_offsets({HERE: spec})[HERE].result(30))
    return int(found.offset)


def _delete_before(node: Node, offset: int) -> int:
    """The records below `offset`, -1 for all. Answers where the log starts."""
    HERE.offset = offset
    deleted = _of_leader(lambda: _admin(node).delete_records([HERE])[HERE].result(30))
    return int(deleted.low_watermark)


def _everywhere(cluster: Cluster, holds: Callable[[Node], bool]) -> Callable[[], bool]:
    return lambda: all(holds(node) for node in cluster.nodes.values())


def test_a_topic_is_everywhere_when_its_creation_is_answered(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    nodes = list(cluster.nodes.values())
    for number in range(10):
        name = f"made-{number}"
        _create(nodes[number % 3], name)
        for node in nodes:
            partition = _admin(node).list_topics(name, timeout=10).topics[name].partitions[0]
            assert (partition.error, partition.replicas) == (None, [1, 2, 3])
            assert sorted(partition.isrs) == [1, 2, 3]


def test_deleted_records_give_their_space_back_on_every_node(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(max_segment_entries=50, monitor_check_ms=50)
    _create(cluster.nodes[1], "logs")
    values = [b"%04d" % number + b"." * 1000 for number in range(400)]
    _produce(cluster.bootstrap, "logs", values)
    wait_until(_everywhere(cluster, lambda node: _log_size(node, "logs") > 400_000), "all copies")
    assert _delete_before(cluster.nodes[2], 250) == 250
    wait_until(_everywhere(cluster, lambda node: _log_size(node, "logs") < 220_000), "its space")
    assert read_from(cluster, 250) == values[250:]
    assert _delete_before(cluster.nodes[3], -1) == 400
    wait_until(_everywhere(cluster, lambda node: _log_size(node, "logs") == 0), "all of it")
    for node in cluster.nodes.values():
        assert _offset(node, EARLIEST) == _offset(node, LATEST) == 400
    _produce(cluster.bootstrap, "logs", [b"next"])
    assert read_from(cluster, 400) == [b"next"]


def read_from(cluster: Cluster, offset: int) -> list[bytes]:
    """Everything, by a consumer that begins at the log's start."""
    config = {
        "bootstrap.servers": cluster.bootstrap, "group.id": f"from-{time.time_ns()}",
        "enable.partition.eof": True, "auto.offset.reset": "error", "log_level": 0,
    }  # fmt: skip
    consumer = Consumer(config)
    consumer.assign([TopicPartition("logs", 0, offset)])
    found: list[bytes] = []
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            for message in consumer.consume(500, timeout=1):
                if (error := message.error()) is None:
                    found.append(message.value() or b"")
                elif error.code() == KafkaError._PARTITION_EOF:
                    return found
                else:
                    raise AssertionError(error)
    finally:
        consumer.close()
    raise AssertionError(f"{len(found)} records, and no end")


def test_retention_gives_space_back_on_every_node(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(max_segment_entries=50, monitor_check_ms=50, retention_check_ms=200)
    _create(cluster.nodes[1], "logs", retention_bytes="100000")
    values = [b"%04d" % number + b"." * 1000 for number in range(400)]
    _produce(cluster.bootstrap, "logs", values)
    wait_until(_everywhere(cluster, lambda node: _log_size(node, "logs") < 200_000), "by size")
    starts = [0]

    def has_come_to_rest() -> bool:
        starts.append(_offset(cluster.nodes[1], EARLIEST))
        time.sleep(1)
        return starts[-1] == starts[-2] > 0

    wait_until(has_come_to_rest, "the log's start stays where it is")
    assert starts[-1] <= 300, "a hundred records of 1,000 bytes stay"
    assert read_from(cluster, starts[-1]) == values[starts[-1] :]
    entry = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "logs", incremental_configs=[entry])
    _admin(cluster.nodes[2]).incremental_alter_configs([resource])[resource].result(30)
    wait_until(_everywhere(cluster, lambda node: _log_size(node, "logs") == 0), "by age")


def test_a_topic_deleted_and_made_again_under_load(make_cluster: MakeCluster) -> None:
    """What is read is of the new topic alone, whatever was under way."""
    cluster = make_cluster(max_segment_entries=20, monitor_check_ms=50)
    is_done = Event()

    def write() -> None:
        producer = Producer({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
        number = 0
        while not is_done.is_set():
            number += 1
            producer.produce("logs", b"old-%d" % number)
            producer.poll(0.002)
        producer.purge()
        producer.flush(10)

    with ThreadPoolExecutor(1) as pool:
        for round_number in range(3):
            _create(cluster.nodes[1 + round_number], "logs")
            is_done.clear()
            writing = pool.submit(write)
            wait_until(lambda: len(read_all(cluster.bootstrap, "logs")) > 60, "some records")
            by = cluster.nodes[1 + (round_number + 1) % 3]
            _admin(by).delete_topics(["logs"])["logs"].result(30)
            is_done.set()
            writing.result(60)
            _delete_again(by)
            wait_until(
                _everywhere(cluster, lambda node: _log_size(node, "logs") == 0), "no file is left"
            )
    _create(cluster.nodes[3], "logs")
    _produce(cluster.bootstrap, "logs", [b"new"])
    for node in cluster.nodes.values():
        assert read_all(node.kafka, "logs") == [(0, b"new")]


def _delete_again(node: Node) -> None:
    """The writer may have made it once more, by asking for it."""
    try:
        _admin(node).delete_topics(["logs"])["logs"].result(30)
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_cluster_moves_to_other_addresses(make_cluster: MakeCluster) -> None:
    """All ports are others after a restart; the nodes find each other from their own files, as long
    as one is where it was."""
    cluster = make_cluster()
    _create(cluster.nodes[1], "logs")
    _produce(cluster.bootstrap, "logs", [b"before"])
    for node_id in (3, 2, 1):
        node = cluster.nodes[node_id]
        assert node.stop() == 0
        node.native_port, node.kafka_port = free_port(), free_port()
        node.admin_port, node.raft_port = free_port(), free_port()
        node.start()
        cluster.wait_ready()
    _produce(cluster.nodes[1].kafka, "logs", [b"after"])
    for node in cluster.nodes.values():
        assert read_all(node.kafka, "logs") == [(0, b"before"), (1, b"after")]


def test_a_cluster_that_moves_as_a_whole_is_told_one_new_address(
    make_cluster: MakeCluster,
) -> None:
    """And the last one is told that of a node which does not lead."""
    cluster = make_cluster()
    nodes = cluster.nodes
    _create(nodes[1], "logs")
    _produce(cluster.bootstrap, "logs", [b"before"])
    for node in nodes.values():
        node.kill()
        node.raft_port = free_port()
    nodes[1].join = nodes[2].peer
    nodes[1].start()
    nodes[2].start()
    wait_until(lambda: cluster.raft_leader() is not None, "the two have a leader")
    nodes[3].join = nodes[2 if cluster.raft_leader() is nodes[1] else 1].peer
    nodes[3].start()
    cluster.wait_ready()
    assert read_all(nodes[3].kafka, "logs") == [(0, b"before")]
