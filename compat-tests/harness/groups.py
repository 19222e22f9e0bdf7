"""Members of consumer groups, as objects a test can start, watch and kill."""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import confluent_kafka
from confluent_kafka.admin import AdminClient

WAIT_S_MAX = 30.0


def until(condition: Callable[[], object], what: str, wait_s_max: float = WAIT_S_MAX) -> None:
    """Wait for something that happens elsewhere. Raises AssertionError when it does not."""
    deadline = time.monotonic() + wait_s_max
    while not condition():
        assert time.monotonic() < deadline, f"not within {wait_s_max} s: {what}"
        time.sleep(0.02)


class ConfluentMember:
    """A confluent-kafka consumer in a thread of its own; commits what it has read, in order.

    Every topic has one partition, and `range`, which is the default, counts by topic: it would
    give them all to one member.
    """

    def __init__(self, kafka: str, group: str, topics: Sequence[str], **settings: Any) -> None:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        self.consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 500,
                "partition.assignment.strategy": "roundrobin",
                "reconnect.backoff.max.ms": 500,
                "log_level": 2,
            }
            | given
        )
        self.read: list[tuple[str, int, bytes]] = []
        """Topic, offset and value, as they came."""
        self.committed: dict[str, int] = {}
        """What the broker has acknowledged."""
        self.assigned: set[str] = set()
        self.rebalance_count = 0
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._is_cooperative = "cooperative" in given.get("partition.assignment.strategy", "")
        self.consumer.subscribe(list(topics), on_assign=self._assign, on_revoke=self._revoke)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _assign(self, consumer: Any, partitions: Any) -> None:
        self.rebalance_count += 1
        if not self._is_cooperative:
            self.assigned.clear()
        self.assigned |= {one.topic for one in partitions}

    def _revoke(self, consumer: Any, partitions: Any) -> None:
        self.assigned -= {one.topic for one in partitions}

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                message: Any = self.consumer.poll(0.05)
                if message is None:
                    continue
                if message.error() is not None:
                    assert message.error().retriable() or message.error().code() < 0, (
                        message.error()
                    )
                    continue
                self.read.append((message.topic(), message.offset(), message.value()))
                self._commit(message)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.consumer.close()

    def _commit(self, message: Any) -> None:
        try:
            self.consumer.commit(message=message, asynchronous=False)
        except confluent_kafka.KafkaException:
            return  # it may be read again: at least once
        self.committed[message.topic()] = message.offset() + 1

    def values(self) -> list[bytes]:
        return [value for _, _, value in self.read]

    def stop(self) -> None:
        """Begin to close, and do not wait."""
        self._stop.set()

    def close(self) -> None:
        """Leave the group (a static member stays in it)."""
        self.stop()
        self._thread.join(WAIT_S_MAX)
        assert not self._thread.is_alive()
        assert self.failure is None, self.failure


class KcatMember:
    """`kcat -G` as a process that can be killed."""

    def __init__(self, kafka: str, group: str, topics: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [
                *("kcat", "-b", kafka, "-q", "-f", "%t %o %s\\n", "-u"),
                *("-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"),
                *("-X", "heartbeat.interval.ms=500"),
                *("-X", "partition.assignment.strategy=roundrobin"),
                *("-G", group, *topics),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.lines: list[bytes] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def values(self) -> list[bytes]:
        return [line.split(b" ", 2)[2] for line in self.lines]

    def kill(self) -> None:
        """No LeaveGroup, no goodbye."""
        self.process.kill()
        self._thread.join(WAIT_S_MAX)
        self.process.wait(WAIT_S_MAX)
        assert self.process.stdout is not None
        self.process.stdout.close()


def write(kafka: str, topics: Sequence[str], values: Sequence[str]) -> set[bytes]:
    """One message per topic and value; returns what was written."""
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka, "linger.ms": 1})
    written = set()
    for topic in topics:
        for value in values:
            text = f"{topic}/{value}".encode()
            producer.produce(topic, text)
            written.add(text)
    assert producer.flush(WAIT_S_MAX) == 0
    return written


def create(kafka: str, *topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    futures = admin.create_topics([confluent_kafka.admin.NewTopic(topic, 1, 1) for topic in topics])
    for future in futures.values():
        future.result(WAIT_S_MAX)


def describe(kafka: str, group: str) -> Any:
    admin = AdminClient({"bootstrap.servers": kafka})
    return admin.describe_consumer_groups([group])[group].result(WAIT_S_MAX)


def positions(kafka: str, group: str) -> dict[str, int]:
    """What the group has committed, by topic."""
    admin = AdminClient({"bootstrap.servers": kafka})
    asked = confluent_kafka.ConsumerGroupTopicPartitions(group)
    found = admin.list_consumer_group_offsets([asked])[group].result(WAIT_S_MAX)
    return {one.topic: one.offset for one in found.topic_partitions}


def share_is_even(members: Sequence[ConfluentMember], topics: Sequence[str]) -> bool:
    """Every topic has one reader, and nobody is idle."""
    found = [topic for member in members for topic in sorted(member.assigned)]
    return sorted(found) == sorted(topics) and all(member.assigned for member in members)
