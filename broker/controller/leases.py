"""The table of what this node may write, derived from its view of the metadata and from nothing
else.

`sync` is the only place where partitions appear, get a new bucket, or end. It runs after every
change of the metadata.
"""

import math
from collections.abc import Callable, Iterable

import anyio
import structlog
from anyio.abc import TaskGroup

from broker.controller.bucket import Bucket
from broker.controller.handed_on import HandedOn
from broker.controller.partition import LocalPartition
from broker.controller.views import topic_view
from broker.controller.windows import Windows
from broker.errors import NotLeader, StorageFailed, UnknownTopicId
from broker.ports import Clock
from broker.replication.barrier import ReadBarrier
from broker.replication.copies import Copies, LocalCopy
from broker.replication.peers import Peers, PeerUnreachable
from broker.replication.quorum import ack_quorum
from broker.replication.remote import RemoteReader
from broker.replication.store import Store
from broker.replication.writer import Writer, WriterPhase
from engine.producer_state import ProducerState
from raft.leases import Lease, leases_of
from raft.state import ClusterState, Topic

_log = structlog.get_logger(__name__)

RETRY_PAUSE_S = 0.05

UNREADY_S = 5.0
"""A leader that cannot lead for longer says so."""

HEARSAY_S = 1.0
"""How long another node may be ahead of us in what it knows."""


