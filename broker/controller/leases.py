"""The table of what this node may write, derived from its view of the metadata and from nothing
else.

`sync` is the only place where partitions appear, get a new bucket, or end. It runs after every
change of the metadata (and costs nothing for topics that have not changed).
"""

from collections.abc import Callable

from broker.controller.bucket import Bucket
from broker.controller.partition import LocalPartition
from broker.controller.views import topic_view
from broker.errors import NotLeader, UnknownTopicId
from broker.ports import Clock
from broker.replication.quorum import ack_quorum
from broker.replication.store import Store
from broker.replication.writer import Writer
from engine.producer_state import ProducerState
from raft.leases import Lease, leases_of
from raft.state import ClusterState, Topic


class LeaseTable:
    """Partitions led by (`node`, `incarnation`), by topic id."""

    def __init__(
        self,
        *,
        node: int,
        store: Store,
        clock: Clock,
        after_append: Callable[[LocalPartition], None],
        on_disk_failure: Callable[[OSError], None],
    ) -> None:
        self._node = node
        self._store = store
        self._clock = clock
        self._after_append = after_append
        self._on_disk_failure = on_disk_failure
        self._incarnation = 0
        self._windows: dict[bytes, ProducerState] = {}
        self.partitions: dict[bytes, LocalPartition] = {}

    def begin(
        self, incarnation: int, windows: dict[bytes, ProducerState], state: ClusterState
    ) -> None:
        """Start leading as this incarnation; `windows` are the idempotence windows that recovery
        has rebuilt."""
        self._incarnation = incarnation
        self._windows = windows
        self.sync(state, state)

    def sync(self, before: ClusterState, after: ClusterState) -> None:
        """Bring the table in line with `after`. A metadata listener: never blocks, never raises."""
        if not self._incarnation:
            return
        leases = leases_of(after, self._node, self._incarnation)
        for topic_id in self.partitions.keys() - leases.keys():
            self._end(topic_id, after)
        for topic_id, lease in leases.items():
            topic = after.topics[topic_id]
            partition = self.partitions.get(topic_id)
            if partition is None:
                partition = self._begin_partition(topic, after)
            elif partition.metadata is not topic:
                partition.update(topic, topic_view(after, topic))
            if partition.bucket is None or partition.bucket.sid != lease.sid:
                partition.install(self._bucket(lease, topic, partition, after))

    def _begin_partition(self, topic: Topic, state: ClusterState) -> LocalPartition:
        partition = LocalPartition(
            topic,
            topic_view(state, topic),
            log=self._store.log(topic.name, topic.topic_id),
            store=self._store,
            clock=self._clock,
            window=self._windows.pop(topic.topic_id, ProducerState()),
            after_append=self._after_append,
        )
        self.partitions[topic.topic_id] = partition
        return partition

    def _bucket(
        self, lease: Lease, topic: Topic, partition: LocalPartition, state: ClusterState
    ) -> Bucket:
        opened = topic.segments[-1]
        writer = Writer(
            node=self._node,
            epoch=lease.epoch,
            base_offset=opened.base_offset,
            replicas=opened.replicas,
            quorum=ack_quorum(
                len(opened.replicas), partition.config.min_insync_replicas, len(state.brokers)
            ),
            window=partition.window,
        )

        def failed(error: OSError) -> None:
            partition.on_failed(error)
            self._on_disk_failure(error)

        bucket: Bucket
        segment = partition.log.open(
            lease.sid, opened.base_offset, lease.epoch, lambda: bucket.segment_header()
        )
        bucket = Bucket(
            lease=lease,
            writer=writer,
            segment=segment,
            keyed_snapshot=lambda: partition.keyed_snapshot(),
            on_committed=partition.on_committed,
            on_local=partition.on_local,
            on_failed=failed,
        )
        return bucket

    def _end(self, topic_id: bytes, state: ClusterState) -> None:
        partition = self.partitions.pop(topic_id)
        topic = state.topics.get(topic_id)
        if topic is None:
            partition.close(UnknownTopicId(f"{partition.topic.name} was deleted"))
        else:
            leader = topic.segments[-1].writer
            partition.close(
                NotLeader(f"{topic.name} has moved", leader_id=leader, leader_epoch=topic.epoch)
            )
