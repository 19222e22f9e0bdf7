"""Topics and their configurations, by the admin clients."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource
from confluent_kafka.admin import NewTopic as ConfluentTopic

from harness.clients import (
    WAIT_S_MAX,
    Message,
    confluent_consumer,
    confluent_producer,
    confluent_read,
    confluent_read_all,
    confluent_write,
    kcat,
    values,
)
from harness.server import Server
from harness.wire import FETCH, PRODUCE, Wire, batch, fetch, parse_fetch, parse_produce, produce

pytestmark = [pytest.mark.confluent]


@pytest.fixture
def admin(server: Server) -> Iterator[Any]:
    yield AdminClient({"bootstrap.servers": server.kafka})


def _create(admin: Any, name: str, partition_count: int = 1, **config: str) -> None:
    """Create a topic; configurations as `retention_ms="60000"`."""
    given = {key.replace("_", "."): value for key, value in config.items()}
    topic = ConfluentTopic(name, partition_count, 1, config=given)
    admin.create_topics([topic], operation_timeout=WAIT_S_MAX)[name].result(WAIT_S_MAX)


def _delete(admin: Any, name: str) -> None:
    admin.delete_topics([name], operation_timeout=WAIT_S_MAX)[name].result(WAIT_S_MAX)


def _describe(admin: Any, name: str) -> Any:
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    return admin.describe_configs([resource])[resource].result(WAIT_S_MAX)


def _error_code(call: Any, *arguments: Any) -> int:
    with pytest.raises(KafkaException) as caught:
        call(*arguments)
    return int(caught.value.args[0].code())


def test_configuration_that_is_forgotten(admin: Any, topic: str) -> None:
    given: Any = {
        "retention_ms": "7200000",
        "retention_bytes": "123456789",
        "segment_bytes": "1048576",
        "max_message_bytes": "2000000",
        "cleanup_policy": "compact",
        "compression_type": "zstd",
        "min_insync_replicas": "1",
        "message_timestamp_type": "LogAppendTime",
    }
    _create(admin, topic, **given)
    found = _describe(admin, topic)
    for key, value in given.items():
        entry = found[key.replace("_", ".")]
        assert entry.value == value
        assert not entry.is_default
    defaults = {name: entry.value for name, entry in found.items() if entry.is_default}
    assert defaults["message.timestamp.after.max.ms"] == "3600000"


def test_configuration_that_cannot_be_meant(admin: Any, topic: str) -> None:
    with pytest.raises(KafkaException) as caught:
        _create(admin, topic, retention_ms="soon")
    error = caught.value.args[0]
    assert error.code() == KafkaError.INVALID_CONFIG
    assert "retention.ms" in error.str()
    assert topic not in admin.list_topics(timeout=WAIT_S_MAX).topics


def test_topic_created_twice(admin: Any, topic: str) -> None:
    _create(admin, topic)
    assert _error_code(_create, admin, topic) == KafkaError.TOPIC_ALREADY_EXISTS


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ä", "x" * 250])
def test_name_no_one_may_register(admin: Any, name: str) -> None:
    assert _error_code(_create, admin, name) in {
        KafkaError.TOPIC_EXCEPTION,
        KafkaError._INVALID_ARG,
    }


def test_many_partitions_asked_and_none_given(server: Server, admin: Any, topic: str) -> None:
    """Refusing makes benchmark drivers ask for ever; one partition is what they get."""
    _create(admin, topic, 12)
    assert len(admin.list_topics(topic, timeout=WAIT_S_MAX).topics[topic].partitions) == 1
    messages = [Message(b"%d" % number, key=b"%d" % number) for number in range(100)]
    confluent_write(server.kafka, topic, messages)
    assert values(confluent_read(server.kafka, topic, 100)) == values(messages)


def test_topic_that_does_not_die(server: Server, admin: Any, topic: str) -> None:
    _create(admin, topic)
    confluent_write(server.kafka, topic, [Message(b"old")] * 5)
    _delete(admin, topic)
    assert topic not in admin.list_topics(timeout=WAIT_S_MAX).topics
    assert _error_code(_delete, admin, topic) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_topic_that_returns_with_old_messages(server: Server, admin: Any, topic: str) -> None:
    """The same name again is another topic: another id, and no records of the first one."""
    _create(admin, topic)
    first_id = _topic_id(admin, topic)
    confluent_write(server.kafka, topic, [Message(b"old")] * 5)
    _delete(admin, topic)
    _create(admin, topic)
    assert _topic_id(admin, topic) != first_id
    assert confluent_read_all(server.kafka, topic) == []
    assert confluent_write(server.kafka, topic, [Message(b"new")]) == [0]
    assert values(confluent_read_all(server.kafka, topic)) == [b"new"]


def test_producer_that_lives_through_a_recreated_topic(
    server: Server, admin: Any, topic: str
) -> None:
    producer = confluent_producer(
        server.kafka, enable_idempotence=True, topic_metadata_refresh_interval_ms=500
    )
    outcomes: list[Any] = []

    def write(value: bytes) -> None:
        producer.produce(topic, value, on_delivery=lambda error, _: outcomes.append(error))
        assert producer.flush(WAIT_S_MAX) == 0

    _create(admin, topic)
    write(b"old")
    _delete(admin, topic)
    try:
        _create(admin, topic)
    except KafkaException as error:
        # The producer has asked for the metadata meanwhile, and so created the topic itself.
        assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    write(b"new")
    assert outcomes == [None, None]
    assert values(confluent_read_all(server.kafka, topic)) == [b"new"]


def _topic_id(admin: Any, name: str) -> str:
    described = admin.describe_topics(TopicCollection([name]))[name].result(WAIT_S_MAX)
    return str(described.topic_id)


def test_cluster_without_a_name_or_a_controller(server: Server, admin: Any) -> None:
    cluster = admin.describe_cluster().result(WAIT_S_MAX)
    assert cluster.cluster_id
    assert [(node.id, node.host, node.port) for node in cluster.nodes] == [
        (1, "127.0.0.1", server.kafka_port)
    ]
    assert cluster.controller.id == 1
    assert admin.list_topics(timeout=WAIT_S_MAX).cluster_id == cluster.cluster_id


def test_broker_configuration_that_tools_cannot_read(admin: Any) -> None:
    resource = ConfigResource(ConfigResource.Type.BROKER, "1")
    assert admin.describe_configs([resource])[resource].result(WAIT_S_MAX)


def test_configuration_of_a_topic_that_is_not_there(admin: Any, topic: str) -> None:
    assert _error_code(_describe, admin, topic) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_consumer_that_creates_what_it_misspelled(server: Server, topic: str) -> None:
    """Only a client that allows it creates topics by asking for them."""
    consumer = confluent_consumer(server.kafka, topic, 0)
    try:
        found = consumer.list_topics(topic, timeout=WAIT_S_MAX).topics[topic]
        assert found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    finally:
        consumer.close()
    listing = json.loads(kcat(server.kafka, "-L", "-J").stdout)
    assert topic not in [entry["topic"] for entry in listing["topics"]]


def test_partition_that_does_not_exist(server: Server, topic: str) -> None:
    confluent_write(server.kafka, topic, [Message(b"x")])
    with Wire(server.kafka_port) as wire:
        records = batch([b"y"])
        written = parse_produce(wire.ask(PRODUCE, 3, produce(topic, records, partition=1)))
        assert written.error == KafkaError.UNKNOWN_TOPIC_OR_PART
        found = parse_fetch(wire.ask(FETCH, 11, fetch(topic, 0, partition=1)))
        assert found.error == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert values(confluent_read_all(server.kafka, topic)) == [b"x"]


def test_append_time_that_is_the_producers(server: Server, admin: Any, topic: str) -> None:
    """LogAppendTime: the broker's clock, in compressed batches too, and checksums still hold."""
    _create(admin, topic, message_timestamp_type="LogAppendTime")
    before_ms = int(time.time() * 1000)
    messages = [Message(b"%d" % number, timestamp_ms=1_000 + number) for number in range(500)]
    confluent_write(server.kafka, topic, messages, compression_type="lz4")
    after_ms = int(time.time() * 1000)

    found = confluent_read(server.kafka, topic, 500, check_crcs=True)
    assert values(found) == values(messages)
    stamps = [message.timestamp_ms for message in found]
    assert stamps == sorted(stamps)
    assert before_ms <= stamps[0] <= stamps[-1] <= after_ms

    consumer = confluent_consumer(server.kafka, topic, 0)
    try:
        (answer,) = consumer.offsets_for_times([TopicPartition(topic, 0, before_ms)], timeout=10)
        assert answer.offset == 0
    finally:
        consumer.close()


