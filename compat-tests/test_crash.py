"""`kill -9` under load, and what is left: every acknowledged message, once and in order."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiokafka
import confluent_kafka
import pytest
from aiokafka.errors import KafkaError
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from harness.clients import (
    WAIT_S_MAX,
    Message,
    confluent_end,
    confluent_producer,
    confluent_read_all,
    confluent_write,
    offsets,
    values,
)
from harness.native import Native
from harness.server import Server

pytestmark = [pytest.mark.crash, pytest.mark.confluent]

Launch = Callable[..., Server]

ROUNDS = 4


class Writer(threading.Thread):
    """Writes 0, 1, 2, … until told to stop, and notes which were acknowledged, and where."""

    def __init__(self, server: Server, topic: str) -> None:
        super().__init__(name=type(self).__name__)
        self.server = server
        self.topic = topic
        self.acked: dict[int, int] = {}
        """Number to offset; -1 where the protocol does not say."""
        self.stopping = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.write()
        except BaseException as error:  # noqa: BLE001
            self.failure = error

    def write(self) -> None:
        raise AssertionError("a subclass writes")


class IdempotentWriter(Writer):
    """librdkafka with enable.idempotence: retries through the crash, and may not write twice."""

    def write(self) -> None:
        producer = confluent_producer(
            self.server.kafka,
            enable_idempotence=True,
            message_timeout_ms=120_000,
            reconnect_backoff_max_ms=200,
            retry_backoff_max_ms=200,
            compression_type="lz4",
        )
        number = 0
        while not self.stopping.is_set():
            producer.produce(self.topic, b"%d" % number, on_delivery=self._noter(number))
            number += 1
            producer.poll(0)
            if len(producer) > 2_000:
                producer.poll(0.01)
        assert producer.flush(WAIT_S_MAX) == 0
        assert len(self.acked) == number, "an idempotent producer gave up"

    def _noter(self, number: int) -> Any:
        def on_delivery(error: Any, message: Any) -> None:
            assert error is None, error
            self.acked[number] = message.offset()

        return on_delivery


class PlainWriter(Writer):
    """aiokafka with acks=all: one at a time, a failed one is never tried again."""

    def write(self) -> None:
        asyncio.run(self._write())

    async def _write(self) -> None:
        number = 0
        while not self.stopping.is_set():
            producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=self.server.kafka, acks="all", request_timeout_ms=10_000
            )
            try:
                await producer.start()
                while not self.stopping.is_set():
                    written = await producer.send_and_wait(self.topic, b"%d" % number)
                    self.acked[number] = written.offset
                    number += 1
            except KafkaError:
                number += 1
                await asyncio.sleep(0.05)
            finally:
                await producer.stop()  # also one that never started


class NativeWriter(Writer):
    """PUTs on a connection of its own, opened anew after each crash."""

    def write(self) -> None:
        number = 0
        while not self.stopping.is_set():
            try:
                with Native(self.server.native_port) as native:
                    while not self.stopping.is_set():
                        number += 1
                        native.put(self.topic, b"%d" % number)
                        self.acked[number] = -1
            except OSError:
                time.sleep(0.05)


@contextmanager
def _writing(writers: list[Writer]) -> Iterator[None]:
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join(WAIT_S_MAX)
    for writer in writers:
        assert not writer.is_alive(), f"{writer.name} hangs"
        if writer.failure is not None:
            raise writer.failure


def _wait_for_progress(writers: list[Writer], count: int) -> None:
    """Until every writer has `count` more acknowledgements than now."""
    goals = [len(writer.acked) + count for writer in writers]
    deadline = time.monotonic() + WAIT_S_MAX
    while any(len(w.acked) < goal for w, goal in zip(writers, goals, strict=True)):
        for writer in writers:
            assert writer.failure is None, writer.failure
        assert time.monotonic() < deadline, "nothing is acknowledged any more"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.aiokafka
@pytest.mark.parametrize("backend", ["best", "pread"])
def test_acknowledged_message_lost(launch: Launch, backend: str) -> None:
    environment = {"WALRUS_MAX_SEGMENT_ENTRIES": "5000"}
    if backend == "pread":
        environment["WALRUS_DISABLE_IO_URING"] = "1"
    server = launch(environment=environment)
    with Native(server.native_port) as native:
        native.register("native")
    writers: list[Writer] = [
        IdempotentWriter(server, "idempotent"),
        PlainWriter(server, "plain"),
        NativeWriter(server, "native"),
    ]
    ends = dict.fromkeys(("idempotent", "plain", "native"), 0)
    with _writing(writers):
        for _ in range(ROUNDS):
            _wait_for_progress(writers, 50)
            server.kill()
            server.start()
            for topic, end in ends.items():
                assert confluent_end(server.kafka, topic) >= end, "offsets went back"
                ends[topic] = confluent_end(server.kafka, topic)
        _wait_for_progress(writers, 50)

    by_name = {
        writer.topic: (writer, confluent_read_all(server.kafka, writer.topic)) for writer in writers
    }
    for writer, found in by_name.values():
        numbers = [int(message.value or b"-1") for message in found]
        assert offsets(found) == list(range(len(found))), "a hole in the offsets"
        assert set(writer.acked) <= set(numbers), "an acknowledged message is gone"
        for number, offset in writer.acked.items():
            assert offset < 0 or numbers[offset] == number, "not where it was acknowledged"

    assert values(by_name["idempotent"][1]) == [
        b"%d" % number for number in range(len(by_name["idempotent"][0].acked))
    ], "the idempotent producer's messages are not there once each and in order"
    puts = [int(message.value or b"-1") for message in by_name["native"][1]]
    assert puts == sorted(set(puts)), "a PUT was written twice, or out of order"
    assert server.stop() == 0


@pytest.mark.slow
def test_native_cursor_that_goes_back(launch: Launch) -> None:
    """What GET has answered is never answered again, through EMPTY polls and crashes."""
    server = launch()
    confluent_write(server.kafka, "taken", [Message(b"%d" % number) for number in range(400)])
    taken: list[int] = []
    for _ in range(4):
        with Native(server.native_port) as native:
            for _ in range(60):
                payload = native.get("taken")
                assert payload is not None
                taken.append(int(payload))
        server.kill()
        server.start()
    with Native(server.native_port) as native:
        taken += [int(payload) for payload in native.get_all("taken")]
        assert native.get("taken") is None
    assert taken == list(range(400))
    server.kill()
    server.start()
    with Native(server.native_port) as native:
        assert native.get("taken") is None, "an EMPTY poll and a crash brought messages back"
        native.put("taken", b"400")
        assert native.get("taken") == b"400"


def test_cursor_lost_under_load(launch: Launch) -> None:
    """Killed between two GETs of many: at most once, so nothing comes twice; little is skipped."""
    server = launch()
    count = 3_000
    confluent_write(server.kafka, "taken", [Message(b"%d" % number) for number in range(count)])
    taken: list[int] = []
    enough = threading.Event()

    def read() -> None:
        try:
            with Native(server.native_port) as native:
                while True:
                    payload = native.get("taken")
                    assert payload is not None
                    taken.append(int(payload))
                    if len(taken) >= 300:
                        enough.set()
        except OSError:
            return

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    assert enough.wait(WAIT_S_MAX)
    server.kill()
    for reader in readers:
        reader.join()
    server.start()
    with Native(server.native_port) as native:
        rest = [int(payload) for payload in native.get_all("taken")]
    assert len(set(taken) | set(rest)) == len(taken) + len(rest), "a message was given twice"
    assert max(taken) < min(rest)
    assert len(taken) + len(rest) >= count - len(readers), "more was skipped than was on its way"
    assert rest[-1] == count - 1


def test_litter_of_idle_restarts(launch: Launch) -> None:
    """Ten starts without a write leave the disk as it was, whether killed or asked to end."""
    server = launch()
    confluent_write(server.kafka, "quiet", [Message(b"x")] * 10)
    server.kill()
    server.start()
    server.stop()
    before = {path.relative_to(server.data_dir) for path in server.data_dir.rglob("*")}
    for turn in range(10):
        server.start()
        # The last one is asked to end: what is half deleted goes at the next start.
        if turn % 2:
            assert server.stop() == 0
        else:
            server.kill()
    after = {path.relative_to(server.data_dir) for path in server.data_dir.rglob("*")}
    assert len(after) <= len(before) + 2, sorted(after - before)
    assert [path for path in server.segment_files() if path.stat().st_size == 0] == []
    server.start()
    assert values(confluent_read_all(server.kafka, "quiet")) == [b"x"] * 10
    assert confluent_write(server.kafka, "quiet", [Message(b"y")]) == [10]


def test_identity_that_changes_at_a_restart(launch: Launch) -> None:
    server = launch()
    confluent_write(server.kafka, "known", [Message(b"x")])
    before = _identity(server)
    for end in (server.kill, server.stop):
        end()
        server.start()
        assert _identity(server) == before


def _identity(server: Server) -> tuple[str, str]:
    admin = AdminClient({"bootstrap.servers": server.kafka})
    cluster = admin.describe_cluster().result(WAIT_S_MAX)
    names = confluent_kafka.TopicCollection(["known"])
    topic = admin.describe_topics(names)["known"].result(WAIT_S_MAX)
    return str(cluster.cluster_id), str(topic.topic_id)


def test_topic_and_its_configuration_lost_with_the_process(launch: Launch) -> None:
    """A created topic is there after a crash, a deleted one is not."""
    server = launch()
    admin = AdminClient({"bootstrap.servers": server.kafka})
    created = [NewTopic(name, 1, 1, config={"retention.ms": "77777"}) for name in ("a", "b", "c")]
    for future in admin.create_topics(created).values():
        future.result(WAIT_S_MAX)
    confluent_write(server.kafka, "b", [Message(b"x")])
    admin.delete_topics(["b"])["b"].result(WAIT_S_MAX)
    server.kill()
    server.start()
    admin = AdminClient({"bootstrap.servers": server.kafka})
    topics = set(admin.list_topics(timeout=WAIT_S_MAX).topics)
    assert {"a", "c"} <= topics
    assert "b" not in topics
    resource = ConfigResource(ConfigResource.Type.TOPIC, "a")
    config = admin.describe_configs([resource])[resource].result(WAIT_S_MAX)
    assert config["retention.ms"].value == "77777"


def test_idempotent_producer_forgotten_by_a_restart(launch: Launch) -> None:
    """The same producer goes on after a crash with its next sequence number, unrefused."""
    server = launch()
    producer = confluent_producer(
        server.kafka, enable_idempotence=True, reconnect_backoff_max_ms=200
    )
    errors: list[Any] = []
    for number in range(30):
        producer.produce(
            "t", b"%d" % number, on_delivery=lambda error, _: errors.append(error) if error else 0
        )
        if number % 10 == 9:
            assert producer.flush(WAIT_S_MAX) == 0
            server.kill()
            server.start()
    assert errors == []
    assert values(confluent_read_all(server.kafka, "t")) == [b"%d" % n for n in range(30)]


def test_tail_torn_by_the_crash(launch: Launch) -> None:
    """Half a batch at the end of the file: cut, said, and the next write takes its offset."""
    server = launch()
    confluent_write(server.kafka, "torn", [Message(b"%d" % number) for number in range(20)])
    server.kill()
    path = next(path for path in server.segment_files() if "torn" in str(path.parent))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2][:70])
    server.start()
    assert values(confluent_read_all(server.kafka, "torn")) == [b"%d" % n for n in range(20)]
    assert confluent_write(server.kafka, "torn", [Message(b"next")]) == [20]


def test_damage_in_the_middle_that_is_served_or_hidden(launch: Launch) -> None:
    """A changed byte before good batches is refused, with file, position and remedy."""
    server = launch()
    for number in range(20):
        confluent_write(server.kafka, "damaged", [Message(b"value %d" % number)])
    server.kill()
    path = next(path for path in server.segment_files() if "damaged" in str(path.parent))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    server.start(wait=False)
    assert server.process is not None
    assert server.process.wait(WAIT_S_MAX) != 0
    log = server.log()
    assert path.name in log
    assert "walrus truncate" in log
    assert "Traceback" not in log


def test_disk_that_refuses(launch: Launch) -> None:
    """A write the system refuses: no false answer, a clear end, nothing lost."""
    server = launch(prefix=["prlimit", "--fsize=3000000"])
    producer = confluent_producer(server.kafka, message_timeout_ms=5_000, acks="all")
    acked: dict[int, bytes] = {}
    errors: list[Any] = []

    def on_delivery(error: Any, message: Any) -> None:
        if error is None:
            acked[message.offset()] = message.value()
        else:
            errors.append(error)

    for number in range(50):
        if not errors:
            producer.produce("full", b"%d " % number + b"x" * 100_000, on_delivery=on_delivery)
            assert producer.flush(WAIT_S_MAX) == 0
    assert 20 <= len(acked) <= 30
    assert server.process is not None
    assert server.process.wait(WAIT_S_MAX) == 1
    assert "walrus: the disk failed" in server.log()

    server.prefix = []
    server.start()
    found = confluent_read_all(server.kafka, "full")
    assert offsets(found) == list(range(len(found)))
    for offset, value in acked.items():
        assert found[offset].value == value
    assert confluent_write(server.kafka, "full", [Message(b"after")]) == [len(found)]
