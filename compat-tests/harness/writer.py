"""A writer as a program of its own: aiokafka or confluent-kafka, idempotent.

    python -m harness.writer aiokafka|confluent KAFKA TOPIC

Each line of its input is a record. It tells `acked` for each, as harness/processes.py reads it, and
ends when its input does.
"""

import asyncio
import sys
import threading
from typing import Any

from harness.member import tell


def confluent(kafka: str, topic: str) -> None:
    import confluent_kafka

    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "linger.ms": 2,
            "reconnect.backoff.max.ms": 500,
            "delivery.timeout.ms": 120_000,
            "log_level": 2,
        }
    )

    def delivered(error: Any, message: Any) -> None:
        if error is None:
            tell("acked", topic, message.offset(), message.value().decode())
        else:
            tell("refused", topic, error, message.value().decode())

    def poll() -> None:
        while True:
            producer.poll(0.1)

    threading.Thread(target=poll, daemon=True).start()
    for line in sys.stdin:
        producer.produce(topic, line.rstrip("\n").encode(), on_delivery=delivered)
    producer.flush(120)
    tell("closed")


def aiokafka(kafka: str, topic: str) -> None:
    asyncio.run(_aiokafka(kafka, topic))


async def _aiokafka(kafka: str, topic: str) -> None:
    import aiokafka

    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=kafka, enable_idempotence=True, linger_ms=2, request_timeout_ms=20_000
    )
    await producer.start()
    loop = asyncio.get_running_loop()
    tasks = []

    async def told(value: str, future: Any) -> None:
        tell("acked", topic, (await future).offset, value)

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        value = line.rstrip("\n")
        tasks.append(asyncio.create_task(told(value, await producer.send(topic, value.encode()))))
    await asyncio.gather(*tasks)
    await producer.stop()
    tell("closed")


if __name__ == "__main__":
    {"aiokafka": aiokafka, "confluent": confluent}[sys.argv[1]](*sys.argv[2:])
