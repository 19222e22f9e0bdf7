"""confluent-kafka (librdkafka) against the broker."""

import hashlib
import time

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, TopicPartition

from harness.clients import (
    CODECS,
    WAIT_S_MAX,
    Message,
    confluent_consumer,
    confluent_end,
    confluent_producer,
    confluent_read,
    confluent_write,
    offsets,
    values,
)
from harness.server import Server

pytestmark = [pytest.mark.confluent]


@pytest.mark.parametrize("codec", CODECS)
def test_idempotent_producer_refused(server: Server, topic: str, codec: str) -> None:
    messages = [Message(f"{codec} {number}".encode()) for number in range(2_000)]
    written = confluent_write(
        server.kafka, topic, messages, enable_idempotence=True, compression_type=codec
    )
    assert written == list(range(2_000))
    assert values(confluent_read(server.kafka, topic, 2_000)) == values(messages)


@pytest.mark.slow
def test_one_of_a_hundred_thousand_lost_or_changed(server: Server, topic: str) -> None:
    """Order and content, compared as a whole."""
    count = 100_000
    messages = [
        Message(
            b"%d:%s"
            % (number, hashlib.blake2b(b"%d" % number, digest_size=24).hexdigest().encode())
        )
        for number in range(count)
    ]
    written = confluent_write(
        server.kafka,
        topic,
        messages,
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=5,
        queue_buffering_max_messages=count,
    )
    assert written == list(range(count))
    found = confluent_read(server.kafka, topic, count)
    assert offsets(found) == written
    assert values(found) == values(messages)
    assert confluent_end(server.kafka, topic) == count


def test_nothing_and_emptiness_confused(server: Server, topic: str) -> None:
    messages = [
        Message(b"", key=b""),
        Message(None, key=b"tombstone"),
        Message(b"value", key=None),
        Message(None, key=None, headers=(("empty", b""), ("null", None))),
        Message(b"\x00\xff\n\r ", key=b"\x00", headers=(("binary", b"\x00\xff"),)),
    ]
    confluent_write(server.kafka, topic, messages)
    found = confluent_read(server.kafka, topic, len(messages))
    assert [message.content() for message in found] == messages


@pytest.mark.parametrize("codec", CODECS)
def test_message_of_a_megabyte(server: Server, topic: str, codec: str) -> None:
    messages = [Message(bytes([number]) * 1_000_000, key=b"%d" % number) for number in range(8)]
    confluent_write(
        server.kafka, topic, messages, compression_type=codec, message_max_bytes=1_048_588
    )
    found = confluent_read(server.kafka, topic, 8)
    assert [message.content() for message in found] == messages


def test_reply_smaller_than_the_first_batch(server: Server, topic: str) -> None:
    """A reader with tiny limits still gets one whole batch, or it would wait for ever."""
    messages = [Message(bytes([number]) * 300_000) for number in range(4)]
    confluent_write(server.kafka, topic, messages)
    found = confluent_read(
        server.kafka,
        topic,
        4,
        fetch_message_max_bytes=1_000,
        fetch_max_bytes=2_000,
        message_max_bytes=1_000,
        receive_message_max_bytes=10_000_000,
    )
    assert values(found) == values(messages)


def test_message_above_the_limit_that_kills_the_producer(server: Server, topic: str) -> None:
    producer = confluent_producer(server.kafka, message_max_bytes=10_000_000)
    outcomes: list[object] = []
    for size in (10, 2_000_000, 20):
        producer.produce(
            topic, b"x" * size, on_delivery=lambda error, _: outcomes.append(error and error.code())
        )
        assert producer.flush(WAIT_S_MAX) == 0
    assert outcomes == [None, KafkaError.MSG_SIZE_TOO_LARGE, None]
    assert [len(value or b"") for value in values(confluent_read(server.kafka, topic, 2))] == [
        10,
        20,
    ]


def test_timestamp_lookup_that_is_off_by_one(server: Server, topic: str) -> None:
    """Exact to the record, in the middle of compressed batches too."""
    base_ms = int(time.time() * 1000) - 1_000_000
    messages = [
        Message(b"%d" % number, timestamp_ms=base_ms + number * 10) for number in range(3_000)
    ]
    confluent_write(server.kafka, topic, messages, compression_type="gzip")
    consumer = confluent_consumer(server.kafka, topic, 0)
    try:
        for ahead_ms, expected in [
            (-5_000, 0),
            (0, 0),
            (1, 1),
            (10, 1),
            (14_999, 1_500),
            (15_000, 1_500),
            (29_990, 2_999),
            (29_991, confluent_kafka.OFFSET_END),
        ]:
            asked = TopicPartition(topic, 0, base_ms + ahead_ms)
            (found,) = consumer.offsets_for_times([asked], timeout=WAIT_S_MAX)
            assert found.error is None
            assert found.offset == expected, ahead_ms
    finally:
        consumer.close()
    found_messages = confluent_read(server.kafka, topic, 3_000)
    assert [found.timestamp_ms for found in found_messages] == [
        message.timestamp_ms for message in messages
    ]


def test_watermarks_that_lie(server: Server, topic: str) -> None:
    confluent_write(server.kafka, topic, [Message(b"x")] * 12)
    consumer = confluent_consumer(server.kafka, topic, 0)
    try:
        partition = TopicPartition(topic, 0)
        assert consumer.get_watermark_offsets(partition, timeout=WAIT_S_MAX) == (0, 12)
    finally:
        consumer.close()


def test_reader_beyond_the_end_that_is_not_told(server: Server, topic: str) -> None:
    confluent_write(server.kafka, topic, [Message(b"x")] * 3)
    consumer = confluent_consumer(server.kafka, topic, 1_000)
    try:
        deadline = time.monotonic() + WAIT_S_MAX
        while (message := consumer.poll(1.0)) is None:
            assert time.monotonic() < deadline
        assert message.error().code() == KafkaError._AUTO_OFFSET_RESET
    finally:
        consumer.close()


def test_reader_that_is_reset_to_the_wrong_end(server: Server, topic: str) -> None:
    messages = [Message(b"%d" % number) for number in range(3)]
    confluent_write(server.kafka, topic, messages)
    found = confluent_read(server.kafka, topic, 3, start=1_000, auto_offset_reset="earliest")
    assert values(found) == values(messages)


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_acknowledgement_level_that_loses_messages(
    server: Server, topic: str, acks: int | str
) -> None:
    producer = confluent_producer(server.kafka, acks=acks)
    for number in range(1_000):
        producer.produce(topic, b"%d" % number)
    assert producer.flush(WAIT_S_MAX) == 0
    found = confluent_read(server.kafka, topic, 1_000)
    assert values(found) == [b"%d" % number for number in range(1_000)]
