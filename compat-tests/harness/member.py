"""A member of a group as a program of its own, so that it can be killed.

    python -m harness.member aiokafka|confluent KAFKA GROUP TOPIC,TOPIC…

It tells what happens to it as harness/processes.py reads it, and leaves the group when its input
ends. `read` and `committed` carry the moment at last (seconds, the machine's monotonic clock), the
latter also that of its beginning; what is told was flushed before the next thing is done.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

SESSION_MS: Final = 6_000
HEARTBEAT_MS: Final = 500
POLL_S: Final = 0.05


def tell(*fields: object) -> None:
    sys.stdout.write("\t".join(map(str, fields)) + "\n")
    sys.stdout.flush()


def told_of(topics: Collection[str]) -> str:
    return ",".join(sorted(topics))


class Confluent:
    """Rebalances happen inside `consume`, so what it returned may be committed before the next."""

    def __init__(self, kafka: str, group: str, topics: Sequence[str]) -> None:
        import confluent_kafka

        self._kafka = confluent_kafka
        self._assigned: set[str] = set()
        self._consumer: Any = confluent_kafka.Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": HEARTBEAT_MS,
                "partition.assignment.strategy": "roundrobin",
                "reconnect.backoff.max.ms": 500,
                "log_level": 2,
            }
        )
        self._consumer.subscribe(list(topics), on_assign=self._assign, on_revoke=self._revoke)

    def run(self) -> None:
        ended = threading.Event()
        threading.Thread(target=_wait_for_end, args=(ended.set,), daemon=True).start()
        while not ended.is_set():
            self._take(self._consumer.consume(50, timeout=0.2))
        self._consumer.close()
        tell("closed")

    def _assign(self, _: Any, partitions: Any) -> None:
        self._assigned = {one.topic for one in partitions}
        tell("assigned", told_of(self._assigned), time.monotonic())

    def _revoke(self, _: Any, partitions: Any) -> None:
        self._assigned -= {one.topic for one in partitions}
        tell("revoked", told_of(self._assigned), time.monotonic())

    def _take(self, messages: Sequence[Any]) -> None:
        positions: dict[str, int] = {}
        for message in messages:
            if message.error() is None:
                tell("read", message.topic(), message.offset(), message.value().decode())
                positions[message.topic()] = message.offset() + 1
        if not positions:
            return
        wanted = [self._kafka.TopicPartition(name, 0, at) for name, at in positions.items()]
        begun = time.monotonic()
        try:
            done = self._consumer.commit(offsets=wanted, asynchronous=False)
        except self._kafka.KafkaException:
            return  # it may be read again: at least once
        for one in done:
            if one.error is None:
                tell("committed", one.topic, one.offset, begun, time.monotonic())


class Aiokafka:
    """Rebalances happen beside us: the lock keeps them out while records are taken and committed,
    and from a revocation to the next assignment none are taken."""

    def __init__(self, kafka: str, group: str, topics: Sequence[str]) -> None:
        self._kafka, self._group, self._topics = kafka, group, list(topics)
        self._lock = asyncio.Lock()
        self._is_assigned = False

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        import aiokafka
        from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

        class Listener(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
            on_partitions_revoked = staticmethod(self._revoked)
            on_partitions_assigned = staticmethod(self._got)

        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self._kafka,
            group_id=self._group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            metadata_max_age_ms=5_000,
        )
        consumer.subscribe(self._topics, listener=Listener())
        await consumer.start()
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        end = (lambda: loop.call_soon_threadsafe(ended.set),)
        threading.Thread(target=_wait_for_end, args=end, daemon=True).start()
        while not ended.is_set():
            async with self._lock:
                if self._is_assigned:
                    await self._take(consumer, await consumer.getmany(max_records=50))
            await asyncio.sleep(POLL_S)
        await consumer.stop()
        tell("closed")

    async def _revoked(self, _: Any) -> None:
        async with self._lock:
            self._is_assigned = False
            tell("revoked", "", time.monotonic())

    async def _got(self, assigned: Any) -> None:
        tell("assigned", told_of({one.topic for one in assigned}), time.monotonic())
        self._is_assigned = True

    async def _take(self, consumer: Any, found: Any) -> None:
        from aiokafka.errors import IllegalStateError, KafkaError

        for partition, messages in found.items():
            for message in messages:
                tell("read", partition.topic, message.offset, message.value.decode())
        positions = {one: messages[-1].offset + 1 for one, messages in found.items()}
        if not positions:
            return
        begun = time.monotonic()
        try:
            await consumer.commit(positions)
        except (KafkaError, IllegalStateError):
            return  # it may be read again: at least once
        for partition, offset in positions.items():
            tell("committed", partition.topic, offset, begun, time.monotonic())


def _wait_for_end(then: Any) -> None:
    while os.read(0, 4096):
        pass
    then()


Kind = type[Confluent] | type[Aiokafka]

CLIENTS: Final[dict[str, Kind]] = {"aiokafka": Aiokafka, "confluent": Confluent}


def main() -> None:
    client, kafka, group, topics = sys.argv[1:]
    CLIENTS[client](kafka, group, topics.split(",")).run()


if __name__ == "__main__":
    main()
