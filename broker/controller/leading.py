"""What this node leads: the partitions of its leases, and what becomes of their open segments.

`replicas.py` is about what it holds, whoever leads it.
"""

from collections.abc import Sequence
from functools import partial

import anyio
from anyio.abc import TaskGroup

from broker.controller import placement, retention
from broker.controller.clocks import Clocks, WallTime
from broker.controller.handed_on import HandedOn, Route
from broker.controller.leases import LeaseTable
from broker.controller.liveness import Liveness
from broker.controller.metadata import Metadata
from broker.controller.monitor import Monitor, RollLimits
from broker.controller.partition import LocalPartition
from broker.controller.replicas import Replicas
from broker.controller.retention import Retention
from broker.controller.roll import roll
from broker.ports import Clock
from broker.replication.copies import LocalCopy
from broker.replication.peers import Peers
from broker.replication.store import Store
from broker.replication.writer import Writer


class Leading:
    """One node's. `leases.sync` is a metadata listener; `start` begins the work."""

    def __init__(
        self,
        *,
        node: int,
        disk: bytes,
        metadata: Metadata,
        store: Store,
        replicas: Replicas,
        liveness: Liveness,
        peers: Peers,
        clock: Clock,
        clocks: Clocks,
        route: Route,
        limits: RollLimits,
        monitor_interval_ms: int,
        retention_interval_ms: int,
    ) -> None:
        self._metadata = metadata
        self._tasks: TaskGroup | None = None
        misplaced = placement.Misplaced()
        self._monitor = Monitor(
            limits,
            misplaced=lambda led: misplaced.why(metadata.state, led.metadata),
            now_ms=clock.now_ms,
            interval_ms=monitor_interval_ms,
            partitions=self.partitions,
            roll=self.roll,
        )
        self.handed_on = HandedOn(
            monotonic=clock.monotonic, route=route, is_in_touch=liveness.is_in_touch
        )
        self.leases = LeaseTable(
            node=node,
            disk=disk,
            store=store,
            copies=replicas.copies,
            windows=replicas.windows,
            peers=peers,
            clock=clock,
            is_lease_good=liveness.is_lease_good,
            after_write=self._monitor.after_write,
            handed_on=self.handed_on,
        )
        self._retention = Retention(
            metadata,
            time=WallTime(clock, clocks.others),
            interval_ms=retention_interval_ms,
            partitions=self.partitions,
            roll=self.roll_in_place,
        )

    def start(self, tasks: TaskGroup) -> None:
        """Begin the background work; what is led is up to `leases.begin`."""
        self._tasks = tasks
        for work in (self.leases.run, self._monitor.run, self._retention.run):
            tasks.start_soon(work)

    # -- what is led

    def partitions(self) -> Sequence[LocalPartition]:
        """All of them, at this moment."""
        return list(self.leases.partitions.values())

    def written(self, topic_id: bytes, sid: int) -> tuple[LocalCopy, Writer] | None:
        """The copy and the writer of a segment, if this process may write it."""
        partition = self.leases.partitions.get(topic_id)
        bucket = None if partition is None else partition.bucket
        if bucket is None or bucket.sid != sid:
            return None
        return bucket.copy, bucket.writer

    def progress(self, topic_id: bytes, sid: int) -> None:
        """A follower of that segment has said something, if it is one we write."""
        partition = self.leases.partitions.get(topic_id)
        if partition is not None and partition.bucket is not None and partition.bucket.sid == sid:
            partition.bucket.progress()

    # -- what becomes of it

    async def roll(self, partition: LocalPartition, reason: str) -> bool:
        """To whoever should write next. As `roll.roll`."""
        return await roll(partition, self._metadata, choose=placement.for_roll, reason=reason)

    async def roll_in_place(self, partition: LocalPartition, reason: str) -> bool:
        """To this node again. As `roll.roll`; seen to its end though a client that wanted it gives
        up: half a roll leaves appends parked."""
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

    async def roll_away(self, reason: str) -> None:
        """Have others lead what this node leads, as far as they can."""
        choose = partial(placement.for_roll, leaving=True)
        async with anyio.create_task_group() as tasks:
            for led in self.partitions():
                tasks.start_soon(partial(roll, led, self._metadata, choose=choose, reason=reason))

    async def delete_records(self, partition: LocalPartition, before_offset: int) -> int:
        """See `retention.delete_records`."""
        return await retention.delete_records(
            partition, self._metadata, before_offset, roll=self.roll_in_place
        )
