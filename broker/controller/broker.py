"""This node as one of the cluster's brokers: its parts, put together and set to work.

The truth is the replicated metadata. Its changes go to the copies (`replicas.py`) and from there to
what is led (`leading.py`); the protocols see it all through the controller (`controller.py`).
"""

from collections.abc import Callable, Sequence

from anyio.abc import TaskGroup

from broker.controller.clocks import Clocks
from broker.controller.controller import LocalController
from broker.controller.departures import Departures
from broker.controller.everywhere import Everywhere
from broker.controller.full_disk import FullDisk, is_full
from broker.controller.lately import Lately
from broker.controller.leading import Leading
from broker.controller.lifecycle import Lifecycle
from broker.controller.liveness import Liveness
from broker.controller.metadata import Metadata
from broker.controller.monitor import RollLimits
from broker.controller.read_back import ReadBack
from broker.controller.replicas import Replicas
from broker.controller.restart import Restart
from broker.controller.router import Routed, answer_client
from broker.controller.supervisor import Supervisor
from broker.controller.surplus import Dropped
from broker.controller.written import WrittenEverywhere
from broker.ports import Buffer, Clock, TopicView
from broker.replication import messages
from broker.replication.copies import Key
from broker.replication.peers import Conversation, Peers
from broker.replication.store import Store
from raft.commands import RegisterBroker

RETENTION_INTERVAL_MS = 300_000
"""How often to look for what may be deleted, as often as Kafka does."""


