"""The controller: what the protocols see of topics, nodes and leadership. Implements
`ports.AdminController`.

It owns nothing of its own: the truth is the replicated metadata, the partitions are in the lease
table, the bytes in the store. What keeps them going is in `broker.py`.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from broker.controller.clocks import Clocks
from broker.controller.everywhere import Everywhere
from broker.controller.group_configs import GroupConfigs
from broker.controller.lately import Lately
from broker.controller.leading import Leading
from broker.controller.log_dirs import log_dir, stored_logs
from broker.controller.metadata import Metadata
from broker.controller.partition import LocalPartition
from broker.controller.producer_ids import ProducerIds
from broker.controller.router import PATIENCE_S, Routed
from broker.controller.sealed import SealedCopies
from broker.controller.sight import Sight
from broker.controller.topics import Topics
from broker.controller.unclean import accept_loss
from broker.controller.views import Views, broker_addresses
from broker.errors import NotLeader, UnknownTopic, UnknownTopicId
from broker.ports import Appended, BrokerAddress, Buffer, EditConfigs, LogDir, TopicView
from broker.replication.copies import Copies
from broker.replication.peers import Peers
from broker.replication.store import Store
from raft.commands import Barrier, DeletePrefix
from raft.state import ClusterState


class LocalController:
    """One node's controller. See `ports.AdminController` for what the methods promise."""

    def __init__(
        self,
        *,
        node_id: int,
        metadata: Metadata,
        store: Store,
        peers: Peers,
        copies: Copies,
        leading: Leading,
        everywhere: Everywhere,
        clocks: Clocks,
        lately: Lately,
    ) -> None:
        self._node_id = node_id
        self._metadata = metadata
        self._store = store
        self._peers = peers
        self._copies = copies
        self._leading = leading
        self._partitions = leading.leases.partitions
        self._everywhere = everywhere
        self._lately = lately
        self.other_clocks = clocks.others
        """For who deletes what is too old."""
        self._views, self._sight = Views(), Sight(node=node_id, metadata=metadata)
        self._topics, self._group_configs = Topics(metadata), GroupConfigs(metadata)
        self._producer_ids = ProducerIds(metadata)
        self._led_as_of: ClusterState | None = None
        self._led_by_name: dict[str, LocalPartition] = {}
        """What `led` has found in the metadata of that moment."""

    # -- the cluster

    @property
    def node_id(self) -> int:
        return self._node_id

    @property
    def cluster_id(self) -> str:
        return self._metadata.state.cluster_id

    @property
    def seen(self) -> ClusterState:
        """See `sight.py`."""
        return self._sight.state

    def brokers(self, listener: str, *, lately: bool = False) -> tuple[BrokerAddress, ...]:
        besides = self._lately.nodes() if lately else ()
        return broker_addresses(self._metadata.state, listener, besides=besides)

    async def answers(self, node_id: int) -> bool:
        return await self._everywhere.answers(node_id)

    async def caught_up(self) -> None:
        """Wait until this node sees every change of the metadata that was made before. Raises
        MetadataUnavailable."""
        await self._metadata.propose(Barrier())

    async def producer_id(self) -> int:
        return await self._producer_ids.next()

    # -- topics

    def topics(self) -> Sequence[TopicView]:
        return [self._views.of(self.seen, topic) for topic in self._metadata.state.topics.values()]

    def topic(self, name: str) -> TopicView:
        view = self._views.named(self._sight.state, name)
        if view is None:
            raise UnknownTopic(f"unknown topic {name}")
        return view

    def topic_by_id(self, topic_id: UUID) -> TopicView:
        topic = self._metadata.state.topics.get(topic_id.bytes)
        if topic is None:
            raise UnknownTopicId(f"unknown topic id {topic_id}")
        return self._views.of(self.seen, topic)

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
        if not validate_only:
            await self._everywhere.seen()
        return self._views.of(self.seen, topic)

    async def delete_topic(self, topic_id: UUID) -> None:
        await self._topics.delete(topic_id.bytes)
        await self._everywhere.seen()

    async def configure(
        self, topic_id: UUID, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        await self._topics.configure(topic_id.bytes, edit, validate_only=validate_only)
        if not validate_only:
            await self._everywhere.seen()

    async def unclean_seal(self, name: str, *, force: str) -> None:
        """See `unclean.accept_loss`."""
        await accept_loss(self._metadata, name, force=force)

    # -- consumer groups

    def group_configs(self, group: str) -> Mapping[str, str]:
        return self._group_configs.of(group)

    async def configure_group(
        self, group: str, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        await self._group_configs.configure(group, edit, validate_only=validate_only)
        if not validate_only:
            await self._everywhere.seen()

    # -- records

    def partition(self, topic: TopicView) -> LocalPartition:
        partition = self._partitions.get(topic.topic_id.bytes)
        if partition is not None and partition.bucket is not None:
            return partition
        current = self.topic_by_id(topic.topic_id)
        raise NotLeader(
            f"node {self._node_id} does not lead {topic.name}",
            leader_id=current.leader_id,
            leader_epoch=current.leader_epoch,
        )

    def led(self, name: str) -> LocalPartition | None:
        state = self._metadata.state
        if state is not self._led_as_of:
            self._led_as_of = state
            self._led_by_name.clear()
        partition = self._led_by_name.get(name)
        if partition is None:
            topic_id = state.names.get(name)
            partition = None if topic_id is None else self._partitions.get(topic_id)
            if partition is None:
                return None
            self._led_by_name[name] = partition
        return None if partition.bucket is None else partition

    def led_partitions(self) -> Sequence[LocalPartition]:
        """What this node leads now; for metrics and status."""
        return self._leading.partitions()

    def known_end(self, topic: TopicView) -> int | None:
        """Where the topic ends, as far as this node can tell without asking: exact at its leader,
        about right where a copy is, None elsewhere."""
        partition = self._partitions.get(topic.topic_id.bytes)
        if partition is not None and partition.bucket is not None:
            return partition.high_watermark
        copy = self._copies.get(topic.topic_id.bytes, topic.segments[-1].sid)
        return None if copy is None else copy.segment.durable_offset

    def anywhere(
        self, topic: TopicView, *, resends: bool = True, patience_s: float = PATIENCE_S
    ) -> Routed:
        return Routed(topic, self, self._peers, resends=resends, patience_s=patience_s)

    async def send_on(
        self, topic: TopicView, batch: Buffer, *, acks: int
    ) -> tuple[Routed, Appended] | None:
        return await self._leading.handed_on.append(topic, batch, acks=acks)

    def sealed_copies(self, topic: TopicView) -> SealedCopies:
        metadata = self._metadata.state.topics.get(topic.topic_id.bytes)
        if metadata is None:
            raise UnknownTopicId(f"{topic.name} is gone")
        return SealedCopies(metadata, topic, self._store)

    async def delete_records(self, topic: TopicView, before_offset: int) -> int:
        return await self._leading.delete_records(self.partition(topic), before_offset)

    async def read_elsewhere(
        self, partition: LocalPartition, offset: int, *, size_max: int
    ) -> Buffer:
        """`Partition.read` where this node's copy is damaged. The segment that is written is closed
        for it: then others hold it whole, and no more of them has to be read than that. Raises
        StorageFailed where no other node has it."""
        if offset >= partition.metadata.last.base_offset:
            await self._leading.roll_in_place(partition, "the copy of this node is damaged")
        return await partition.read_elsewhere(offset, size_max=size_max)

    async def delete_prefix(self, topic_id: UUID, log_start_offset: int) -> None:
        """Give up everything below `log_start_offset`: wholly covered sealed segments go
        everywhere."""
        await self._metadata.propose(DeletePrefix(topic_id.bytes, log_start_offset))

    # -- the disk

    @property
    def stored_size(self) -> int:
        """Bytes of records that this node's disk holds."""
        logs = stored_logs(self._node_id, self._metadata.state, self._store)
        return sum(log.size for log in logs)

    async def log_dir(self) -> LogDir:
        return await log_dir(self._node_id, self._metadata.state, self._store)