def test_timestamp_years_away(server: Server, topic: str) -> None:
    producer = confluent_producer(server.kafka)
    outcomes: list[Any] = []
    ahead_ms = int(time.time() * 1000) + 10 * 365 * 86_400_000
    producer.produce(
        topic, b"x", timestamp=ahead_ms, on_delivery=lambda error, _: outcomes.append(error)
    )
    assert producer.flush(WAIT_S_MAX) == 0
    (error,) = outcomes
    assert error is not None
    assert error.code() == KafkaError.INVALID_TIMESTAMP
    confluent_write(server.kafka, topic, [Message(b"fine")])
    assert values(confluent_read_all(server.kafka, topic)) == [b"fine"]


def test_key_missing_on_a_compacted_topic(server: Server, admin: Any, topic: str) -> None:
    _create(admin, topic, cleanup_policy="compact")
    producer = confluent_producer(server.kafka)
    outcomes: list[Any] = []
    producer.produce(topic, b"x", on_delivery=lambda error, _: outcomes.append(error))
    assert producer.flush(WAIT_S_MAX) == 0
    assert outcomes[0] is not None
    assert outcomes[0].code() == KafkaError.INVALID_RECORD


def test_topic_limit_of_its_own(server: Server, admin: Any, topic: str) -> None:
    _create(admin, topic, max_message_bytes="5000")
    producer = confluent_producer(server.kafka)
    outcomes: list[Any] = []
    for size in (4_000, 6_000):
        producer.produce(
            topic, b"x" * size, on_delivery=lambda error, _: outcomes.append(error and error.code())
        )
        assert producer.flush(WAIT_S_MAX) == 0
    assert outcomes == [None, KafkaError.MSG_SIZE_TOO_LARGE]


@pytest.mark.aiokafka
async def test_admin_client_of_aiokafka(server: Server, topic: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=server.kafka)
    await client.start()
    try:
        await client.create_topics([NewTopic(topic, 3, 1, topic_configs={"retention.ms": "60000"})])
        assert topic in await client.list_topics()
        (described,) = await client.describe_topics([topic])
        assert [partition["partition"] for partition in described["partitions"]] == [0]
        assert (await client.describe_cluster())["controller_id"] == 1
        await client.delete_topics([topic])
        assert topic not in await client.list_topics()
    finally:
        await client.close()