class LocalBroker:
    """Make it on the event loop, `start` it once."""

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
        self._metadata = metadata
        self._store = store
        self._peers = peers
        self._clock = clock
        self._raft_leader = raft_leader
        self._on_disk_failure = on_disk_failure
        self._replicas = self._make_replicas(disk)
        self._liveness = self._make_liveness(on_removed)
        self._clocks = Clocks(node=node_id, metadata=metadata, peers=peers, clock=clock)
        self.leading = Leading(
            node=node_id,
            disk=disk,
            metadata=metadata,
            store=store,
            replicas=self._replicas,
            liveness=self._liveness,
            peers=peers,
            clock=clock,
            clocks=self._clocks,
            route=self._route,
            limits=limits,
            monitor_interval_ms=monitor_interval_ms,
            retention_interval_ms=retention_interval_ms,
        )
        self._everywhere = Everywhere(node=node_id, metadata=metadata, peers=peers)
        self._lately = Lately(clock.monotonic)
        self.controller = self._make_controller()
        """What the protocols see."""
        self.written = WrittenEverywhere(
            node=node_id,
            metadata=metadata,
            peers=peers,
            led_partitions=self.controller.led_partitions,
        )
        read_back = ReadBack(node=node_id, store=store, copies=self._replicas.copies)
        self._restart = Restart(node=node_id, metadata=metadata, store=store, read_back=read_back)
        self._lifecycle = Lifecycle(
            node=node_id,
            metadata=metadata,
            liveness=self._liveness,
            leading=self.leading,
            restart=self._restart,
        )
        self._full_disk = self._make_full_disk(read_back)
        self._supervisor = self._make_supervisor()
        self.departures = self._make_departures(on_removed)
        metadata.listen(self._lately.on_change)
        # Copies first: a lease finds the copy it writes to.
        metadata.listen(self._replicas.on_change)
        metadata.listen(self.leading.leases.sync)

    def _make_replicas(self, disk: bytes) -> Replicas:
        return Replicas(
            node=self._node_id,
            disk=disk,
            metadata=self._metadata,
            store=self._store,
            peers=self._peers,
            incarnation=lambda: self.incarnation,
            led=lambda topic_id, sid: self.leading.written(topic_id, sid),
            led_changed=lambda: self.leading.leases.changed(),
            clock=self._clock,
            on_progress=lambda topic_id, sid: self.leading.progress(topic_id, sid),
            on_failed=self._copy_failed,
        )

    def _copy_failed(self, key: Key, error: OSError) -> None:
        if is_full(error):
            self._full_disk.met(key, error)
        else:
            self._on_disk_failure(error)

    def _make_liveness(self, on_removed: Callable[[], None]) -> Liveness:
        return Liveness(
            node=self._node_id,
            metadata=self._metadata,
            peers=self._peers,
            clock=self._clock,
            leader=self._raft_leader,
            on_fenced=lambda: self._lifecycle.fenced(),
            on_removed=on_removed,
        )

    def _route(self, topic: TopicView, patience_s: float) -> Routed:
        return self.controller.anywhere(topic, resends=False, patience_s=patience_s)

    def _make_controller(self) -> LocalController:
        return LocalController(
            node_id=self._node_id,
            metadata=self._metadata,
            store=self._store,
            peers=self._peers,
            copies=self._replicas.copies,
            leading=self.leading,
            everywhere=self._everywhere,
            clocks=self._clocks,
            lately=self._lately,
        )

    def _make_full_disk(self, read_back: ReadBack) -> FullDisk:
        return FullDisk(
            node=self._node_id,
            metadata=self._metadata,
            store=self._store,
            copies=self._replicas.copies,
            read_back=read_back,
            hand_over=self.leading.roll_away,
            resume=self._replicas.resume,
        )

    def _make_supervisor(self) -> Supervisor:
        return Supervisor(
            node=self._node_id,
            metadata=self._metadata,
            liveness=self._liveness,
            peers=self._peers,
            clock=self._clock,
            leader=self._raft_leader,
        )

    def _make_departures(self, on_removed: Callable[[], None]) -> Departures:
        return Departures(
            node=self._node_id,
            metadata=self._metadata,
            peers=self._peers,
            leader=self._raft_leader,
            on_removed=on_removed,
        )

    # -- the life of a node

    @property
    def incarnation(self) -> int:
        """Raft index of this process's registration; 0 before it."""
        return self._lifecycle.incarnation

    async def start(self, tasks: TaskGroup, *, cluster_id: str, register: RegisterBroker) -> None:
        """Form the cluster if there is none yet (of id `cluster_id`), read back what is stored,
        register as a new incarnation, and begin the background work.

        Returns when every segment that earlier incarnations of this node left open is sealed, or
        after START_PATIENCE_S.
        Waits for a majority of the cluster as long as it takes. Raises MetadataUnavailable when
        the cluster refuses this node, StorageFailed, engine.errors.CorruptSegmentError.
        """
        tasks.start_soon(self.departures.run)
        await self._lifecycle.register(tasks, cluster_id=cluster_id, register=register)
        as_of = await self._restart.read_back()
        if self._restart.doubtful:
            await self._lifecycle.doubt()
            await self._restart.read_doubtful()
        self._replicas.begin(tasks, as_of=as_of)
        self.leading.start(tasks)
        for work in (
            self._liveness.run,
            self._supervisor.run,
            self._store.sync_periodically,
            self._store.space.run,
            self._full_disk.run,
        ):
            tasks.start_soon(work)
        await self._lifecycle.begin_to_lead()

    async def hand_over(self) -> None:
        """See `Lifecycle.hand_over`."""
        await self._lifecycle.hand_over()

    async def drop_surplus(self) -> Dropped:
        """See `Surplus.drop`."""
        return await self._replicas.surplus.drop()

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
        if isinstance(call, messages.WrittenAsk):
            return self.written.answer()
        if isinstance(call, messages.ClockAsk):
            return self._clocks.answer()
        if isinstance(call, messages.WindowAsk):
            return await self._replicas.windows.answer(call)
        if isinstance(call, messages.AppendAsk):
            await self.leading.leases.heard_of(call.topic_id, call.leader_epoch)
        if isinstance(call, messages.AppendAsk | messages.FetchAsk):
            return await answer_client(self.controller, call, batches)
        return await self._replicas.service.answer(call)
