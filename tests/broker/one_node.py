"""A node without sockets: metadata on a real disk, segments on one in RAM that can be lost."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio import to_thread

from broker.controller.broker import LocalBroker
from broker.controller.metadata import Metadata
from broker.controller.monitor import RollLimits
from broker.controller.partition import LocalPartition
from broker.groups.coordinator import Coordinator, GroupConfig
from broker.ports import ACKS_ALL, Appended
from broker.replication.store import Store
from engine.backends._memory import MemoryBackend
from engine.batch import iter_headers
from engine.durability import FsyncPolicy
from engine.records import Record, build, iter_records
from raft.commands import RegisterBroker
from raft.node import RaftNode
from tests.broker.no_peers import NoPeers

NODE = 1
DISK = bytes(range(16))
TOPICS = Path("/topics")


class ManualClock:
    """Wall time under the test's control; monotonic time stands still."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.wall_ms = now_ms

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic(self) -> float:
        return 0.0


class OneNode:
    """One incarnation of the node. Made by `running`."""

    def __init__(
        self,
        backend: MemoryBackend,
        broker: LocalBroker,
        clock: ManualClock,
        groups: GroupConfig | None,
    ) -> None:
        self.backend = backend
        self.broker = broker
        self.controller = broker.controller
        self.clock = clock
        self.groups = Coordinator(self.controller, clock, groups)
        self.disk_failures: list[OSError] = []

    async def topic(self, name: str = "t", **configs: str) -> LocalPartition:
        """The partition of a topic, created if need be."""
        if name not in [topic.name for topic in self.controller.topics()]:
            await self.controller.create_topic(
                name, configs={key.replace("_", "."): value for key, value in configs.items()}
            )
        return self.controller.partition(self.controller.topic(name))


@asynccontextmanager
async def running(
    path: Path,
    backend: MemoryBackend | None = None,
    *,
    clock: ManualClock | None = None,
    entries_max: int = 1_000_000,
    size_max: int = 1 << 30,
    monitor_interval_ms: int = 60_000,
    retention_interval_ms: int = 60_000,
    fsync: str = "each",
    is_trusted: bool = True,
    groups: GroupConfig | None = None,
) -> AsyncIterator[OneNode]:
    """Start a node on `backend` (its segments) and `path` (its metadata), and stop it without any
    farewell to the segments: what a clone of the backend shows afterwards is what a kill leaves."""
    backend = backend or MemoryBackend()
    clock = clock or ManualClock()
    raft = RaftNode(
        directory=path / "raft", voter_id=DISK.hex(), rng=random.SystemRandom(), debug=True
    )
    await to_thread.run_sync(raft.start)
    store = Store(TOPICS, backend, FsyncPolicy.parse(fsync))
    store.attach()
    try:
        loop = asyncio.get_running_loop()
        broker = LocalBroker(
            node_id=NODE,
            disk=DISK,
            metadata=Metadata(raft, loop.call_soon_threadsafe),
            store=store,
            peers=NoPeers(),
            raft_leader=lambda: NODE,
            clock=clock,
            limits=RollLimits(entries_max, size_max),
            monitor_interval_ms=monitor_interval_ms,
            retention_interval_ms=retention_interval_ms,
            on_disk_failure=lambda error: node.disk_failures.append(error),
        )
        node = OneNode(backend, broker, clock, groups)
        register = RegisterBroker(
            node=NODE, disk=DISK, raft_host="127.0.0.1", raft_port=6000,
            listeners=(("PLAINTEXT", "127.0.0.1", 9092),), rack=None, clean=is_trusted,
        )  # fmt: skip
        async with anyio.create_task_group() as tasks:
            await broker.start(tasks, cluster_id="test-cluster", register=register)
            node.groups.start(tasks)
            yield node
            tasks.cancel_scope.cancel()
    finally:
        store.detach()
        await to_thread.run_sync(raft.stop)


def batch(
    *values: bytes | None,
    timestamp_ms: int = 1_700_000_000_000,
    producer: tuple[int, int, int] = (-1, -1, -1),
    key: bytes | None = None,
) -> bytearray:
    """A batch as a client sends it; records are a millisecond apart."""
    producer_id, epoch, sequence = producer
    return build(
        [
            Record(offset_delta=index, timestamp_delta=index, key=key, value=value, headers=())
            for index, value in enumerate(values)
        ],
        base_timestamp=timestamp_ms,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )


async def put(partition: LocalPartition, *values: bytes, **options: object) -> Appended:
    """Append with acks=all and wait until it is committed."""
    appended = await partition.append(batch(*values, **options), acks=ACKS_ALL)  # type: ignore[arg-type]
    await partition.committed(appended.end_offset, acks=ACKS_ALL, timeout_s=10)
    return appended


async def read_all(partition: LocalPartition) -> list[tuple[int, bytes | None]]:
    """Every visible (offset, value), by following the log as a consumer does."""
    found: list[tuple[int, bytes | None]] = []
    offset = partition.log_start_offset
    while data := await partition.read(offset, size_max=64 * 1024):
        for position, header in iter_headers(data):
            payload = memoryview(data)[position + 61 : position + header.size]
            for record in iter_records(payload, header.record_count):
                at = header.base_offset + record.offset_delta
                if at >= offset:
                    found.append((at, record.value))
            offset = header.next_offset
    return found


def values(found: Sequence[tuple[int, bytes | None]]) -> list[bytes | None]:
    """Only the values, after checking that the offsets have no gap."""
    offsets = [offset for offset, _ in found]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets))) if offsets else True
    return [value for _, value in found]
