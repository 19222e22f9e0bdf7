"""The group coordinator: the protocols' door to the groups of this node.

The groups are machines (`group.py`), their state is a log (`state_log.py`); here is who may ask
what, in which order things happen, and when an answer may leave. Every method is stage 1 of a
request: its effect on the groups has happened, in order, when it returns. What it returns waits:
for the other members, or for the disk.

Implements `ports.GroupOffsets`: the shared cursor of native GET is a group like any other, whose
commits are made by hand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID, uuid4

from anyio.abc import TaskGroup

from broker.controller.controller import LocalController
from broker.errors import InvalidRequest, UnknownTopicId
from broker.groups.messages import (
    GroupRefused,
    Join,
    JoinAnswer,
    Refusal,
    Sync,
    SyncAnswer,
    Ticket,
    Who,
)
from broker.groups.records import OffsetValue
from broker.groups.samples import samples
from broker.groups.shard import Entry, Shard, Waiting
from broker.groups.shards import Shards
from broker.groups.state_log import Durable
from broker.groups.states import GroupLimits, State
from broker.groups.sweeper import Sweeper
from broker.groups.views import GroupDescribed, GroupListed, described, listed, subscribes
from broker.ports import Clock, Finish, Reply, Wake
from broker.telemetry.metrics import Sample

METADATA_LENGTH_MAX: Final = 4096
"""Characters a client may attach to a commit; Kafka's `offset.metadata.max.bytes`."""


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """The node's settings of groups."""

    limits: GroupLimits = GroupLimits()
    offsets_retention_ms: int = 7 * 86_400_000
    """How long the positions of a group without members are kept; Kafka's default."""
    groups_max: int = 50_000
    """On this node. Each costs some three kilobytes with a position, ten with a member."""


