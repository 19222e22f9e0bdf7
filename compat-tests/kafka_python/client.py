"""kafka-python in a process of its own, in whichever version PYTHONPATH puts first.

    client.py codecs SERVERS TOPIC       every codec, positions by time
    client.py admin SERVERS TOPIC        topics, configs, offsets, groups
    client.py idempotent SERVERS TOPIC   numbered values, acknowledged once (from 2.1 on)
    client.py write SERVERS TOPIC        each line of its input
    client.py member SERVERS GROUP TOPICS

Raises where it is disappointed. A member tells events as compat-tests/harness/processes.py says.
"""

import sys
import threading
import time
from typing import Any

import kafka
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

CODECS = (None, "gzip", "snappy", "lz4", "zstd")
COUNT = 40

IS_OLD = kafka.__version__.startswith("2.0.")


def consumer(servers: str, **settings: Any) -> Any:
    return kafka.KafkaConsumer(
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    )


def read(reader: Any, count: int) -> list[Any]:
    found: list[Any] = []
    deadline = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} records came"
        for records in reader.poll(timeout_ms=500).values():
            found += records
    return found


def codecs(servers: str, topic: str) -> None:
    start_ms = int(time.time() * 1000) - 1_000_000
    # The old version fetches with v4, which Kafka answers without zstd.
    used = CODECS[:-1] if IS_OLD else CODECS
    for turn, codec in enumerate(used):
        producer = kafka.KafkaProducer(
            bootstrap_servers=servers, compression_type=codec, acks="all", linger_ms=20
        )
        for number in range(turn * COUNT, (turn + 1) * COUNT):
            producer.send(
                topic,
                value=b"value %d" % number,
                key=b"key %d" % number,
                headers=[("codec", str(codec).encode())],
                timestamp_ms=start_ms + number,
            )
        producer.flush(30)
        producer.close()
    reader = consumer(servers)
    partition = kafka.TopicPartition(topic, 0)
    reader.assign([partition])
    count = COUNT * len(used)
    for number, record in enumerate(read(reader, count)):
        assert (record.offset, record.value) == (number, b"value %d" % number)
        assert (record.key, record.timestamp) == (b"key %d" % number, start_ms + number)
        assert record.headers == [("codec", str(used[number // COUNT]).encode())]
    for number in (0, 1, count // 2, count - 1):
        found = reader.offsets_for_times({partition: start_ms + number})[partition]
        assert (found.offset, found.timestamp) == (number, start_ms + number)
    assert reader.offsets_for_times({partition: start_ms + count})[partition] is None
    assert reader.beginning_offsets([partition]) == {partition: 0}
    assert reader.end_offsets([partition]) == {partition: count}
    reader.seek(partition, count // 2 + 3)
    assert read(reader, count - count // 2 - 3)[0].offset == count // 2 + 3
    reader.close()


def admin(servers: str, topic: str) -> None:
    client = kafka.KafkaAdminClient(bootstrap_servers=servers)
    client.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    try:
        client.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    except kafka.errors.TopicAlreadyExistsError:
        pass
    else:
        raise AssertionError("it was created twice")
    assert topic in client.list_topics()
    (described,) = client.describe_topics([topic])
    assert len(described["partitions"]) == 1
    assert client.describe_cluster()["brokers"]
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "123456"})
    client.alter_configs([resource])
    assert "123456" in str(client.describe_configs([ConfigResource("topic", topic)]))
    _groups(client, servers, topic)
    client.delete_topics([topic])
    assert topic not in client.list_topics()
    client.close()


def _groups(client: Any, servers: str, topic: str) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=servers)
    for number in range(10):
        producer.send(topic, b"%d" % number)
    producer.flush(30)
    producer.close()
    group = f"{topic}-group"
    partition = kafka.TopicPartition(topic, 0)
    reader = consumer(servers, group_id=group)
    reader.subscribe([topic])
    read(reader, 10)
    reader.commit()
    if IS_OLD:
        names = [name for name, _ in client.list_consumer_groups()]
        (described,) = client.describe_consumer_groups([group])
        members = described.members
    else:
        names = [listed["group_id"] for listed in client.list_groups()]
        members = client.describe_groups([group])[group]["members"]
    assert group in names
    assert len(members) == 1
    reader.close()
    if IS_OLD:
        assert client.list_consumer_group_offsets(group)[partition].offset == 10
        client.delete_consumer_groups([group])
        assert group not in [name for name, _ in client.list_consumer_groups()]
        return
    found = client.list_group_offsets(group)
    assert found[group][partition].offset == 10, found
    client.delete_records({partition: 4})
    asked = {partition: kafka.admin.OffsetSpec.EARLIEST}
    assert client.list_partition_offsets(asked)[partition].offset == 4
    client.delete_groups([group])
    assert group not in [listed["group_id"] for listed in client.list_groups()]


def idempotent(servers: str, topic: str) -> None:
    producer = kafka.KafkaProducer(
        bootstrap_servers=servers, enable_idempotence=True, acks="all", linger_ms=1
    )
    futures = [producer.send(topic, b"%d" % number) for number in range(500)]
    assert [future.get(30).offset for future in futures] == list(range(500))
    producer.close()


def write(servers: str, topic: str) -> None:
    """Each line of the input is a record: tells `acked` for each."""
    # Without idempotence only one batch at a time keeps the order when it is sent again.
    safe = {"max_in_flight_requests_per_connection": 1} if IS_OLD else {"enable_idempotence": True}
    producer = kafka.KafkaProducer(
        bootstrap_servers=servers, acks="all", linger_ms=2, retries=1_000, **safe
    )
    for line in sys.stdin:
        value = line.rstrip("\n")
        future = producer.send(topic, value.encode())
        future.add_callback(lambda done, value=value: tell("acked", topic, done.offset, value))
        future.add_errback(lambda error, value=value: tell("refused", topic, error, value))
    producer.flush(90)
    producer.close()
    tell("closed")


def tell(*fields: object) -> None:
    print(*fields, sep="\t", flush=True)


def member(servers: str, group: str, topics: str) -> None:
    ended = threading.Event()

    class Listener(kafka.ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_assigned(self, assigned: Any) -> None:
            tell("assigned", ",".join(sorted(one.topic for one in assigned)))

        def on_partitions_revoked(self, revoked: Any) -> None:
            tell("revoked", "")

    reader = consumer(
        servers,
        group_id=group,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=500,
        partition_assignment_strategy=[
            kafka.coordinator.assignors.roundrobin.RoundRobinPartitionAssignor
        ],
    )
    reader.subscribe(topics.split(","), listener=Listener())

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    while not ended.is_set():
        for partition, records in reader.poll(timeout_ms=200).items():
            for record in records:
                tell("read", partition.topic, record.offset, record.value.decode())
            try:
                reader.commit()
            except kafka.errors.CommitFailedError:
                tell("uncommitted", partition.topic)
            else:
                tell("committed", partition.topic, records[-1].offset + 1)
    reader.close()
    tell("closed")


if __name__ == "__main__":
    for part in (codecs, admin, idempotent, write, member):
        if part.__name__ == sys.argv[1]:
            part(*sys.argv[2:])
            break
    else:
        sys.exit(__doc__)
