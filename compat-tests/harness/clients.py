"""What every client can do, in short forms: write these messages, read those.

All readers answer `Message` values, so that a test can compare clients with one another. Readers
name their offsets and use no consumer group.
"""

import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiokafka
import confluent_kafka

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

WAIT_S_MAX = 60.0

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One record as a client sees it. `offset` and `timestamp_ms` are -1 where nobody asked."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    offset: int = -1
    timestamp_ms: int = -1

    def content(self) -> "Message":
        """What the writer gave, without what the broker adds."""
        return replace(self, offset=-1, timestamp_ms=-1)


def values(messages: Iterable[Message]) -> list[bytes | None]:
    return [message.value for message in messages]


def offsets(messages: Iterable[Message]) -> list[int]:
    return [message.offset for message in messages]


# ---- confluent-kafka (librdkafka) ----------------------------------------------------------------


def confluent_producer(kafka: str, **settings: Any) -> Any:
    """A producer; settings as `linger_ms=5`. Waits little for batches unless told otherwise."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    return confluent_kafka.Producer({"bootstrap.servers": kafka, "linger.ms": 1} | given)


def confluent_write(
    kafka: str, topic: str, messages: Sequence[Message], **settings: Any
) -> list[int]:
    """Write them, in order, and return their offsets. Raises AssertionError if one fails."""
    producer = confluent_producer(kafka, **settings)
    written: dict[int, int] = {}
    errors: list[str] = []

    def note(number: int) -> Any:
        def on_delivery(error: Any, message: Any) -> None:
            if error is not None:
                errors.append(str(error))
            else:
                written[number] = message.offset()

        return on_delivery

    for number, message in enumerate(messages):
        extra = {} if message.timestamp_ms < 0 else {"timestamp": message.timestamp_ms}
        while True:
            try:
                producer.produce(
                    topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    on_delivery=note(number),
                    **extra,
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(WAIT_S_MAX) == 0, "not everything was delivered"
    assert not errors, errors[:3]
    return [written[number] for number in range(len(messages))]


def confluent_consumer(kafka: str, topic: str, start: int, **settings: Any) -> Any:
    """A consumer of one topic from an offset (or a `confluent_kafka.OFFSET_…` constant)."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "not-used",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
        }
        | given
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, start)])
    return consumer


def _from_confluent(message: Any) -> Message:
    kind, timestamp_ms = message.timestamp()
    return Message(
        value=message.value(),
        key=message.key(),
        headers=tuple(message.headers() or ()),
        offset=message.offset(),
        timestamp_ms=-1 if kind == confluent_kafka.TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
    )


def confluent_read(
    kafka: str, topic: str, count: int, *, start: int = 0, **settings: Any
) -> list[Message]:
    """The next `count` messages from `start`. Raises AssertionError when they do not come."""
    consumer = confluent_consumer(kafka, topic, start, **settings)
    try:
        found: list[Message] = []
        deadline = time.monotonic() + WAIT_S_MAX
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} messages came"
            for message in consumer.consume(min(10_000, count - len(found)), timeout=1.0):
                assert message.error() is None, message.error()
                found.append(_from_confluent(message))
        return found
    finally:
        consumer.close()


def confluent_end(kafka: str, topic: str) -> int:
    """The offset of the next message that will be written."""
    consumer = confluent_consumer(kafka, topic, 0)
    try:
        partition = confluent_kafka.TopicPartition(topic, 0)
        return int(consumer.get_watermark_offsets(partition, timeout=WAIT_S_MAX)[1])
    finally:
        consumer.close()


def confluent_read_all(kafka: str, topic: str) -> list[Message]:
    """Every message there is now."""
    end = confluent_end(kafka, topic)
    return confluent_read(kafka, topic, end) if end else []


# ---- aiokafka ------------------------------------------------------------------------------------


