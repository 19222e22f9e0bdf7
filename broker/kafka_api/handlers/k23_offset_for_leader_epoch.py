"""OffsetForLeaderEpoch, v2-v4.

Behaviour
  * Where the records of a leader epoch end: a client whose position lies beyond that has read what
    was lost (KIP-101, KIP-320). That takes a weaker `--fsync`, or an operator who accepts a loss.
  * The answer names the newest epoch that wrote anything and is not newer than the one asked. The
    current epoch ends at the high watermark, an epoch whose records are all deleted at the log
    start.
  * An epoch that is newer than the current one, or none (-1), is answered -1, -1. The epoch that
    the client believes to be current is checked as in Fetch.
Versions
  v3 replica id · v4 flexible
Not here
  followers of Kafka's own
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.errors import partition_code
from broker.kafka_api.handler import Finish, Response, led_partition, ready
from broker.kafka_api.wire import Maker, maker
from broker.ports import Partition

if TYPE_CHECKING:
    from kio.schema.offset_for_leader_epoch.v4.request import (
        OffsetForLeaderEpochRequest,
        OffsetForLeaderPartition,
    )

UNKNOWN = (-1, -1)


async def begin(ctx: Context, request: OffsetForLeaderEpochRequest) -> Finish:
    """Answer from the chain of segments as it is now."""
    make = maker(request)
    topics = tuple(
        make.OffsetForLeaderTopicResult(
            topic=topic.topic,
            partitions=tuple(
                _partition(ctx, make, topic.topic, wanted) for wanted in topic.partitions
            ),
        )
        for topic in request.topics
    )
    return ready(make.OffsetForLeaderEpochResponse(topics=topics))


def failed(ctx: Context, request: OffsetForLeaderEpochRequest, code: ErrorCode) -> Response:
    """The same error for every partition."""
    make = maker(request)
    topics = tuple(
        make.OffsetForLeaderTopicResult(
            topic=topic.topic,
            partitions=tuple(_row(make, wanted, code, UNKNOWN) for wanted in topic.partitions),
        )
        for topic in request.topics
    )
    response: Response = make.OffsetForLeaderEpochResponse(topics=topics)
    return response


def _partition(ctx: Context, make: Maker, name: str, wanted: OffsetForLeaderPartition) -> object:
    try:
        partition = led_partition(ctx, ctx.controller.topic(name), wanted.partition)
        partition.check_epoch(wanted.current_leader_epoch)
    except RequestError as error:
        return _row(make, wanted, partition_code(error), UNKNOWN)
    return _row(make, wanted, ErrorCode.none, _end_of(partition, wanted.leader_epoch))


def _end_of(partition: Partition, epoch: int) -> tuple[int, int]:
    """(epoch, end offset), of the newest epoch up to `epoch` that has records."""
    if not 0 <= epoch <= partition.leader_epoch:
        return UNKNOWN
    for segment in reversed(partition.topic.segments):
        if segment.leader_epoch <= epoch:
            end_offset = segment.end_offset
            return segment.leader_epoch, max(
                partition.high_watermark if end_offset is None else end_offset,
                partition.log_start_offset,
            )
    return epoch, partition.log_start_offset


def _row(
    make: Maker, wanted: OffsetForLeaderPartition, code: ErrorCode, end: tuple[int, int]
) -> object:
    return make.EpochEndOffset(
        error_code=code, partition=wanted.partition, leader_epoch=end[0], end_offset=end[1]
    )
