"""One node, from its data directory to its listeners.

The order of a start: lock the directory, open the disk, replay the metadata, bind every port,
register as a new incarnation, read the logs back and seal what was open, and only then let clients
in. The order of an end: let begun requests finish, then stop what they stood on, from the top down.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from broker.config import Config, HostPort, Listener
from broker.controller.broker import LocalBroker
from broker.controller.data_dir import DataDir, new_cluster_id
from broker.controller.metadata import Metadata
from broker.controller.monitor import RollLimits
from broker.groups.coordinator import Coordinator, GroupConfig
from broker.groups.states import GroupLimits
from broker.kafka_api import warm_up
from broker.net.budget import Budget
from broker.net.limits import Limits
from broker.net.listener import NetServer
from broker.ports import Buffer, NodeStatus
from broker.replication import messages
from broker.replication.space import Space
from broker.replication.store import Store
from broker.server.descriptors import for_connections, for_logs, raise_limit
from broker.server.ending import Ending
from broker.server.founding import settle
from broker.server.loop import Loop
from broker.server.membership import Membership
from broker.server.memory import calm_collector, keep_freed_blocks
from broker.server.protocols import Protocols
from broker.server.samples import Samples
from broker.server.side_door import SideDoor
from broker.telemetry.clock import SystemClock
from broker.telemetry.metrics import Registry
from broker.telemetry.start import BannerInfo
from engine.backends import choose
from engine.durability import FsyncPolicy
from raft.commands import RegisterBroker

_log = structlog.get_logger(__name__)

READING_BACK = "reading the logs back"
"""What `/readyz` says for as long as that takes."""


def run(config: Config, announce: Callable[[BannerInfo], None]) -> None:
    """Run a node until it is asked to stop. Blocking.

    `announce` is called once, when clients are let in. Raises DataDirError, AdminPortError,
    ListenError, CorruptSegmentError, DiskFailed and other errors whose text is for the operator.
    """
    keep_freed_blocks()
    data = DataDir(config.data_dir, node_id=config.node_id, joins=bool(config.join))
    try:
        backend = choose(disable_uring=config.disable_io_uring, monotonic=SystemClock().monotonic)
        space = Space(data.usage, reserve_size=config.disk_reserve_bytes)
        is_settled = not (config.bootstrap and data.is_undecided)
        descriptor_count = raise_limit()
        limits = _limits(config, descriptor_count)
        logs_max = for_logs(limits.connections_max, descriptor_count)
        if limits.connections_max < config.connections_max:
            _log.warning(
                "few files may be open: raise the limit, so that more clients can be served",
                descriptors=descriptor_count,
                connections_max=limits.connections_max,
                open_logs_max=logs_max,
            )
        policy = FsyncPolicy.parse(config.fsync)
        store = Store(data.topics_path, backend, policy, space, logs_max=logs_max)

        async def main() -> None:
            if is_settled or await settle(config, data):
                await Node(config, data, store, limits, announce).main()

        def is_writing() -> bool:
            """Which takes longer than the loop would ask for, and needs a processor."""
            return store.wal.queue_size > 0

        loop = partial(Loop, config.idle_poll_us / 1e6, is_slow=is_writing)
        anyio.run(main, backend_options={"loop_factory": loop})
    finally:
        data.release()


class Node:
    """A process's node. Make it on the event loop, run `main` once."""

    def __init__(
        self,
        config: Config,
        data: DataDir,
        store: Store,
        limits: Limits,
        announce: Callable[[BannerInfo], None],
    ) -> None:
        self._config = config
        self._data = data
        self._announce = announce
        self._clock = SystemClock()
        self._ending = Ending(config.node_id, self._clock)
        self._detail = "starting"
        self._store = store
        self._membership = Membership(config, data, on_failure=self._ending.metadata_failed)
        self._raft = self._membership.raft
        self._registry = Registry()
        self._budget = Budget(config.in_flight_size_max)
        self._net = NetServer(limits=limits, budget=self._budget, clock=self._clock)

    # -- the life of a node

    async def main(self) -> None:
        is_trusted = await anyio.to_thread.run_sync(
            partial(self._data.begin_run, fsync=self._config.fsync)
        )
        await anyio.to_thread.run_sync(self._raft.start)
        try:
            await self._serve(is_trusted)
        finally:
            # From here on the engine belongs to the thread that closes it: one reaper at a time.
            self._store.detach()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._close)
        if self._ending.failure is not None:
            raise self._ending.failure

    def _close(self) -> None:
        self._raft.stop()
        if self._ending.failure is None:
            self._store.close()
            try:
                self._data.end_run()
            except OSError as error:
                _log.warning("the clean end could not be noted", error=str(error))

    async def _serve(self, is_trusted: bool) -> None:
        self._store.attach()
        self._metadata = Metadata(self._raft, asyncio.get_running_loop().call_soon_threadsafe)
        self._broker = self._make_broker()
        self._controller = self._broker.controller
        self._groups = Coordinator(self._controller, self._clock, _group_config(self._config))
        self._samples = Samples(
            status=self.status,
            controller=self._controller,
            state=lambda: self._controller.seen,
            net=self._net.stats,
            budget=self._budget,
            open_files=self._store.wal.open_files,
            space=self._store.space,
            raft=self._raft,
            clock=self._clock,
        )
        self._protocols = Protocols(
            self._config,
            controller=self._controller,
            groups=self._groups,
            peers=self._membership.network,
            clock=self._clock,
            memory=self._budget,
            status=self.status,
            metrics=self._samples.native,
        )
        self._registry.register(self._samples.collect)
        self._registry.register(self._protocols.collect)
        self._registry.register(self._groups.collect)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._ending.await_signals)
            with anyio.CancelScope() as starting:
                tasks.start_soon(self._ending.cancel, starting)
                await self._begin(tasks, is_trusted)
            if not starting.cancelled_caught:
                await self._ending.begun()
                await self._drain()
            tasks.cancel_scope.cancel()

    async def _begin(self, tasks: TaskGroup, is_trusted: bool) -> None:
        door = SideDoor(
            self._config,
            status=self.status,
            broker=self._broker,
            metadata=self._metadata,
            raft=self._raft,
            raft_leader=self._raft_leader,
            registry=self._registry,
        )
        admin_port = await tasks.start(door.serve)
        native, kafka = await self._bind()
        await self._take_part(tasks, native, kafka, is_trusted)
        self._groups.start(tasks)
        await self._protocols.start(tasks)
        tasks.start_soon(self._net.serve)
        self._detail = ""
        calm_collector()
        self._say_ready(native, kafka, HostPort(self._config.admin_host, admin_port))
        tasks.start_soon(warm_up)

    def _make_broker(self) -> LocalBroker:
        config = self._config
        return LocalBroker(
            node_id=config.node_id,
            disk=bytes.fromhex(self._data.identity.disk_id),
            metadata=self._metadata,
            store=self._store,
            peers=self._membership.network,
            raft_leader=self._raft_leader,
            clock=self._clock,
            limits=RollLimits(config.max_segment_entries, config.max_segment_bytes),
            monitor_interval_ms=config.monitor_check_ms,
            retention_interval_ms=config.retention_check_ms,
            on_disk_failure=self._ending.disk_failed,
            on_removed=self._ending.taken_out,
        )

    async def _bind(self) -> tuple[HostPort, tuple[Listener, ...]]:
        """Every port, before anybody is let in: a taken one ends the start with one clear line."""
        host, port = await self._net.bind(self._protocols.native_listener())
        kafka = []
        for listener in self._config.kafka_listeners:
            _, bound_port = await self._net.bind(self._protocols.kafka_listener(listener))
            kafka.append(listener.bound_to(bound_port))
        return HostPort(host, port), tuple(kafka)

    def _raft_leader(self) -> int | None:
        """The broker id of whoever leads Raft, as far as this node knows."""
        voter = self._raft.leader
        for node, broker in self._metadata.state.brokers.items():
            if broker.disk.hex() == voter:
                return node
        return None

    async def _take_part(
        self,
        tasks: TaskGroup,
        native: HostPort,
        kafka: tuple[Listener, ...],
        is_trusted: bool,
    ) -> None:
        """Into the cluster, and everything that was stored back in service."""
        config = self._config
        self._membership.network.serve(answer=self._answer, feed=self._broker.feed)
        await self._membership.start(tasks, self._metadata)
        self._detail = "waiting for the cluster"
        await self._membership.take_part()
        raft_host, raft_port = self._membership.advertised
        register = RegisterBroker(
            node=config.node_id,
            disk=bytes.fromhex(self._data.identity.disk_id),
            raft_host=raft_host,
            raft_port=raft_port,
            listeners=(
                ("native", config.native_listener.advertised_host, native.port),
                *((item.name, item.advertised_host, item.advertised_port) for item in kafka),
            ),
            rack=None,
            clean=is_trusted,
        )
        self._detail = READING_BACK
        await self._broker.start(tasks, cluster_id=new_cluster_id(), register=register)
        await anyio.to_thread.run_sync(self._data.registered)
        await anyio.to_thread.run_sync(self._data.joined, self._controller.cluster_id)

    async def _answer(self, call: messages.Call, batches: memoryview) -> Sequence[Buffer]:
        """Whatever another node asks."""
        if isinstance(call, messages.TakeAsk):
            return await self._protocols.answer(call)
        return await self._broker.answer(call, batches)

    async def _drain(self) -> None:
        """Serve on until others lead what this node leads: who is refused before that finds nobody
        else, and librdkafka gives an OffsetFetch up that was refused for a third of a second."""
        self._detail = "stopping"
        is_well = self._ending.failure is None
        if is_well:
            _log.info(
                "stopping: begun requests may finish", grace_ms=self._config.shutdown_grace_ms
            )
            await self._broker.hand_over()
        self._groups.release()
        self._protocols.stop()
        if is_well:
            await self._net.drain(self._config.shutdown_grace_ms / 1000)

    # -- what it shows

    def status(self) -> NodeStatus:
        return NodeStatus(
            node_id=self._config.node_id,
            cluster_id=self._controller.cluster_id,
            backend=self._store.backend.name,
            backend_reason=self._store.backend.reason,
            fsync=self._config.fsync,
            data_dir=str(self._data.path),
            ready=not self._detail,
            detail=self._why_not_ready(),
        )

    def _why_not_ready(self) -> str:
        """Nothing if it is. Logs are read back within moments; a majority may be long in coming."""
        is_alone = self._detail == READING_BACK and not self._metadata.reaches_majority
        return "waiting for a majority of the cluster" if is_alone else self._detail

    def _say_ready(self, native: HostPort, kafka: tuple[Listener, ...], admin: HostPort) -> None:
        status = self.status()
        _log.info(
            "serving",
            node_id=status.node_id,
            cluster_id=status.cluster_id,
            backend=status.backend,
            backend_reason=status.backend_reason,
            fsync=status.fsync,
            data_dir=status.data_dir,
            native=str(native),
            kafka=[str(item) for item in kafka],
            admin=str(admin),
        )
        self._announce(BannerInfo(status, native, kafka, admin))


def _limits(config: Config, descriptor_count: int) -> Limits:
    return Limits(
        connections_max=for_connections(config.connections_max, descriptor_count),
        idle_s=config.idle_ms_max / 1000,
        frame_stall_s=config.stall_ms_max / 1000,
        write_stall_s=max(300.0, config.stall_ms_max / 1000),
    )


def _group_config(config: Config) -> GroupConfig:
    return GroupConfig(
        limits=GroupLimits(
            session_ms_min=config.group_min_session_timeout_ms,
            session_ms_max=config.group_max_session_timeout_ms,
            initial_delay_ms=config.group_initial_rebalance_delay_ms,
            members_max=config.group_max_size,
        ),
        offsets_retention_ms=config.offsets_retention_minutes * 60_000,
        groups_max=config.groups_max,
    )