class LeaseTable:
    """Partitions led by (`node`, its incarnation), by topic id. `run` prepares those that need
    reading back first."""

    def __init__(
        self,
        *,
        node: int,
        disk: bytes,
        store: Store,
        copies: Copies,
        windows: Windows,
        peers: Peers,
        clock: Clock,
        is_lease_good: Callable[[Writer], bool],
        after_write: Callable[[LocalPartition], None],
        handed_on: HandedOn,
    ) -> None:
        self._node = node
        self._disk = disk
        self._store = store
        self._copies = copies
        self._windows = windows
        self._peers = peers
        self._clock = clock
        self._is_lease_good = is_lease_good
        self._after_write = after_write
        self._handed_on = handed_on
        self._incarnation = 0
        self._state: ClusterState | None = None
        self._synced = anyio.Event()
        self._preparing: set[tuple[bytes, int]] = set()
        self._unled: set[bytes] = set()
        """Topics that this process may write, and cannot yet."""
        self._tasks: TaskGroup | None = None
        self.partitions: dict[bytes, LocalPartition] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            try:
                self._sync_all()
                await anyio.sleep_forever()
            finally:
                self._tasks = None

    def begin(self, incarnation: int, state: ClusterState) -> None:
        """Start leading as this incarnation."""
        self._incarnation = incarnation
        self._state = state
        self._sync_all()

    def sync(self, before: ClusterState, after: ClusterState) -> None:
        """Bring the table in line with `after`. A metadata listener: never blocks, never raises."""
        self._state = after
        if before.brokers.get(self._node) is after.brokers.get(self._node):
            changed = after.topics.changed_since(before.topics)
            self._sync(dict.fromkeys((*changed, *self._unled)))
        else:
            self._sync_all()

    def _sync_all(self) -> None:
        known = () if self._state is None else self._state.topics
        self._sync(dict.fromkeys((*self.partitions, *known)))

    def _sync(self, topic_ids: Iterable[bytes]) -> None:
        """Bring these in line with the state. The others are: nothing but the metadata of a topic
        and of this node decides what this process may write. What it cannot write yet is tried
        again at each change."""
        state = self._state
        if state is None or not self._incarnation:
            return
        leases = leases_of(state, self._node, self._incarnation, topic_ids)
        for topic_id in topic_ids:
            self._sync_one(topic_id, leases.get(topic_id), state)
        event, self._synced = self._synced, anyio.Event()
        event.set()

    def _sync_one(self, topic_id: bytes, lease: Lease | None, state: ClusterState) -> None:
        topic = state.topics.get(topic_id)
        partition = self.partitions.get(topic_id)
        self._unled.discard(topic_id)
        if lease is None or topic is None:
            if partition is not None:
                self._end(topic_id, state)
            return
        if partition is not None and not partition.goes_on_in(topic.last):
            self._end(topic_id, state)
        elif partition is not None and partition.metadata is not topic:
            partition.update(topic, topic_view(state, topic))
            self._require(partition, state)
        if not self._is_led(lease):
            self._lead(lease, topic, state)
        if not self._is_led(lease):
            self._unled.add(topic_id)

    async def changed(self) -> None:
        """Wait until the table was brought in line once more."""
        await self._synced.wait()

    async def heard_of(self, topic_id: bytes, epoch: int) -> None:
        """Another node asks us as the topic's leader since `epoch`: wait until we have heard of
        that, too, and can write, if that is a matter of moments."""
        with anyio.move_on_after(HEARSAY_S):
            while self._is_behind(topic_id, epoch):
                await self.changed()

    def _is_behind(self, topic_id: bytes, epoch: int) -> bool:
        state = self._state
        topic = None if state is None else state.topics.get(topic_id)
        if state is None or topic is None:
            return False
        if topic.epoch < epoch:
            return True
        partition = self.partitions.get(topic_id)
        if partition is not None and partition.bucket is not None:
            return False
        return topic_id in leases_of(state, self._node, self._incarnation, (topic_id,))

    async def settled(self) -> None:
        """Wait until everything this process may write can be written."""
        while self._unled:
            await self.changed()

    def _require(self, partition: LocalPartition, state: ClusterState) -> None:
        """`min.insync.replicas` may have changed."""
        bucket = partition.bucket
        if bucket is not None:
            quorum = _quorum(partition, len(bucket.writer.durable), state)
            if quorum != bucket.writer.needed:
                bucket.writer.require(quorum)
                bucket.progress()

    def _is_led(self, lease: Lease) -> bool:
        partition = self.partitions.get(lease.topic_id)
        bucket = None if partition is None else partition.bucket
        return bucket is not None and bucket.sid == lease.sid

    def _lead(self, lease: Lease, topic: Topic, state: ClusterState) -> None:
        copy = self._copies.get(topic.topic_id, lease.sid)
        if copy is not None and copy.window is not None:
            partition = self.partitions.get(topic.topic_id) or self._begin(topic, state)
            partition.install(self._bucket(lease, copy, copy.window, partition, state))
        elif self._tasks is not None and (topic.topic_id, lease.sid) not in self._preparing:
            self._preparing.add((topic.topic_id, lease.sid))
            self._tasks.start_soon(self._prepare, topic.topic_id, lease.sid)

    async def _prepare(self, topic_id: bytes, sid: int) -> None:
        """Read the window back, then lead. Given up when the lease is gone. Who holds what is
        before it is looked up each time: those who did at first may be away."""
        patient_until = self._clock.monotonic() + UNREADY_S
        try:
            while (topic := self._ours(topic_id, sid)) is not None:
                copy = self._copies.get(topic_id, sid)
                if copy is not None and copy.window is not None:
                    break
                try:
                    window = await self._windows.before_last(topic)
                except (PeerUnreachable, StorageFailed) as error:
                    if self._clock.monotonic() > patient_until:
                        patient_until = math.inf
                        _log.warning("not ready to lead", topic=topic.name, why=str(error))
                    await anyio.sleep(RETRY_PAUSE_S)
                    continue
                if copy is not None:
                    copy.window = window
        finally:
            self._preparing.discard((topic_id, sid))
        self._sync((topic_id,))

    def _ours(self, topic_id: bytes, sid: int) -> Topic | None:
        """The topic as of now, if that segment is ours to write."""
        if self._state is None:
            return None
        lease = leases_of(self._state, self._node, self._incarnation, (topic_id,)).get(topic_id)
        return self._state.topics[topic_id] if lease is not None and lease.sid == sid else None

    def _begin(self, topic: Topic, state: ClusterState) -> LocalPartition:
        partition = LocalPartition(
            topic,
            topic_view(state, topic),
            log=self._store.log(topic.name, topic.topic_id),
            store=self._store,
            remote=RemoteReader(self._peers),
            clock=self._clock,
            after_write=self._after_write,
        )
        self.partitions[topic.topic_id] = partition
        return partition

    def _bucket(
        self,
        lease: Lease,
        copy: LocalCopy,
        window: ProducerState,
        partition: LocalPartition,
        state: ClusterState,
    ) -> Bucket:
        opened = partition.metadata.segments[-1]
        writer = Writer(
            node=self._node,
            disk=self._disk,
            epoch=lease.epoch,
            base_offset=opened.base_offset,
            replicas=opened.replicas,
            quorum=_quorum(partition, len(opened.replicas), state),
            window=window,
        )
        return Bucket(
            lease=lease,
            writer=writer,
            copy=copy,
            barrier=ReadBarrier(
                node=self._node,
                topic_id=lease.topic_id,
                replicas=opened.replicas,
                copy=copy,
                peers=self._peers,
            ),
            is_lease_good=self._is_lease_good,
            keyed_snapshot=lambda: partition.keyed_snapshot(),
            on_committed=partition.on_committed,
            on_local=partition.on_local,
            on_failed=partition.on_failed,
            when_committed=partition.when_committed,
        )

    def _end(self, topic_id: bytes, state: ClusterState) -> None:
        partition = self.partitions.pop(topic_id)
        topic = state.topics.get(topic_id)
        bucket = partition.bucket
        if topic is not None and bucket is not None and bucket.writer.phase is WriterPhase.PARKED:
            self._handed_on.add(topic_id)
        else:
            self._handed_on.forget(topic_id)
        if topic is None:
            partition.close(UnknownTopicId(f"{partition.topic.name} was deleted"))
        else:
            leader = topic.segments[-1].writer
            partition.close(
                NotLeader(f"{topic.name} has moved", leader_id=leader, leader_epoch=topic.epoch)
            )


def _quorum(partition: LocalPartition, replica_count: int, state: ClusterState) -> int:
    return ack_quorum(replica_count, partition.config.min_insync_replicas, state.staying_count)
