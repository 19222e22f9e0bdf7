"""aiokafka against the broker."""

import asyncio
import time

import aiokafka
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from harness.clients import CODECS, Message, aiokafka_read, aiokafka_write, offsets, values
from harness.server import Server

pytestmark = [pytest.mark.aiokafka]


@pytest.mark.parametrize("codec", CODECS)
async def test_idempotent_producer_refused(server: Server, topic: str, codec: str) -> None:
    messages = [Message(f"{codec} {number}".encode()) for number in range(2_000)]
    written = await aiokafka_write(
        server.kafka, topic, messages, codec=codec, enable_idempotence=True
    )
    assert written == list(range(2_000))
    found = await aiokafka_read(server.kafka, topic, 2_000)
    assert values(found) == values(messages)
    assert offsets(found) == written


@pytest.mark.slow
async def test_one_of_a_hundred_thousand_lost_or_changed(server: Server, topic: str) -> None:
    count = 100_000
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=server.kafka, acks="all", max_batch_size=200_000, linger_ms=5
    ) as producer:
        for number in range(count):
            last = await producer.send(topic, b"%d" % number)
        assert (await last).offset == count - 1
    found = await aiokafka_read(server.kafka, topic, count)
    assert values(found) == [b"%d" % number for number in range(count)]
    assert offsets(found) == list(range(count))


async def test_nothing_and_emptiness_confused(server: Server, topic: str) -> None:
    messages = [
        Message(b"", key=b""),
        Message(None, key=b"tombstone"),
        Message(b"value", key=None),
        Message(b"\x00\xff\n\r ", key=b"\x00", headers=(("binary", b"\x00\xff"), ("empty", b""))),
    ]
    await aiokafka_write(server.kafka, topic, messages)
    found = await aiokafka_read(server.kafka, topic, len(messages))
    assert [message.content() for message in found] == messages


@pytest.mark.parametrize("codec", CODECS)
async def test_message_of_a_megabyte(server: Server, topic: str, codec: str) -> None:
    messages = [Message(bytes([number]) * 1_000_000) for number in range(4)]
    await aiokafka_write(server.kafka, topic, messages, codec=codec)
    assert values(await aiokafka_read(server.kafka, topic, 4)) == values(messages)


async def test_message_above_the_limit_that_kills_the_producer(server: Server, topic: str) -> None:
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=server.kafka, acks="all", max_request_size=10_000_000
    ) as producer:
        assert (await producer.send_and_wait(topic, b"before")).offset == 0
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(topic, b"x" * 2_000_000)
        assert (await producer.send_and_wait(topic, b"after")).offset == 1


async def test_timestamp_lookup_that_is_off_by_one(server: Server, topic: str) -> None:
    base_ms = int(time.time() * 1000) - 1_000_000
    await aiokafka_write(
        server.kafka,
        topic,
        [Message(b"%d" % number, timestamp_ms=base_ms + number * 10) for number in range(1_000)],
        codec="snappy",
    )
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=server.kafka, group_id=None)
    await consumer.start()
    try:
        partition = aiokafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        for ahead_ms, offset in [(0, 0), (1, 1), (4_995, 500), (5_000, 500), (9_990, 999)]:
            found = (await consumer.offsets_for_times({partition: base_ms + ahead_ms}))[partition]
            assert (found.offset, found.timestamp) == (offset, base_ms + offset * 10)
        assert await consumer.offsets_for_times({partition: base_ms + 9_991}) == {partition: None}
        assert await consumer.beginning_offsets([partition]) == {partition: 0}
        assert await consumer.end_offsets([partition]) == {partition: 1_000}
    finally:
        await consumer.stop()


async def test_subscriber_that_never_hears_of_later_messages(server: Server, topic: str) -> None:
    """A reader that waits at the end gets what is written later, with few requests in between."""
    await aiokafka_write(server.kafka, topic, [Message(b"before")])
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=server.kafka, group_id=None, fetch_max_wait_ms=30_000
    )
    await consumer.start()
    try:
        partition = aiokafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_end(partition)
        requests_before = server.metric("walrus_kafka_requests_total", api="Fetch")
        waiting = asyncio.ensure_future(consumer.getone())
        for number in range(10):
            await aiokafka_write(server.kafka, topic, [Message(b"%d" % number)])
            found = await asyncio.wait_for(waiting, 20)
            assert (found.offset, found.value) == (number + 1, b"%d" % number)
            if number < 9:
                waiting = asyncio.ensure_future(consumer.getone())
        requests = server.metric("walrus_kafka_requests_total", api="Fetch") - requests_before
        assert requests <= 40, "the reader was answered with nothing again and again"
    finally:
        await consumer.stop()


async def test_many_producers_that_tread_on_one_another(server: Server, topic: str) -> None:
    """Twenty connections, one topic: each producer's own order survives."""

    async def write(name: int) -> list[int]:
        return await aiokafka_write(
            server.kafka, topic, [Message(b"%d %d" % (name, number)) for number in range(200)]
        )

    written = await asyncio.gather(*(write(name) for name in range(20)))
    assert sorted(offset for part in written for offset in part) == list(range(4_000))
    found = await aiokafka_read(server.kafka, topic, 4_000)
    for name, part in enumerate(written):
        assert part == sorted(part)
        for number, offset in enumerate(part):
            assert found[offset].value == b"%d %d" % (name, number)
