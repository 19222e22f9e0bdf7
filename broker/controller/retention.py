"""What may be deleted, and saying so: `retention.ms`, `retention.bytes`, and DeleteRecords.

The leader of a topic decides, for it alone knows the open segment; the decision is one DeletePrefix
in the metadata, and every holder deletes its files because of that. A segment goes whole and the
oldest goes first, so what stays is one range of offsets.

Age is counted from the later of two times: the largest timestamp of the segment's records, and the
moment after which nothing was appended to it. Records that were written with the times of years ago
are therefore not deleted on arrival. Topics that only compact keep everything, and so do internal
ones, whose logs are cut by those who keep their state in them.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import anyio
import structlog

from broker.controller.clocks import WallTime
from broker.controller.metadata import Metadata
from broker.controller.partition import LocalPartition
from broker.controller.topic_config import TopicConfig
from broker.errors import NotLeader, OffsetOutOfRange, RequestError, UnknownTopic
from raft.commands import DeletePrefix
from raft.state import Segment, SegmentState, Topic

_log = structlog.get_logger(__name__)

HIGH_WATERMARK: Final = -1
"""As the offset of DeleteRecords: everything that consumers can see."""

ROLL_PAUSE_S: Final = 0.05
"""Between two attempts to close a segment that somebody else is closing."""

Roll = Callable[[LocalPartition, str], Awaitable[bool]]
"""Close the open segment and keep the leader; (partition, why)."""


# ---- the decision (pure) -----------------------------------------------------------------------


def is_kept(topic: Topic, config: TopicConfig) -> bool:
    """Whether neither age nor size ever deletes anything of this topic."""
    return topic.internal or not config.is_deleted_by_age


def due(topic: Topic, config: TopicConfig, *, now_ms: int, open_size: int) -> int | None:
    """The offset below which `topic` may be deleted; None if nothing is due.

    `open_size` are the bytes of the open segment: they count, and stay. As in Kafka, a segment goes
    by size only when what remains is still `retention.bytes` or more.
    """
    if is_kept(topic, config):
        return None
    sealed = [segment for segment in topic.kept if segment.state is SegmentState.SEALED]
    size = open_size + sum(segment.size for segment in sealed)
    log_start_offset = None
    for segment in sealed:
        size -= segment.size
        is_too_much = 0 <= config.retention_bytes <= size
        if not is_too_much and not _is_expired(_newest_ms(segment), config, now_ms):
            break
        log_start_offset = segment.end_offset
    return log_start_offset


def _newest_ms(segment: Segment) -> int:
    return max(segment.max_timestamp, segment.appended_ms)


def _is_expired(newest_ms: int, config: TopicConfig, now_ms: int) -> bool:
    return config.retention_ms >= 0 and now_ms - newest_ms > config.retention_ms


def outlived(partition: LocalPartition, now_ms: int) -> str:
    """Why every record of the open segment is beyond `retention.ms`, in words; "" if one is not.

    Such a segment is closed, so that it can go.
    """
    bucket, config = partition.bucket, partition.config
    if bucket is None or is_kept(partition.metadata, config) or bucket.last_append_ms < 0:
        return ""
    newest_ms = max(bucket.segment.max_timestamp, bucket.last_append_ms)
    if not _is_expired(newest_ms, config, now_ms):
        return ""
    return f"all records are older than retention.ms={config.retention_ms}"


# ---- doing it ----------------------------------------------------------------------------------


class Retention:
    """Looks at what this node leads, every `interval_ms`. `run` does the work."""

    def __init__(
        self,
        metadata: Metadata,
        *,
        time: WallTime,
        interval_ms: int,
        partitions: Callable[[], Iterable[LocalPartition]],
        roll: Roll,
    ) -> None:
        self._metadata = metadata
        self._time = time
        self._interval_s = interval_ms / 1000
        self._partitions = partitions
        self._roll = roll

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await anyio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        """Delete what is due, unless the time cannot be believed."""
        now_ms = await self._time.now_ms()
        if now_ms is None:
            return
        for partition in tuple(self._partitions()):
            try:
                await self._expire(partition, now_ms)
            except RequestError as error:
                _log.info("retention waits", topic=partition.topic.name, why=str(error))

    async def _expire(self, partition: LocalPartition, now_ms: int) -> None:
        if (reason := outlived(partition, now_ms)) and not await self._roll(partition, reason):
            return
        bucket = partition.bucket
        if bucket is None:
            return
        topic = partition.metadata
        offset = due(topic, partition.config, now_ms=now_ms, open_size=bucket.segment.size)
        if offset is None:
            return
        gone = [segment for segment in topic.kept[:-1] if segment.end_offset <= offset]
        applied = await self._metadata.propose(DeletePrefix(topic.topic_id, offset))
        if applied.refusal:
            return  # It was deleted, and took everything along.
        _log.info(
            "deleted by retention",
            topic=topic.name,
            log_start_offset=offset,
            segments=len(gone),
            bytes=sum(segment.size for segment in gone),
        )


async def delete_records(
    partition: LocalPartition, metadata: Metadata, offset: int, *, roll: Roll
) -> int:
    """Give up everything below `offset`, or below the high watermark for HIGH_WATERMARK; the log
    start that holds now.

    An offset inside the open segment closes that first: the log start never lies in one that is
    written. Raises OffsetOutOfRange beyond the high watermark, NotLeader when the topic moves
    meanwhile, UnknownTopic when it is deleted, MetadataUnavailable.
    """
    if offset == HIGH_WATERMARK:
        offset = partition.high_watermark
    if not 0 <= offset <= partition.high_watermark:
        raise OffsetOutOfRange(
            f"offset {offset} of {partition.topic.name}, whose high watermark is"
            f" {partition.high_watermark}"
        )
    while offset > partition.metadata.last.base_offset:
        if partition.bucket is None:
            raise NotLeader(f"{partition.topic.name} has moved")
        if not await roll(partition, f"records below {offset} are to be deleted"):
            await anyio.sleep(ROLL_PAUSE_S)
    if offset <= partition.log_start_offset:
        return partition.log_start_offset
    applied = await metadata.propose(DeletePrefix(partition.metadata.topic_id, offset))
    if applied.refusal:
        raise UnknownTopic(f"{partition.topic.name} was deleted meanwhile")
    _log.info("records deleted", topic=partition.topic.name, log_start_offset=applied.value)
    return applied.value  # The topic may have moved: then this partition hears of nothing more.
