"""Where the groups of this node are: eight shards, each an internal topic, each loaded when this
node leads it and somebody asks.

A group's shard is `__consumer_offsets_<crc32c(group) % 8>`, made when it is first needed. The node
that leads the topic coordinates its groups. Nothing is answered from a shard that is not loaded.
"""

from collections.abc import Iterator
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup
from crc32c import crc32c

from broker.controller.controller import LocalController
from broker.controller.partition import LocalPartition
from broker.controller.topics import OFFSETS_TOPIC
from broker.errors import Loading, NotLeader, RequestError, TopicExists, UnknownTopic
from broker.groups.counts import Counts
from broker.groups.group import Group
from broker.groups.shard import Shard
from broker.groups.state_log import StateLog
from broker.groups.states import GroupLimits
from broker.groups.timers import Timers
from broker.ports import Clock, TopicView

_log = structlog.get_logger(__name__)

SHARD_COUNT: Final = 8

SHARD_CONFIGS: Final = {
    "cleanup.policy": "compact",
    "max.message.bytes": str(12 * 1024 * 1024),
    "segment.bytes": str(16 * 1024 * 1024),
}
"""Small segments: loading a shard costs one. Large batches: a group is one record."""

LOAD_WAIT_S: Final = 2.0
"""How long a request waits for its shard before it is told that the shard is loading."""

LEADER_CHECK_S: Final = 1.0
"""How often a loaded shard makes sure that it is still ours, if nobody asks it anything."""


def shard_of(group_id: str) -> int:
    return crc32c(group_id.encode()) % SHARD_COUNT


class Shards:
    """Raises NotLeader for what another node leads, MetadataUnavailable where a topic cannot be
    made, Loading."""

    def __init__(self, controller: LocalController, clock: Clock, limits: GroupLimits) -> None:
        self._controller = controller
        self._clock = clock
        self._limits = limits
        self.counts = Counts()
        self._timers = Timers(clock)
        self._shards: dict[int, Shard] = {}
        self._loads: dict[int, anyio.Event] = {}
        self._logs: dict[int, StateLog] = {}
        """The last log of each shard, which may still have an append on its way."""
        self._is_released = False
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup) -> None:
        """Begin the background work: timers, and loading what this node leads already."""
        self._tasks = tasks
        tasks.start_soon(self._timers.run, self._tick)
        tasks.start_soon(self._watch_leadership)
        for number in range(SHARD_COUNT):
            try:
                self._find(number, self._controller.partition(self._view(number)))
            except RequestError:
                continue

    def __iter__(self) -> Iterator[Shard]:
        """The shards that are loaded here."""
        return iter(list(self._shards.values()))

    def release(self) -> None:
        """The node stops: answer whoever waits for a rebalance, and begin no other."""
        self._is_released = True
        for shard in self:
            shard.release()

    # ---- finding ---------------------------------------------------------------------------------

    async def topic(self, group_id: str) -> TopicView:
        """The topic of a group's shard, made if need be: its leader coordinates the group."""
        number = shard_of(group_id)
        try:
            return self._view(number)
        except UnknownTopic:
            pass
        try:
            return await self._controller.create_topic(
                f"{OFFSETS_TOPIC}_{number}", configs=SHARD_CONFIGS, is_internal=True
            )
        except TopicExists:
            return self._view(number)

    async def of(self, group_id: str) -> Shard:
        """The loaded shard of a group, made if need be."""
        topic = await self.topic(group_id)
        return await self._loaded(shard_of(group_id), topic)

    async def existing(self, group_id: str) -> Shard | None:
        """The loaded shard of a group; None if nothing was ever written to it."""
        number = shard_of(group_id)
        try:
            topic = self._view(number)
        except UnknownTopic:
            return None
        return await self._loaded(number, topic)

    def loaded_now(self, group_id: str) -> Shard | None:
        """The shard of a group, if it is loaded and ours at this moment."""
        shard = self._shards.get(shard_of(group_id))
        if shard is None or shard.log.failure is not None or self._is_released:
            return None
        partition = shard.log.partition
        return shard if self._controller.led(partition.topic.name) is partition else None

    async def led(self) -> list[Shard]:
        """All shards that this node leads."""
        found = []
        for number in range(SHARD_COUNT):
            try:
                found.append(await self._loaded(number, self._view(number)))
            except (NotLeader, UnknownTopic):
                continue
        return found

    def _view(self, number: int) -> TopicView:
        return self._controller.topic(f"{OFFSETS_TOPIC}_{number}")

    # ---- loading ---------------------------------------------------------------------------------

    async def _loaded(self, number: int, topic: TopicView) -> Shard:
        if self._is_released:
            raise NotLeader("the node stops")
        found = self._find(number, self._controller.partition(topic))
        if isinstance(found, Shard):
            return found
        with anyio.move_on_after(LOAD_WAIT_S):
            while not isinstance(found, Shard):
                await found.wait()
                found = self._find(number, self._controller.partition(topic))
            return found
        raise Loading(f"{topic.name} is being read back")

    def _find(self, number: int, partition: LocalPartition) -> Shard | anyio.Event:
        """The shard, or what is set when loading it has ended."""
        if self._tasks is None:
            raise Loading("the node starts")
        shard = self._shards.get(number)
        if shard is not None:
            if shard.log.partition is partition and shard.log.failure is None:
                return shard
            del self._shards[number]
            shard.close()
        event = self._loads.get(number)
        if event is None:
            event = self._loads[number] = anyio.Event()
            self._tasks.start_soon(self._load, self._tasks, number, partition, event)
        return event

    async def _load(
        self, tasks: TaskGroup, number: int, partition: LocalPartition, loaded: anyio.Event
    ) -> None:
        try:
            if number in self._logs:
                await self._logs[number].ended.wait()
            log = await StateLog.load(self._controller, partition, self._clock)
            shard = Shard(
                log,
                limits=self._limits,
                counts=self.counts,
                timers=self._timers,
                clock=self._clock,
                tasks=tasks,
            )
        except NotLeader:
            pass  # Whoever waits looks again whose it is.
        except Exception:  # noqa: BLE001 - damage, or a mistake of ours: it costs this shard alone
            _log.exception("a state log cannot be read", shard=number)
            await anyio.sleep(LOAD_WAIT_S)
        else:
            self._shards[number], self._logs[number] = shard, log
            tasks.start_soon(self._run, shard)
        finally:
            del self._loads[number]
            loaded.set()

    async def _run(self, shard: Shard) -> None:
        with shard.confined():
            await shard.log.run()
        shard.close(shard.log.failure)

    # ---- time ------------------------------------------------------------------------------------

    def _tick(self, group: Group) -> None:
        shard = self._shards.get(shard_of(group.group_id))
        if shard is not None:
            with shard.confined():
                shard.tick(group)

    async def _watch_leadership(self) -> None:
        while True:
            await anyio.sleep(LEADER_CHECK_S)
            for number, shard in list(self._shards.items()):
                try:
                    is_ours = self._controller.partition(self._view(number)) is shard.log.partition
                except RequestError:
                    is_ours = False
                if not is_ours:
                    del self._shards[number]
                    shard.close()
