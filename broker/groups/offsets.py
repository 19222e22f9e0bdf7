"""Committed offsets of consumer groups, and of the shared cursor of native GET: 8 shards of keyed
state.

Implements `ports.GroupOffsets`. A group's shard is `__consumer_offsets_<crc32c(group) % 8>`, made
when it is first written. Offsets are kept by topic id, so a topic that is deleted and created anew
starts without them.
"""

from typing import Final
from uuid import UUID

import anyio
import msgspec
from crc32c import crc32c

from broker.controller.controller import LocalController
from broker.controller.topics import OFFSETS_TOPIC
from broker.errors import InvalidRequest, TopicExists, UnknownTopic
from broker.groups.state_log import StateLog
from broker.ports import Clock, Finish, TopicView

SHARD_COUNT: Final = 8
METADATA_SIZE_MAX: Final = 4096
"""Characters a client may attach to a commit; Kafka's `offset.metadata.max.bytes`."""

SHARD_CONFIGS: Final = {"cleanup.policy": "compact", "segment.bytes": str(16 * 1024 * 1024)}
"""Small segments: loading a shard costs one."""


class OffsetKey(msgspec.Struct, frozen=True, array_like=True, tag="offset"):
    group: str
    topic_id: bytes


class OffsetValue(msgspec.Struct, frozen=True, array_like=True):
    offset: int
    leader_epoch: int
    metadata: str
    commit_time_ms: int


_value_decoder = msgspec.msgpack.Decoder(OffsetValue)


class Offsets:
    """See the module's text."""

    def __init__(self, controller: LocalController, clock: Clock) -> None:
        self._controller = controller
        self._clock = clock
        self._shards: dict[str, StateLog] = {}
        self._locks = [anyio.Lock() for _ in range(SHARD_COUNT)]

    async def position(self, group: str, topic_id: UUID) -> int | None:
        shard = await self._shard(group, create=False)
        data = None if shard is None else shard.live.get(_key(group, topic_id))
        return None if data is None else _value_decoder.decode(data).offset

    async def commit(self, group: str, topic_id: UUID, offset: int, metadata: str = "") -> Finish:
        if len(metadata) > METADATA_SIZE_MAX:
            raise InvalidRequest(
                f"commit metadata of {len(metadata)} characters, at most {METADATA_SIZE_MAX}"
            )
        shard = await self._shard(group, create=True)
        assert shard is not None
        value = OffsetValue(offset, -1, metadata, self._clock.now_ms())
        return await shard.append([(_key(group, topic_id), msgspec.msgpack.encode(value))])

    async def _shard(self, group: str, *, create: bool) -> StateLog | None:
        """The loaded shard of a group; None if it does not exist yet and is not to be made."""
        number = crc32c(group.encode()) % SHARD_COUNT
        name = f"{OFFSETS_TOPIC}_{number}"
        topic = await self._topic(name, create=create)
        if topic is None:
            return None
        partition = self._controller.partition(topic)
        shard = self._shards.get(name)
        if shard is not None and shard.partition is partition:
            return shard
        async with self._locks[number]:
            shard = self._shards.get(name)
            if shard is None or shard.partition is not partition:
                shard = await StateLog.load(self._controller, partition, self._clock)
                self._shards[name] = shard
            return shard

    async def _topic(self, name: str, *, create: bool) -> TopicView | None:
        try:
            return self._controller.topic(name)
        except UnknownTopic:
            if not create:
                return None
        try:
            return await self._controller.create_topic(
                name, configs=SHARD_CONFIGS, is_internal=True
            )
        except TopicExists:
            return self._controller.topic(name)


def _key(group: str, topic_id: UUID) -> bytes:
    return msgspec.msgpack.encode(OffsetKey(group, topic_id.bytes))
