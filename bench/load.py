"""Python clients, each run a process of its own: `python -m bench.load KIND '{"argument": ...}'`.

Prints one sample as JSON.
"""

import asyncio
import json
import os
import random
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from bench.meter import Watch
from bench.stats import Sample, latencies
from engine.backends import choose
from engine.batch import check_batch, parse_header, patch
from engine.durability import EACH
from engine.records import Record, build
from engine.segment import Segment
from engine.wal import Wal

IN_FLIGHT_MAX = 20_000
"""Messages that an aiokafka producer has not heard of yet."""
CLIENT_S_MAX = 240.0
"""A client that runs for so long will never end."""
SILENCE_S_MAX = 30.0
"""A consumer that gets nothing for so long gives up."""
_STAMP = struct.Struct(">q")


ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 26), "MALLOC_TRIM_THRESHOLD_": str(1 << 26)}
"""Of the clients, on both sides: they keep what they have freed. By default librdkafka gives the
megabyte that a batch in zstd takes back to the kernel and faults it in again, or does not: that
doubles or halves its speed."""

READY = "ready"
"""A line that a consumer prints once it may be sent messages."""


class Running:
    """A client that works beside others."""

    def __init__(self, kind: str, arguments: dict[str, Any]) -> None:
        self._kind = kind
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load", kind, json.dumps(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | ALLOCATOR,
        )

    def wait_ready(self) -> None:
        """Raises RuntimeError with what it said instead."""
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != READY:
            self._failed(self._process.communicate()[1])

    def sample(self) -> Sample:
        """When it has ended. Raises RuntimeError with what it said, TimeoutExpired."""
        try:
            said, complaint = self._process.communicate(timeout=CLIENT_S_MAX)
        finally:
            self.end()
        if self._process.returncode:
            self._failed(complaint)
        sample: Sample = json.loads(said.splitlines()[-1])
        return sample

    def end(self) -> None:
        """If it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def _failed(self, complaint: str) -> None:
        raise RuntimeError(f"{self._kind} failed:\n{complaint[-2000:]}")


def begin(kind: str, **arguments: Any) -> Running:
    return Running(kind, arguments)


def run(kind: str, **arguments: Any) -> Sample:
    """One sample, from a process of its own. Raises RuntimeError with what that process said."""
    return begin(kind, **arguments).sample()


def _payload(size: int) -> bytes:
    """Letters, as Kafka's own tool sends them."""
    return bytes(random.Random(size).choices(range(65, 91), k=size))


def produce_confluent(
    address: str, topics: list[str], count: int, record_size: int, **settings: Any
) -> Sample:
    """`settings` are librdkafka's."""
    durations_ms: list[float] = []
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(error)
        durations_ms.append((message.latency() or 0.0) * 1000)

    producer = Producer(
        {"bootstrap.servers": address, "queue.buffering.max.messages": 100_000} | settings
    )
    payload = _payload(record_size)
    for topic in topics:
        producer.produce(topic, payload)
    producer.flush()
    watch = Watch(time.process_time)
    for number in range(count):
        while True:
            try:
                producer.produce(topics[number % len(topics)], payload, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.01)
        if number % 100 == 0:
            producer.poll(0)
    producer.flush()
    sample = watch.read(count)
    if failures:
        raise KafkaException(failures[0])
    return sample | latencies(durations_ms)


def produce_aiokafka(
    address: str, topics: list[str], count: int, record_size: int, **settings: Any
) -> Sample:
    """`settings` are aiokafka's."""

    async def main() -> Sample:
        durations_ms: list[float] = []
        payload = _payload(record_size)
        async with AIOKafkaProducer(bootstrap_servers=address, **settings) as producer:
            for topic in topics:
                await producer.send_and_wait(topic, payload)
            waiting: deque[asyncio.Future[Any]] = deque()
            watch = Watch(time.process_time)
            for number in range(count):
                sent_at = time.perf_counter()
                future = await producer.send(topics[number % len(topics)], payload)
                future.add_done_callback(
                    lambda _, sent_at=sent_at: durations_ms.append(
                        (time.perf_counter() - sent_at) * 1000
                    )
                )
                waiting.append(future)
                if len(waiting) > IN_FLIGHT_MAX:
                    await waiting.popleft()
            await asyncio.gather(*waiting)
            sample = watch.read(count)
        return sample | latencies(durations_ms)

    return asyncio.run(main())


def consume_confluent(address: str, topic: str, count: int, group: str) -> Sample:
    """`count` messages from the beginning, from the first one on; READY when it has the topic."""
    consumer = _consumer(address, group, topic, on_assign=lambda *_: print(READY, flush=True))
    seen = len(consumer.consume(1, timeout=SILENCE_S_MAX))
    watch = Watch(time.process_time)
    while seen < count:
        # It returns when it has as many, so never ask for more than come.
        messages = consumer.consume(min(10_000, count - seen), timeout=SILENCE_S_MAX)
        if not messages:
            raise TimeoutError(f"{seen} of {count} messages came")
        seen += len(messages)
    sample = watch.read(seen - 1)
    consumer.close()
    return sample | {"messages": seen}


