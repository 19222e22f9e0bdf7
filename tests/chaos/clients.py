"""Clients that write and read while nodes fail, and remember everything they were told."""

import asyncio
import struct
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException, Producer

from tests.cluster.processes import Node

RETRY_PAUSE_MS = 10
RECONNECT_PAUSE_MS_MAX = 500
"""Short: what the cluster adds is to be seen, not the pauses that the clients choose by default
(100 ms, and up to 10 s)."""

FLUSH_S_MAX = 90.0
"""How long producers may go on trying after the last fault has healed."""


@dataclass(slots=True)
class Sent:
    """One message, from the moment it was handed to a client."""

    value: bytes
    sent_at: float
    acked_at: float = 0.0
    offset: int = -1
    """-1 though it is acknowledged: the broker said that it had had it before, and not where."""
    error: str = ""


@dataclass
class History:
    """Everything that one producer sent to one topic, in its order, and what a reader saw."""

    topic: str
    client: str
    sent: list[Sent] = field(default_factory=list)
    errors: list[tuple[float, str]] = field(default_factory=list)
    """When the application was told of a failure, and what."""
    read: dict[int, bytes] = field(default_factory=dict)
    """By the live reader."""
    changed: list[str] = field(default_factory=list)
    """What the live reader saw that nobody may ever see."""

    def new(self) -> Sent:
        sent = Sent(b"%s:%08d" % (self.topic.encode(), len(self.sent)), time.monotonic())
        self.sent.append(sent)
        return sent

    def failed(self, sent: Sent, why: str) -> None:
        sent.error = why
        self.errors.append((time.monotonic(), why))

    @property
    def acked(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.acked_at]


class ConfluentWriter:
    """librdkafka, idempotent, in a thread of its own."""

    def __init__(self, history: History, bootstrap: str, rate: float) -> None:
        self.history = history
        self._bootstrap = bootstrap
        self._pause_s = 1 / rate
        self._stop = threading.Event()
        # A run that fails must end all the same.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        producer = self._producer()
        while not self._stop.is_set():
            sent = self.history.new()
            try:
                producer.produce(self.history.topic, sent.value, on_delivery=self._delivered(sent))
            except KafkaException as error:
                # A fatal error ends an idempotent producer; an application makes a new one.
                self.history.failed(sent, str(error))
                producer = self._producer()
            except BufferError:
                self.history.sent.pop()
            producer.poll(self._pause_s)
            self._stop.wait(self._pause_s)
        producer.flush(FLUSH_S_MAX)

    def _producer(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "retry.backoff.ms": RETRY_PAUSE_MS,
                "reconnect.backoff.max.ms": RECONNECT_PAUSE_MS_MAX,
                "log_level": 0,
            }
        )

    def _delivered(self, sent: Sent) -> Any:
        def on_delivery(error: object, message: Any) -> None:
            if error is not None:
                self.history.failed(sent, str(error))
            else:
                offset = message.offset()
                sent.acked_at, sent.offset = time.monotonic(), -1 if offset is None else offset

        return on_delivery


class AiokafkaWriter:
    """aiokafka, idempotent."""

    def __init__(self, history: History, bootstrap: str, rate: float) -> None:
        self.history = history
        self._bootstrap = bootstrap
        self._pause_s = 1 / rate
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._is_stopping = True
        assert self._task is not None
        await self._task

    async def _run(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            acks="all",
            linger_ms=2,
            request_timeout_ms=60_000,
            retry_backoff_ms=RETRY_PAUSE_MS,
        )
        await producer.start()
        try:
            while not self._is_stopping:
                sent = self.history.new()
                try:
                    future = await producer.send(self.history.topic, sent.value, partition=0)
                except KafkaError as error:
                    self.history.failed(sent, repr(error))
                else:
                    future.add_done_callback(self._delivered(sent))
                await asyncio.sleep(self._pause_s)
            await asyncio.wait_for(producer.flush(), FLUSH_S_MAX)
        finally:
            await producer.stop()

    def _delivered(self, sent: Sent) -> Any:
        def on_done(future: asyncio.Future[Any]) -> None:
            if future.cancelled() or future.exception() is not None:
                self.history.failed(sent, repr(future.exception()))
            else:
                sent.acked_at, sent.offset = time.monotonic(), future.result().offset

        return on_done


class NativeWriter:
    """PUT, one at a time, to any node that takes it. Only what was surely not stored is repeated,
    so that a duplicate is always the cluster's fault."""

    def __init__(self, history: History, nodes: list[Node], rate: float) -> None:
        self.history = history
        self._nodes = nodes
        self._pause_s = 1 / rate
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        self._turn = 0
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._is_stopping = True
        assert self._task is not None
        await self._task

    async def _run(self) -> None:
        while not self._is_stopping:
            await self._put(self.history.new())
            await asyncio.sleep(self._pause_s)
        if self._stream is not None:
            self._stream[1].close()

    async def _put(self, sent: Sent) -> None:
        command = b"PUT %s %s" % (self.history.topic.encode(), sent.value)
        for _ in count():
            is_sent = False
            try:
                if self._stream is None:
                    node = self._nodes[self._turn % len(self._nodes)]
                    self._stream = await asyncio.wait_for(
                        asyncio.open_connection("127.0.0.1", node.native_port), 2
                    )
                is_sent = True
                reply = await asyncio.wait_for(_ask(*self._stream, command), 30)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self._next_node()
                if not is_sent and not self._is_stopping:
                    await asyncio.sleep(0.02)
                    continue
                self.history.failed(sent, repr(error))
                return
            if reply == b"OK":
                sent.acked_at = time.monotonic()
                return
            if b"NotLeader" in reply and not self._is_stopping:
                self._next_node()
                await asyncio.sleep(0.02)
                continue
            self.history.failed(sent, reply.decode(errors="replace"))
            return

    def _next_node(self) -> None:
        self._turn += 1
        if self._stream is not None:
            self._stream[1].transport.abort()
            self._stream = None


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: bytes) -> bytes:
    writer.write(struct.pack("<I", len(command)) + command)
    (size,) = struct.unpack("<I", await reader.readexactly(4))
    return await reader.readexactly(size)


class Reader:
    """Follows a topic from its beginning, and compares whatever it sees twice."""

    def __init__(self, history: History, bootstrap: str) -> None:
        self._history = history
        self._bootstrap = bootstrap
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            auto_offset_reset="none",
            enable_auto_commit=False,
            retry_backoff_ms=RETRY_PAUSE_MS,
        )
        await consumer.start()
        partition = TopicPartition(self._history.topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        try:
            expected = 0
            async for message in consumer:
                history = self._history
                if message.offset != expected:
                    history.changed.append(f"offset {message.offset} came after {expected - 1}")
                expected = message.offset + 1
                history.read[message.offset] = message.value
        except KafkaError as error:
            self._history.changed.append(f"the reader was told {error!r}")
        finally:
            await consumer.stop()