async def aiokafka_write(
    kafka: str, topic: str, messages: Sequence[Message], *, codec: str = "none", **settings: Any
) -> list[int]:
    """Write them, in order and with acks=all, and return their offsets."""
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=kafka,
        compression_type=None if codec == "none" else codec,
        **({"acks": "all", "max_request_size": 1_048_588} | settings),
    ) as producer:
        futures = [
            await producer.send(
                topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                timestamp_ms=None if message.timestamp_ms < 0 else message.timestamp_ms,
            )
            for message in messages
        ]
        return [(await future).offset for future in futures]


async def aiokafka_read(
    kafka: str, topic: str, count: int, *, start: int = 0, **settings: Any
) -> list[Message]:
    """The next `count` messages from `start`."""
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=kafka, group_id=None, enable_auto_commit=False, **settings
    )
    await consumer.start()
    try:
        partition = aiokafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, start)
        found: list[Message] = []
        while len(found) < count:
            pages = await consumer.getmany(timeout_ms=10_000, max_records=count - len(found))
            assert pages, f"{len(found)} of {count} messages came"
            found += [_from_aiokafka(record) for page in pages.values() for record in page]
        return found
    finally:
        await consumer.stop()


def _from_aiokafka(record: Any) -> Message:
    return Message(
        value=record.value,
        key=record.key,
        headers=tuple(record.headers),
        offset=record.offset,
        timestamp_ms=record.timestamp,
    )


# ---- kcat ----------------------------------------------------------------------------------------

_RECORD_END, _KEY_END = "\x1e\n", "\x1f"
"""Separators that no test puts into a key or value."""


def kcat(
    kafka: str, *arguments: str, stdin: bytes = b"", timeout_s: float = WAIT_S_MAX
) -> subprocess.CompletedProcess[bytes]:
    """Run kcat. Raises AssertionError with its words when it fails."""
    result = subprocess.run(
        ["kcat", "-b", kafka, "-X", "message.max.bytes=1048588", *arguments],
        input=stdin,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result


def kcat_write(kafka: str, topic: str, messages: Sequence[Message], *, codec: str = "none") -> None:
    """Write them, in order; kcat gives all messages of one run the headers of the first."""
    headers = [
        part
        for name, value in messages[0].headers
        for part in ("-H", f"{name}={(value or b'').decode()}")
    ]
    with_keys = ["-K", _KEY_END] if messages[0].key is not None else []
    lines = [
        (message.key + _KEY_END.encode() if message.key is not None else b"")
        + (message.value or b"")
        for message in messages
    ]
    kcat(
        kafka,
        *("-P", "-t", topic, "-p", "0", "-z", codec, "-D", _RECORD_END, "-X", "acks=all"),
        *with_keys,
        *headers,
        stdin=_RECORD_END.encode().join(lines),
    )


def kcat_read(kafka: str, topic: str, *arguments: str, start: str = "beginning") -> list[Message]:
    """Everything from `start` (kcat's own words for it) to the end."""
    result = kcat(
        kafka,
        *("-C", "-t", topic, "-p", "0", "-o", start, "-e", "-q"),
        *("-f", "%o %T %K %S %h\\n%k%s\\n"),
        *arguments,
    )
    return parse_kcat(result.stdout)


def parse_kcat(output: bytes) -> list[Message]:
    """The messages in `kcat_read`'s format, which has sizes first, so that any byte may follow."""
    found = []
    while output:
        line, _, output = output.partition(b"\n")
        fields = line.split(b" ", 4)
        offset, timestamp_ms, key_size, value_size = map(int, fields[:4])
        key = output[: max(key_size, 0)]
        value = output[len(key) : len(key) + max(value_size, 0)]
        output = output[len(key) + len(value) + 1 :]
        headers = tuple(
            (name.decode(), text)
            for name, _, text in (pair.partition(b"=") for pair in fields[4].split(b",") if pair)
        )
        found.append(
            Message(
                value=None if value_size < 0 else value,
                key=None if key_size < 0 else key,
                headers=headers,
                offset=offset,
                timestamp_ms=timestamp_ms,
            )
        )
    return found