class Coordinator:
    """Make one per node, and `start` it before clients are let in."""

    def __init__(
        self,
        controller: LocalController,
        clock: Clock,
        config: GroupConfig | None = None,
        *,
        new_id: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self._controller = controller
        self._clock = clock
        self._config = config or GroupConfig()
        self._new_id = new_id
        self._shards = Shards(controller, clock, self._config.limits)
        self.sweeper = Sweeper(
            controller, clock, self._shards, retention_ms=self._config.offsets_retention_ms
        )

    def start(self, tasks: TaskGroup) -> None:
        """Begin the background work, and loading what this node leads."""
        self._shards.start(tasks)
        tasks.start_soon(self.sweeper.run)

    def release(self) -> None:
        """The node stops: whoever waits for a rebalance looks for another coordinator."""
        self._shards.release()

    async def leader_of(self, group_id: str) -> int:
        """The node that coordinates the group; -1 while there is none. Raises
        MetadataUnavailable."""
        return (await self._shards.topic(group_id)).leader_id

    # ---- members: these raise NotLeader, Loading, MetadataUnavailable ----------------------------

    async def join(self, group_id: str, make: Callable[[str, Ticket], Join]) -> Waiting[JoinAnswer]:
        """`make(fresh id, ticket)` is the event."""
        waiting: Waiting[JoinAnswer] = Waiting()
        join = make(self._new_id(), waiting)
        try:
            shard, entry = await self._entry(group_id, create=not join.member_id)
        except GroupRefused as error:
            is_missing = error.refusal is Refusal.UNKNOWN_GROUP
            refusal = Refusal.UNKNOWN_MEMBER if is_missing else error.refusal
            waiting.put(JoinAnswer(refusal=refusal, member_id=join.member_id))
        else:
            shard.apply(entry, entry.group.join(join, shard.now_ms()))
        return waiting

    async def sync(self, group_id: str, make: Callable[[Ticket], Sync]) -> Waiting[SyncAnswer]:
        """`make(ticket)` is the event."""
        waiting: Waiting[SyncAnswer] = Waiting()
        sync = make(waiting)
        try:
            shard, entry = await self._entry(group_id)
        except GroupRefused:
            waiting.put(SyncAnswer(refusal=Refusal.UNKNOWN_MEMBER))
        else:
            shard.apply(entry, entry.group.sync(sync, shard.now_ms()))
        return waiting

    async def heartbeat(self, group_id: str, who: Who, generation: int) -> Refusal | None:
        try:
            shard, entry = await self._entry(group_id)
        except GroupRefused:
            return Refusal.UNKNOWN_MEMBER
        return entry.group.heartbeat(who, generation, shard.now_ms())

    async def leave(self, group_id: str, leavers: Sequence[Who]) -> list[Refusal | None]:
        """What to tell each of them. Raises GroupRefused: there is no such group."""
        try:
            shard, entry = await self._entry(group_id)
        except GroupRefused:
            raise GroupRefused(Refusal.UNKNOWN_MEMBER) from None
        refusals, effects = entry.group.leave(leavers, shard.now_ms())
        shard.apply(entry, effects)
        return refusals

    # ---- offsets ---------------------------------------------------------------------------------

    async def commit_offsets(
        self, group_id: str, who: Who, generation: int, offsets: Mapping[UUID, OffsetValue]
    ) -> Durable:
        """Commit what is not too large; the caller knows which (see `is_too_large`).

        Raises GroupRefused, NotLeader, Loading, MetadataUnavailable.
        """
        try:
            shard, entry = await self._entry(group_id, create=generation < 0)
        except GroupRefused as error:
            is_missing = error.refusal is Refusal.UNKNOWN_GROUP
            raise GroupRefused(
                Refusal.ILLEGAL_GENERATION if is_missing else error.refusal
            ) from None
        refusal = entry.group.check_commit(who, generation, shard.now_ms())
        if refusal is not None:
            raise GroupRefused(refusal)
        durable = shard.commit(entry, offsets)
        shard.apply(entry, ())
        return durable

    async def offsets(self, group_id: str) -> tuple[Mapping[UUID, OffsetValue], Durable]:
        """What the group has committed; await the second before telling anybody.

        Raises NotLeader, Loading.
        """
        shard = await self._shards.existing(group_id)
        if shard is None:
            return {}, self._controller.caught_up
        entry = shard.entries.get(group_id)
        return {} if entry is None else dict(entry.offsets), shard.log.newest()

    async def delete_offsets(
        self, group_id: str, topics: Mapping[str, UUID]
    ) -> tuple[dict[str, Refusal | None], Durable]:
        """Forget positions by topic name. Raises GroupRefused, NotLeader, Loading."""
        shard, entry = await self._entry(group_id)
        group = entry.group
        if group.state is not State.EMPTY and group.protocol_type != "consumer":
            raise GroupRefused(Refusal.NOT_EMPTY)
        refusals = {
            name: Refusal.SUBSCRIBED if subscribes(group, name) else None for name in topics
        }
        gone = [
            topic_id
            for name, topic_id in topics.items()
            if refusals[name] is None and topic_id in entry.offsets
        ]
        durable = shard.forget(entry, gone) if gone else shard.log.settled()
        shard.apply(entry, ())
        return refusals, durable

    # ---- ports.GroupOffsets ----------------------------------------------------------------------

    async def position(self, group: str, topic_id: UUID) -> int | None:
        shard = await self._shards.existing(group)
        entry = None if shard is None else shard.entries.get(group)
        value = None if entry is None else entry.offsets.get(topic_id)
        return None if value is None else value.offset

    async def commit(self, group: str, topic_id: UUID, offset: int, metadata: str = "") -> Finish:
        if is_too_large(metadata):
            raise InvalidRequest(
                f"commit metadata of {len(metadata)} characters, at most {METADATA_LENGTH_MAX}"
            )
        value = OffsetValue(offset, -1, metadata, self._clock.now_ms())
        try:
            durable = await self.commit_offsets(group, _BY_HAND, -1, {topic_id: value})
        except GroupRefused as error:
            text = "it has members" if error.refusal is Refusal.UNKNOWN_MEMBER else str(error)
            raise InvalidRequest(f"group {group} takes no commit by hand: {text}") from error
        return partial(_silently, durable)

    def position_now(self, group: str, topic_id: UUID) -> "Position | None":
        shard = self._shards.loaded_now(group)
        entry = None if shard is None else shard.entries.get(group)
        value = None if entry is None else entry.offsets.get(topic_id)
        if shard is None or entry is None or value is None:
            return None
        return Position(shard, entry, topic_id, value.offset, self._clock.now_ms)

    # ---- groups as a whole -----------------------------------------------------------------------

    async def list_groups(self) -> list[GroupListed]:
        """Those that this node coordinates. Raises Loading."""
        return [listed(entry.group) for shard in await self._shards.led() for entry in shard]

    async def describe(self, group_id: str) -> GroupDescribed:
        """Raises GroupRefused, NotLeader, Loading."""
        shard = await self._shards.existing(group_id)
        if shard is not None:
            await shard.log.partition.confirmed()
        _, entry = await self._entry(group_id)  # The shard may have been read back meanwhile.
        return described(entry.group)

    async def delete_group(self, group_id: str) -> Durable:
        """Raises GroupRefused, NotLeader, Loading."""
        shard, entry = await self._entry(group_id)
        if entry.group.state is not State.EMPTY:
            raise GroupRefused(Refusal.NOT_EMPTY)
        return shard.delete(entry)

    async def _entry(self, group_id: str, *, create: bool = False) -> tuple[Shard, Entry]:
        if create:
            shard: Shard | None = await self._shards.of(group_id)
        else:
            shard = await self._shards.existing(group_id)
        if shard is None:
            raise GroupRefused(Refusal.UNKNOWN_GROUP)
        return shard, shard.entry(group_id, room=self._has_room() if create else None)

    def _has_room(self) -> bool:
        return sum(len(shard.entries) for shard in self._shards) < self._config.groups_max

    def collect(self) -> Iterator[Sample]:
        """For the metrics registry."""
        entries = (entry for shard in self._shards for entry in shard)
        return samples(entries, self._shards.counts, self._where)

    def _where(self, topic_id: UUID) -> tuple[str, int] | None:
        try:
            topic = self._controller.topic_by_id(topic_id)
        except UnknownTopicId:
            return None
        end_offset = self._controller.known_end(topic)
        return None if end_offset is None else (topic.name, end_offset)


class Position:
    """Implements `ports.QuickPosition`."""

    __slots__ = ("_entry", "_now_ms", "_shard", "_topic_id", "offset")

    def __init__(
        self, shard: Shard, entry: Entry, topic_id: UUID, offset: int, now_ms: Callable[[], int]
    ) -> None:
        self._shard = shard
        self._entry = entry
        self._topic_id = topic_id
        self.offset = offset
        self._now_ms = now_ms

    def commit_now(self, offset: int, wake: Wake, *, is_alone: bool) -> bool:
        shard, entry = self._shard, self._entry
        if entry.group.check_commit(_BY_HAND, -1, shard.now_ms()) is not None:
            return False
        value = OffsetValue(offset, -1, "", self._now_ms())
        return shard.commit_now(entry, self._topic_id, value, wake, is_alone=is_alone)


_BY_HAND: Final = Who("")
"""Who commits without being a member."""


def is_too_large(metadata: str) -> bool:
    """Whether a commit may not carry it."""
    return len(metadata) > METADATA_LENGTH_MAX


async def _silently(durable: Durable) -> Reply:
    await durable()
    return ()
