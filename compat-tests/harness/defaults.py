"""Clients that nobody has configured: they know whom to ask, and where a reader begins.

    python -m harness.defaults aiokafka|confluent|kafka-python write KAFKA TOPIC
    python -m harness.defaults aiokafka|confluent|kafka-python read KAFKA GROUP TOPIC

A writer takes each line of its input for a record, and ends when its input does. A reader belongs
to a group, commits as its library does by itself, and ends when its input does. Both tell what
happens as harness/processes.py reads it; `refused` is a record that a writer gave up.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from harness.member import tell


def confluent_write(servers: str, topic: str) -> None:
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": servers})

    def delivered(error: Any, message: Any) -> None:
        kind = "acked" if error is None else "refused"
        tell(kind, topic, error or message.offset(), message.value().decode())

    def poll() -> None:
        while True:
            producer.poll(0.1)

    threading.Thread(target=poll, daemon=True).start()
    for line in sys.stdin:
        producer.produce(topic, line.rstrip("\n").encode(), on_delivery=delivered)
    producer.flush()


def confluent_read(servers: str, group: str, topic: str) -> None:
    import confluent_kafka

    consumer: Any = confluent_kafka.Consumer(
        {"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    ended = _input_ends()
    while not ended.is_set():
        for message in consumer.consume(100, timeout=0.2):
            if message.error() is None:
                tell("read", topic, message.offset(), message.value().decode())
    consumer.close()


def aiokafka_write(servers: str, topic: str) -> None:
    async def write() -> None:
        import aiokafka
        from aiokafka.errors import KafkaError

        async def told(value: str, future: Any) -> None:
            try:
                tell("acked", topic, (await future).offset, value)
            except KafkaError as error:
                tell("refused", topic, error, value)

        async with aiokafka.AIOKafkaProducer(bootstrap_servers=servers) as producer:
            loop = asyncio.get_running_loop()
            tasks = []
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                value = line.rstrip("\n")
                future = await producer.send(topic, value.encode())
                tasks.append(asyncio.create_task(told(value, future)))
            await asyncio.gather(*tasks)

    asyncio.run(write())


def aiokafka_read(servers: str, group: str, topic: str) -> None:
    async def read() -> None:
        import aiokafka

        ended = _input_ends()
        async with aiokafka.AIOKafkaConsumer(
            topic, bootstrap_servers=servers, group_id=group, auto_offset_reset="earliest"
        ) as consumer:
            while not ended.is_set():
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    for message in messages:
                        tell("read", topic, message.offset, message.value.decode())

    asyncio.run(read())


def kafka_python_write(servers: str, topic: str) -> None:
    import kafka

    producer = kafka.KafkaProducer(bootstrap_servers=servers)
    for line in sys.stdin:
        value = line.rstrip("\n")
        future = producer.send(topic, value.encode())
        future.add_callback(lambda done, value=value: tell("acked", topic, done.offset, value))
        future.add_errback(lambda error, value=value: tell("refused", topic, error, value))
    producer.flush()
    producer.close()


def kafka_python_read(servers: str, group: str, topic: str) -> None:
    import kafka

    consumer = kafka.KafkaConsumer(
        topic, bootstrap_servers=servers, group_id=group, auto_offset_reset="earliest"
    )
    ended = _input_ends()
    while not ended.is_set():
        try:
            polled = consumer.poll(timeout_ms=200)
        except kafka.errors.KafkaConnectionError:
            # Version 3.0 lets this one out where it looks for a coordinator and nobody listens:
            # its own retry is interrupted by the failure of its metadata request.
            continue
        for messages in polled.values():
            for message in messages:
                tell("read", topic, message.offset, message.value.decode())
    consumer.close()


def _input_ends() -> threading.Event:
    """Set when it does."""
    ended = threading.Event()

    def wait() -> None:
        while os.read(0, 4096):
            pass
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


PROGRAMS: dict[tuple[str, str], Callable[..., None]] = {
    ("aiokafka", "read"): aiokafka_read,
    ("aiokafka", "write"): aiokafka_write,
    ("confluent", "read"): confluent_read,
    ("confluent", "write"): confluent_write,
    ("kafka-python", "read"): kafka_python_read,
    ("kafka-python", "write"): kafka_python_write,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1], sys.argv[2]](*sys.argv[3:])
    tell("closed")
