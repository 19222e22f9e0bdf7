"""The controller: what the protocols see of topics, nodes and leadership. Implements
`ports.Controller`.

It owns nothing of its own: the truth is the replicated metadata, the partitions are in the lease
table, the bytes in the store. This is where they are put together and where the background work of
a node is started.
"""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import anyio
from anyio.abc import TaskGroup

from broker.controller.housekeeping import Housekeeping
from broker.controller.leases import LeaseTable
from broker.controller.metadata import Metadata
from broker.controller.monitor import Monitor, RollLimits
from broker.controller.partition import LocalPartition
from broker.controller.restart import Restart
from broker.controller.roll import roll
from broker.controller.topics import Topics
from broker.controller.views import Views, broker_addresses
from broker.errors import MetadataUnavailable, NotLeader, UnknownTopic, UnknownTopicId
from broker.ports import BrokerAddress, Clock, TopicView
from broker.replication.store import Store
from raft.commands import (
    AllocateProducerIds,
    DeletePrefix,
    FormCluster,
    Next,
    RegisterBroker,
)

_PRODUCER_IDS_PER_BLOCK = 1000


class LocalController:
    """One node's controller. See `ports.Controller` for what the methods promise."""

    def __init__(
        self,
        *,
        node_id: int,
        disk: bytes,
        metadata: Metadata,
        store: Store,
        clock: Clock,
        limits: RollLimits,
        monitor_interval_ms: int,
        on_disk_failure: Callable[[OSError], None],
    ) -> None:
        self._node_id = node_id
        self._disk = disk
        self._incarnation = 0
        self._metadata = metadata
        self._store = store
        self._views = Views()
        self._producer_ids = range(0)
        self._producer_id_lock = anyio.Lock()
        self._monitor = Monitor(
            limits,
            interval_ms=monitor_interval_ms,
            partitions=lambda: self._leases.partitions.values(),
            roll=self._roll,
        )
        self._leases = LeaseTable(
            node=node_id,
            store=store,
            clock=clock,
            after_append=self._monitor.after_append,
            on_disk_failure=on_disk_failure,
        )
        self._housekeeping = Housekeeping(store)
        self._topics = Topics(metadata, next_writer=self._next_writer)

    # -- the life of a node

    async def join(self, *, cluster_id: str, register: RegisterBroker) -> None:
        """Form the cluster if there is none yet (of id `cluster_id`), and take part in it as a new
        incarnation."""
        if not self._metadata.state.cluster_id:
            await self._metadata.propose(FormCluster(cluster_id))
        applied = await self._metadata.propose(register)
        if applied.refusal:
            raise MetadataUnavailable(f"node {self._node_id} may not register: {applied.refusal}")
        self._incarnation = applied.value

    async def recover(self) -> None:
        """Read the logs back, seal what was open, lead again. Raises what `Restart.run` raises."""
        restart = Restart(
            node=self._node_id,
            incarnation=self._incarnation,
            disk=self._disk,
            metadata=self._metadata,
            store=self._store,
        )
        self._metadata.listen(self._housekeeping.on_change)
        windows = await restart.run()
        self._metadata.listen(self._leases.sync)
        self._leases.begin(self._incarnation, windows, self._metadata.state)

    def start(self, tasks: TaskGroup) -> None:
        """Begin the background work."""
        tasks.start_soon(self._monitor.run)
        tasks.start_soon(self._housekeeping.run)
        tasks.start_soon(self._store.sync_periodically)

    async def _roll(self, partition: LocalPartition, reason: str) -> bool:
        return await roll(
            partition,
            self._metadata,
            next_writer=self._next_writer(partition.metadata.replication_factor),
            disk=self._disk,
            reason=reason,
        )

    def _next_writer(self, replication_factor: int) -> Next:
        """Who writes next, with which replicas: as many live nodes as there are, up to the
        target."""
        return Next(self._node_id, self._incarnation, (self._node_id,))

    # -- ports.Controller

    @property
    def node_id(self) -> int:
        return self._node_id

    @property
    def incarnation(self) -> int:
        """Raft index of this process's registration; 0 before it."""
        return self._incarnation

    @property
    def cluster_id(self) -> str:
        return self._metadata.state.cluster_id

    def brokers(self, listener: str) -> tuple[BrokerAddress, ...]:
        return broker_addresses(self._metadata.state, listener)

    def topics(self) -> Sequence[TopicView]:
        return [
            self._views.of(self._metadata.state, topic)
            for topic in self._metadata.state.topics.values()
        ]

    def topic(self, name: str) -> TopicView:
        topic_id = self._metadata.state.names.get(name)
        if topic_id is None:
            raise UnknownTopic(f"unknown topic {name}")
        return self._views.of(self._metadata.state, self._metadata.state.topics[topic_id])

    def topic_by_id(self, topic_id: UUID) -> TopicView:
        topic = self._metadata.state.topics.get(topic_id.bytes)
        if topic is None:
            raise UnknownTopicId(f"unknown topic id {topic_id}")
        return self._views.of(self._metadata.state, topic)

    async def create_topic(
        self,
        name: str,
        *,
        configs: Mapping[str, str],
        replication_factor: int = -1,
        validate_only: bool = False,
        is_internal: bool = False,
    ) -> TopicView:
        topic = await self._topics.create(
            name,
            configs=configs,
            replication_factor=replication_factor,
            is_internal=is_internal,
            validate_only=validate_only,
        )
        return self._views.of(self._metadata.state, topic)

    async def delete_topic(self, topic_id: UUID) -> None:
        await self._topics.delete(topic_id.bytes)

    async def delete_prefix(self, topic_id: UUID, log_start_offset: int) -> None:
        """Give up everything below `log_start_offset`: wholly covered sealed segments go
        everywhere."""
        await self._metadata.propose(DeletePrefix(topic_id.bytes, log_start_offset))

    def partition(self, topic: TopicView) -> LocalPartition:
        partition = self._leases.partitions.get(topic.topic_id.bytes)
        if partition is not None and partition.bucket is not None:
            return partition
        current = self.topic_by_id(topic.topic_id)
        raise NotLeader(
            f"node {self._node_id} does not lead {topic.name}",
            leader_id=current.leader_id,
            leader_epoch=current.leader_epoch,
        )

    def led_partitions(self) -> Sequence[LocalPartition]:
        """What this node leads now; for metrics and status."""
        return list(self._leases.partitions.values())

    async def producer_id(self) -> int:
        async with self._producer_id_lock:
            if not self._producer_ids:
                applied = await self._metadata.propose(AllocateProducerIds(_PRODUCER_IDS_PER_BLOCK))
                if applied.refusal:
                    raise MetadataUnavailable(f"no producer ids: {applied.refusal}")
                self._producer_ids = range(applied.value, applied.value + _PRODUCER_IDS_PER_BLOCK)
            producer_id, self._producer_ids = self._producer_ids[0], self._producer_ids[1:]
            return producer_id
