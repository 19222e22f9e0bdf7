"""The controller: what the protocols see of topics, nodes and leadership. Implements
`ports.Controller`.

It owns nothing of its own: the truth is the replicated metadata, the partitions are in the lease
table, the bytes in the store. This is where they are put together and where the background work of
a node is started.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from uuid import UUID

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from broker.controller import placement
from broker.controller.departures import Departures
from broker.controller.everywhere import Everywhere
from broker.controller.full_disk import FullDisk
from broker.controller.group_configs import GroupConfigs
from broker.controller.handed_on import HandedOn
from broker.controller.leases import LeaseTable
from broker.controller.liveness import Liveness
from broker.controller.log_dirs import log_dir, stored_logs
from broker.controller.metadata import Metadata
from broker.controller.monitor import Monitor, RollLimits
from broker.controller.partition import LocalPartition
from broker.controller.producer_ids import ProducerIds
from broker.controller.read_back import ReadBack
from broker.controller.replicas import Replicas
from broker.controller.restart import Restart
from broker.controller.retention import Retention, delete_records
from broker.controller.roll import roll
from broker.controller.router import Routed, append_here
from broker.controller.sealed import SealedCopies
from broker.controller.sight import Sight
from broker.controller.supervisor import Supervisor
from broker.controller.topics import Topics
from broker.controller.unclean import accept_loss
from broker.controller.views import Views, broker_addresses
from broker.errors import (
    MetadataUnavailable,
    NotLeader,
    RequestError,
    UnknownTopic,
    UnknownTopicId,
)
from broker.ports import Appended, BrokerAddress, Buffer, Clock, EditConfigs, LogDir, TopicView
from broker.replication import messages
from broker.replication.copies import Key, LocalCopy
from broker.replication.peers import Conversation, Peers
from broker.replication.store import Store
from broker.replication.writer import Writer
from raft.commands import (
    Applied,
    Barrier,
    DeletePrefix,
    FenceBroker,
    FormCluster,
    RegisterBroker,
)
from raft.state import ClusterState

_log = structlog.get_logger(__name__)

RETENTION_INTERVAL_MS = 300_000
"""How often to look for what may be deleted, as often as Kafka does."""

HAND_OVER_S = 5.0
"""How long a node that stops tries to give its topics to others."""

ALONE_S, ALONE_CHECK_S = 0.3, 0.05
"""For how long no majority may be connected before a node that stops gives up handing over, and how
often is looked."""

START_PATIENCE_S = 10.0
"""How long a start waits until this node's topics can be written again. Alone it always can; in a
cluster, other nodes may have to come first."""


class LocalController:
    """One node's controller. See `ports.Controller` for what the methods promise."""

    def __init__(
        self,
        *,
        node_id: int,
        disk: bytes,
        metadata: Metadata,
        store: Store,
        peers: Peers,
        clock: Clock,
        limits: RollLimits,
        monitor_interval_ms: int,
        retention_interval_ms: int = RETENTION_INTERVAL_MS,
        raft_leader: Callable[[], int | None],
        on_disk_failure: Callable[[OSError], None],
        on_removed: Callable[[], None] = lambda: None,
    ) -> None:
        """`raft_leader` is the broker id of whoever leads Raft now, as far as this node knows.
        `on_disk_failure` hears of a disk that has refused for any other reason than being full,
        `on_removed` is called when the cluster has taken this node out."""
        self._node_id = node_id
        self._clock = clock
        self._metadata = metadata
        self._peers = peers
        self._store = store
        self._views, self._sight = Views(), Sight(node=node_id, metadata=metadata)
        self._producer_ids = ProducerIds(metadata)
        self._incarnation = 0
        self._register: RegisterBroker | None = None
        self._is_rejoining = False
        self._tasks: TaskGroup | None = None
        self._raft_leader = raft_leader
        self._led_as_of: ClusterState | None = None
        self._led_by_name: dict[str, LocalPartition] = {}
        """What `led` has found in the metadata of that moment."""
        self._replicas = Replicas(
            node=node_id,
            disk=disk,
            metadata=metadata,
            store=store,
            peers=peers,
            incarnation=lambda: self._incarnation,
            led=self._led,
            led_changed=lambda: self._leases.changed(),
            clock=clock,
            on_progress=self._progress,
            on_failed=self._copy_failed,
        )
        self._on_removed = on_removed
        self._liveness = self._make_liveness()
        self.departures = self._make_departures()
        self._supervisor = Supervisor(
            node=node_id,
            metadata=metadata,
            liveness=self._liveness,
            clock=clock,
            leader=raft_leader,
        )
        self._monitor = self._make_monitor(limits, monitor_interval_ms)
        self._handed_on = self._make_handed_on()
        self._everywhere = Everywhere(node=node_id, metadata=metadata, peers=peers)
        self._leases = self._make_leases(disk)
        read_back = ReadBack(node=node_id, store=store, copies=self._replicas.copies)
        self._restart = Restart(node=node_id, metadata=metadata, store=store, read_back=read_back)
        self._full_disk = self._make_full_disk(read_back)
        self._on_disk_failure = on_disk_failure
        self._topics, self._group_configs = Topics(metadata), GroupConfigs(metadata)
        self._retention = self._make_retention(retention_interval_ms)
        # Copies first: a lease finds the copy it writes to.
        metadata.listen(self._replicas.on_change)
        metadata.listen(self._leases.sync)

    def _make_leases(self, disk: bytes) -> LeaseTable:
        return LeaseTable(
            node=self._node_id,
            disk=disk,
            store=self._store,
            copies=self._replicas.copies,
            windows=self._replicas.windows,
            peers=self._peers,
            clock=self._clock,
            is_lease_good=self._liveness.is_lease_good,
            after_append=self._monitor.after_append,
            handed_on=self._handed_on,
        )

    def _make_handed_on(self) -> HandedOn:
        def route(topic: TopicView, patience_s: float) -> Routed:
            return Routed(topic, self, self._peers, resends=False, patience_s=patience_s)

        return HandedOn(
            monotonic=self._clock.monotonic,
            route=route,
            is_in_touch=self._liveness.is_in_touch,
        )

    def _make_liveness(self) -> Liveness:
        return Liveness(
            node=self._node_id,
            metadata=self._metadata,
            peers=self._peers,
            clock=self._clock,
            leader=self._raft_leader,
            on_fenced=self._fenced,
            on_removed=self._on_removed,
        )

    def _make_departures(self) -> Departures:
        return Departures(
            node=self._node_id,
            metadata=self._metadata,
            peers=self._peers,
            leader=self._raft_leader,
            on_removed=self._on_removed,
        )

    def _make_full_disk(self, read_back: ReadBack) -> FullDisk:
        return FullDisk(
            node=self._node_id,
            metadata=self._metadata,
            store=self._store,
            copies=self._replicas.copies,
            read_back=read_back,
            hand_over=self._roll_away,
            resume=self._replicas.resume,
        )

    def _make_monitor(self, limits: RollLimits, interval_ms: int) -> Monitor:
        return Monitor(
            limits,
            misplaced=lambda led: placement.misplaced(self._metadata.state, led.metadata),
            now_ms=self._clock.now_ms,
            interval_ms=interval_ms,
            partitions=self.led_partitions,
            roll=self._roll,
        )

    def _make_retention(self, interval_ms: int) -> Retention:
        return Retention(
            self._metadata,
            clock=self._clock,
            interval_ms=interval_ms,
            partitions=self.led_partitions,
            roll=self._roll_in_place,
        )

    # -- the life of a node

    async def start(self, tasks: TaskGroup, *, cluster_id: str, register: RegisterBroker) -> None:
        """Form the cluster if there is none yet (of id `cluster_id`), read back what is stored,
        register as a new incarnation, and begin the background work.

        Returns when every segment that earlier incarnations of this node left open is sealed, or
        after START_PATIENCE_S.
        Waits for a majority of the cluster as long as it takes. Raises MetadataUnavailable when
        the cluster refuses this node, StorageFailed, engine.errors.CorruptSegmentError.
        """
        self._tasks = tasks
        self._register = register
        tasks.start_soon(self.departures.run)
        if not self._metadata.state.cluster_id:
            await self._metadata.insist(FormCluster(cluster_id))
        await self._metadata.insist(Barrier())
        await self._take_part(await self._metadata.insist(register))
        # What this process has written since, it has: only an earlier one's writes may be lost.
        self._register = msgspec.structs.replace(register, clean=True)
        self._replicas.begin(tasks, as_of=await self._restart.read_back())
        for work in (
            self._leases.run,
            self._liveness.run,
            self._supervisor.run,
            self._monitor.run,
            self._retention.run,
            self._store.sync_periodically,
            self._store.space.run,
            self._full_disk.run,
        ):
            tasks.start_soon(work)
        await self._restart.begin_seals(self._incarnation)
        self._leases.begin(self._incarnation, self._metadata.state)
        with anyio.move_on_after(START_PATIENCE_S) as patience:
            await self._sealed_all()
            await self._leases.settled()
        if patience.cancelled_caught:
            _log.warning("serving, though some topics wait for other nodes to be sealed")

    async def _take_part(self, applied: Applied) -> None:
        """Be the new incarnation that RegisterBroker made. Everything earlier ones were writing
        will be sealed."""
        if applied.refusal:
            raise MetadataUnavailable(f"node {self._node_id} may not register: {applied.refusal}")
        self._incarnation = applied.value
        self._liveness.begin(applied.value)

    async def _sealed_all(self) -> None:
        """Wait until nothing of this node's earlier incarnations is open."""
        while any(
            topic.segments[-1].writer == self._node_id
            and topic.segments[-1].writer_incarnation < self._incarnation
            for topic in self._metadata.state.topics.values()
        ):
            await self._metadata.changed()

    def _fenced(self) -> None:
        """The cluster has given this incarnation up; come back as a new one."""
        if self._tasks is not None and not self._is_rejoining:
            self._is_rejoining = True
            self._tasks.start_soon(self._rejoin)

    async def _rejoin(self) -> None:
        _log.warning("this node was taken for dead; it comes back as a new incarnation")
        assert self._register is not None
        try:
            await self._take_part(await self._metadata.insist(self._register))
            self._leases.begin(self._incarnation, self._metadata.state)
            await self._restart.begin_seals(self._incarnation)
        except RequestError as error:
            _log.warning("not back yet", why=str(error))
        finally:
            self._is_rejoining = False

    async def hand_over(self) -> None:
        """Before this node stops: have others lead what it leads, as far as they can, and say
        that it goes, so that nobody waits for its silence."""
        self._is_rejoining = True  # Being fenced is what we ask for below.
        with anyio.move_on_after(HAND_OVER_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._until_alone, tasks.cancel_scope)
                await self._roll_away("the node stops")
                if len(self._metadata.state.brokers) > 1:
                    with suppress(RequestError):
                        await self._metadata.propose(FenceBroker(self._node_id, self._incarnation))
                tasks.cancel_scope.cancel()

    async def _until_alone(self, handing_over: anyio.CancelScope) -> None:
        """When all nodes stop at once, the last of them have nobody to hand over to."""
        alone_s = 0.0
        while alone_s < ALONE_S:
            await anyio.sleep(ALONE_CHECK_S)
            alone_s = 0.0 if self._metadata.reaches_majority else alone_s + ALONE_CHECK_S
        handing_over.cancel()

    async def _roll_away(self, reason: str) -> None:
        """Have others lead what this node leads, as far as they can."""
        choose = partial(placement.for_roll, leaving=True)
        async with anyio.create_task_group() as tasks:
            for partition in self.led_partitions():
                tasks.start_soon(
                    partial(roll, partition, self._metadata, choose=choose, reason=reason)
                )

    def _copy_failed(self, key: Key, error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self._full_disk.met(key, error)
        else:
            self._on_disk_failure(error)

    async def _roll(self, partition: LocalPartition, reason: str) -> bool:
        return await roll(partition, self._metadata, choose=placement.for_roll, reason=reason)

    async def _roll_in_place(self, partition: LocalPartition, reason: str) -> bool:
        """Seen to its end though a client that wanted it gives up: half a roll leaves appends
        parked."""
        choose = partial(placement.for_roll, keep_leader=True)
        done = anyio.Event()
        is_closed = False

        async def see_through() -> None:
            nonlocal is_closed
            is_closed = await roll(partition, self._metadata, choose=choose, reason=reason)
            done.set()

        assert self._tasks is not None, "nothing is led before the start"
        self._tasks.start_soon(see_through)
        await done.wait()
        return is_closed

    # -- what other nodes ask

    async def feed(self, node: int, conversation: Conversation) -> None:
        """Serve a follower's stream until it ends."""
        await self._replicas.service.serve(node, conversation)

    async def answer(self, call: messages.Call, batches: memoryview) -> Sequence[Buffer]:
        """One question of another node. Raises PeerUnreachable: ask again."""
        if isinstance(call, messages.Heartbeat):
            is_leader = self._raft_leader() == self._node_id
            return messages.encode(self._liveness.answer(call, is_leader=is_leader))
        if isinstance(call, messages.SeenAsk):
            return await self._everywhere.answer(call)
        if isinstance(call, messages.WindowAsk):
            return await self._replicas.windows.answer(call)
        if isinstance(call, messages.AppendAsk | messages.FetchAsk):
            return await self._answer_client(call, batches)
        return await self._replicas.service.answer(call)

    async def _answer_client(
        self, call: messages.AppendAsk | messages.FetchAsk, batches: memoryview
    ) -> Sequence[Buffer]:
        """What another node asks on behalf of a client of its own."""
        if isinstance(call, messages.AppendAsk):
            await self._leases.heard_of(call.topic_id, call.leader_epoch)
        try:
            partition = self.partition(self.topic_by_id(UUID(bytes=call.topic_id)))
            if isinstance(call, messages.AppendAsk):
                return messages.encode(await append_here(partition, call, bytes(batches)))
            data = await partition.read(call.offset, size_max=call.size_max)
        except RequestError as error:
            refused = type(error).__name__, str(error)
            is_append = isinstance(call, messages.AppendAsk)
            reply = messages.AppendReply(*refused) if is_append else messages.FetchReply(*refused)
            return messages.encode(reply)
        return messages.encode(messages.FetchReply(""), data)

    def _led(self, topic_id: bytes, sid: int) -> tuple[LocalCopy, Writer] | None:
        partition = self._leases.partitions.get(topic_id)
        bucket = None if partition is None else partition.bucket
        if bucket is None or bucket.sid != sid:
            return None
        return bucket.copy, bucket.writer

    def _progress(self, topic_id: bytes, sid: int) -> None:
        partition = self._leases.partitions.get(topic_id)
        if partition is not None and partition.bucket is not None and partition.bucket.sid == sid:
            partition.bucket.progress()

    # -- ports.Controller

    @property
    def node_id(self) -> int:
        return self._node_id

    @property
    def incarnation(self) -> int:
        """Raft index of this process's registration; 0 before it."""
        return self._incarnation

    @property
    def seen(self) -> ClusterState:
        """See `sight.py`."""
        return self._sight.state

    @property
    def cluster_id(self) -> str:
        return self._metadata.state.cluster_id

    def brokers(self, listener: str) -> tuple[BrokerAddress, ...]:
        return broker_addresses(self._metadata.state, listener)

    async def answers(self, node_id: int) -> bool:
        return await self._everywhere.answers(node_id)

    def topics(self) -> Sequence[TopicView]:
        return [self._views.of(self.seen, topic) for topic in self._metadata.state.topics.values()]

    def topic(self, name: str) -> TopicView:
        topic_id = self._metadata.state.names.get(name)
        if topic_id is None:
            raise UnknownTopic(f"unknown topic {name}")
        return self._views.of(self.seen, self._metadata.state.topics[topic_id])

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

    async def unclean_seal(self, name: str, *, force: str) -> None:
        """See `unclean.accept_loss`."""
        await accept_loss(self._metadata, name, force=force)

    async def caught_up(self) -> None:
        """Wait until this node sees every change of the metadata that was made before. Raises
        MetadataUnavailable."""
        await self._metadata.propose(Barrier())

    async def delete_prefix(self, topic_id: UUID, log_start_offset: int) -> None:
        """Give up everything below `log_start_offset`: wholly covered sealed segments go
        everywhere."""
        await self._metadata.propose(DeletePrefix(topic_id.bytes, log_start_offset))

    async def configure(
        self, topic_id: UUID, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        await self._topics.configure(topic_id.bytes, edit, validate_only=validate_only)
        if not validate_only:
            await self._everywhere.seen()

    def group_configs(self, group: str) -> Mapping[str, str]:
        return self._group_configs.of(group)

    async def configure_group(
        self, group: str, edit: EditConfigs, *, validate_only: bool = False
    ) -> None:
        await self._group_configs.configure(group, edit, validate_only=validate_only)
        if not validate_only:
            await self._everywhere.seen()

    @property
    def stored_size(self) -> int:
        """Bytes of records that this node's disk holds."""
        logs = stored_logs(self._node_id, self._metadata.state, self._store)
        return sum(log.size for log in logs)

    async def log_dir(self) -> LogDir:
        return await log_dir(self._node_id, self._metadata.state, self._store)

    async def delete_records(self, topic: TopicView, before_offset: int) -> int:
        return await delete_records(
            self.partition(topic), self._metadata, before_offset, roll=self._roll_in_place
        )

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

    def led(self, name: str) -> LocalPartition | None:
        state = self._metadata.state
        if state is not self._led_as_of:
            self._led_as_of = state
            self._led_by_name.clear()
        partition = self._led_by_name.get(name)
        if partition is None:
            topic_id = state.names.get(name)
            partition = None if topic_id is None else self._leases.partitions.get(topic_id)
            if partition is None:
                return None
            self._led_by_name[name] = partition
        return None if partition.bucket is None else partition

    def known_end(self, topic: TopicView) -> int | None:
        """Where the topic ends, as far as this node can tell without asking: exact at its leader,
        about right where a copy is, None elsewhere."""
        partition = self._leases.partitions.get(topic.topic_id.bytes)
        if partition is not None and partition.bucket is not None:
            return partition.high_watermark
        copy = self._replicas.copies.get(topic.topic_id.bytes, topic.segments[-1].sid)
        return None if copy is None else copy.segment.durable_offset

    def sealed_copies(self, topic: TopicView) -> SealedCopies:
        metadata = self._metadata.state.topics.get(topic.topic_id.bytes)
        if metadata is None:
            raise UnknownTopicId(f"{topic.name} is gone")
        return SealedCopies(metadata, topic, self._store)

    def anywhere(self, topic: TopicView, *, resends: bool = True) -> Routed:
        return Routed(topic, self, self._peers, resends=resends)

    async def send_on(
        self, topic: TopicView, batch: Buffer, *, acks: int
    ) -> tuple[Routed, Appended] | None:
        return await self._handed_on.append(topic, batch, acks=acks)

    def led_partitions(self) -> Sequence[LocalPartition]:
        """What this node leads now; for metrics and status."""
        return list(self._leases.partitions.values())

    async def producer_id(self) -> int:
        return await self._producer_ids.next()