def consume_aiokafka(address: str, topic: str, count: int, group: str) -> Sample:
    """As the other."""

    async def main() -> Sample:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest"
        )
        async with consumer:
            seen, watch = 0, None
            while seen < count:
                batches = await consumer.getmany(timeout_ms=int(SILENCE_S_MAX * 1000))
                if not batches:
                    raise TimeoutError(f"{seen} of {count} messages came")
                watch = watch or Watch(time.process_time)
                seen += sum(map(len, batches.values()))
            assert watch is not None
            return watch.read(seen) | {"messages": seen}

    return asyncio.run(main())


def send_stamped(
    address: str, topic: str, count: int, rate: float, record_size: int, **settings: Any
) -> Sample:
    """`count` messages that tell when they were sent, at a steady `rate` per second; 0: as fast as
    it goes. One without a stamp comes first, so that all is connected."""
    producer = Producer({"bootstrap.servers": address} | settings)
    producer.produce(topic, _STAMP.pack(0))
    producer.flush()
    padding = b"x" * (record_size - _STAMP.size)
    began = time.perf_counter()
    for number in range(count):
        while rate and (early_s := began + number / rate - time.perf_counter()) > 0:
            producer.poll(min(early_s, 0.001))
        stamped = _STAMP.pack(time.perf_counter_ns()) + padding
        while True:
            try:
                producer.produce(topic, stamped)
                break
            except BufferError:
                producer.poll(0.01)
    producer.flush()
    return {"messages_per_s": count / (time.perf_counter() - began)}


def read_stamped(address: str, topic: str, count: int) -> Sample:
    """From before `produce` in another process until it is here. The first tenth only warms up.
    READY when it has the topic."""
    consumer = _consumer(
        address, f"of-{topic}", topic, on_assign=lambda *_: print(READY, flush=True)
    )
    durations_ms: list[float] = []
    began_at = 0
    while len(durations_ms) < count:
        message = consumer.poll(SILENCE_S_MAX)
        now = time.perf_counter_ns()  # of the whole machine: CLOCK_MONOTONIC
        if message is None:
            raise TimeoutError(f"{len(durations_ms)} of {count} messages came")
        if (error := message.error()) is not None:
            raise KafkaException(error)
        (sent_at,) = _STAMP.unpack_from(message.value() or b"")
        if sent_at:
            began_at = began_at or sent_at
            durations_ms.append((now - sent_at) / 1e6)
    consumer.close()
    rate = count * 1e9 / (now - began_at)
    return {"messages_per_s": rate, **latencies(durations_ms[count // 10 :])}


def engine_batches(folder: str, count: int, entries: int, record_size: int) -> Sample:
    """Our engine alone, in this process: durable batches, one after the other. They are built
    beforehand, as clients do, and checked and placed here."""
    backend = choose()
    wal = Wal(Path(folder), backend, EACH, wake=lambda: None)
    segment = wal.log("bench", bytes(range(16))).open(1, 0, 1, lambda: b"")
    records = [Record(number, 0, None, b"x" * record_size) for number in range(entries)]
    batch = build(records, base_timestamp=0)
    began = time.perf_counter()
    for _ in range(count):
        patch(batch, base_offset=segment.end_offset, leader_epoch=1)
        header = parse_header(batch)
        check_batch(batch, header)
        segment.append([(header, [bytes(batch)])])
        _commit(wal, [segment])
    took_s = time.perf_counter() - began
    wal.close()
    backend.close()
    return {"messages_per_s": count * entries / took_s}


def group_commits(folder: str, count: int, files: int, batches: int) -> Sample:
    """Our engine alone: `count` group commits of `batches` small batches, spread over `files`."""
    backend = choose()
    wal = Wal(Path(folder), backend, EACH, wake=lambda: None)
    log = wal.log("bench", bytes(range(16)))
    segments = [log.open(number + 1, 0, 1, lambda: b"") for number in range(files)]
    batch = build([Record(0, 0, None, b"x" * 100)], base_timestamp=0)

    def commit() -> None:
        for number in range(batches):
            segment = segments[number % files]
            patch(batch, base_offset=segment.end_offset, leader_epoch=1)
            segment.append([(parse_header(batch), [bytes(batch)])])
        _commit(wal, segments)

    commit()
    durations_ms: list[float] = []
    began = time.perf_counter()
    for _ in range(count):
        started = time.perf_counter()
        commit()
        durations_ms.append((time.perf_counter() - started) * 1000)
    took_s = time.perf_counter() - began
    wal.close()
    backend.close()
    return {"messages_per_s": count * batches / took_s, **latencies(durations_ms)}


def _commit(wal: Wal, segments: Sequence[Segment]) -> None:
    """Until all that was appended is durable. Raises OSError when the disk refuses."""
    while waiting := [one for one in segments if one.durable_offset < one.end_offset]:
        for segment in waiting:
            if segment.failed is not None:
                raise segment.failed
        wal.flush()
        wal.backend.wait()
        wal.reap()


def _consumer(address: str, group: str, topic: str, **callbacks: Any) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe([topic], **callbacks)
    return consumer


KINDS: dict[str, Callable[..., Sample]] = {
    function.__name__: function
    for function in (
        produce_confluent,
        produce_aiokafka,
        consume_confluent,
        consume_aiokafka,
        send_stamped,
        read_stamped,
        engine_batches,
        group_commits,
    )
}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](**json.loads(sys.argv[2]))))
