"""ListOffsets, v1-v9.

Behaviour
  * A timestamp gives the first record at or after it, exact to the record; without one, offset and
    timestamp are -1 and there is no error.
  * -1 latest (high watermark), -2 earliest (log start), -3 the record with the largest timestamp,
    -4 earliest on local disks (the log start), -5 latest in tiered storage (nothing there: -1).
  * While nobody leads a topic, the answer waits up to two seconds for the next leader.
  * -1 and -3 are told once a majority of the replicas has confirmed that this node still leads.
  * An offset that was looked up always comes with a timestamp of 0 or more: Java throws at any
    other.
Versions
  v2 isolation level · v4 leader epochs (KIP-320) · v6 flexible · v7 -3 (KIP-734) · v8 -4 (KIP-405)
  · v9 -5 (KIP-1005)
Not here
  transactions (both isolation levels see the high watermark), v10-v11 (remote storage)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.errors import Refused, partition_code
from broker.kafka_api.handler import Finish, Response, led_partition, ready
from broker.kafka_api.leaders import LEADER_WAIT_S, unled, until_led
from broker.kafka_api.wire import Maker, maker
from broker.ports import Partition, TimestampedOffset

if TYPE_CHECKING:
    from kio.schema.list_offsets.v9.request import ListOffsetsPartition, ListOffsetsRequest

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5
_NEWEST: Final = (LATEST, MAX_TIMESTAMP)

_VERSION_MIN: Final = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
}
_NOTHING: Final = TimestampedOffset(offset=-1, timestamp_ms=-1, leader_epoch=-1)


async def begin(ctx: Context, request: ListOffsetsRequest) -> Finish:
    """Look everything up at once: an offset listed after a produce must count that produce."""
    if unled(ctx, _names(request)):
        return partial(_later, ctx, request)
    return ready(await _answer(ctx, request))


async def _later(ctx: Context, request: ListOffsetsRequest) -> Response:
    await until_led(ctx, _names(request), LEADER_WAIT_S)
    return await _answer(ctx, request)


def _names(request: ListOffsetsRequest) -> set[str]:
    return {topic.name for topic in request.topics}


async def _answer(ctx: Context, request: ListOffsetsRequest) -> Response:
    make = maker(request)
    refusals = await _confirmed(ctx, request)
    topics = []
    for topic in request.topics:
        partitions = [
            await _partition(ctx, make, request.__version__, topic.name, wanted, refusals)
            for wanted in topic.partitions
        ]
        topics.append(make.ListOffsetsTopicResponse(name=topic.name, partitions=tuple(partitions)))
    response: Response = make.ListOffsetsResponse(topics=tuple(topics))
    return response


def failed(ctx: Context, request: ListOffsetsRequest, code: ErrorCode) -> Response:
    """The same error for every partition."""
    make = maker(request)
    topics = tuple(
        make.ListOffsetsTopicResponse(
            name=topic.name,
            partitions=tuple(_row(make, wanted, code, _NOTHING) for wanted in topic.partitions),
        )
        for topic in request.topics
    )
    response: Response = make.ListOffsetsResponse(topics=topics)
    return response


async def _confirmed(ctx: Context, request: ListOffsetsRequest) -> dict[str, RequestError]:
    """Why the newest must not be told, by topic. All are asked at the same time."""
    refusals: dict[str, RequestError] = {}

    async def confirm(name: str) -> None:
        try:
            await led_partition(ctx, ctx.controller.topic(name), 0).confirmed()
        except RequestError as error:
            refusals[name] = error

    async with anyio.create_task_group() as tasks:
        for topic in request.topics:
            if any(wanted.timestamp in _NEWEST for wanted in topic.partitions):
                tasks.start_soon(confirm, topic.name)
    return refusals


async def _partition(
    ctx: Context,
    make: Maker,
    version: int,
    name: str,
    wanted: ListOffsetsPartition,
    refusals: Mapping[str, RequestError],
) -> object:
    try:
        partition = led_partition(ctx, ctx.controller.topic(name), wanted.partition_index)
        partition.check_epoch(getattr(wanted, "current_leader_epoch", -1))
        if wanted.timestamp in _NEWEST and name in refusals:
            raise refusals[name]
        found = await _look_up(partition, wanted.timestamp, version)
    except RequestError as error:
        return _row(make, wanted, partition_code(error), _NOTHING)
    return _row(make, wanted, ErrorCode.none, found)


def _row(
    make: Maker, wanted: ListOffsetsPartition, code: ErrorCode, found: TimestampedOffset
) -> object:
    return make.ListOffsetsPartitionResponse(
        partition_index=wanted.partition_index,
        error_code=code,
        timestamp=found.timestamp_ms,
        offset=found.offset,
        leader_epoch=found.leader_epoch,
    )


async def _look_up(partition: Partition, timestamp_ms: int, version: int) -> TimestampedOffset:
    if timestamp_ms >= 0:
        return _if_timed(await partition.offset_for_timestamp(timestamp_ms))
    if version < _VERSION_MIN.get(timestamp_ms, version + 1):
        text = f"timestamp {timestamp_ms} means nothing in ListOffsets v{version}"
        raise Refused(ErrorCode.unsupported_version, text)
    if timestamp_ms == LATEST:
        return TimestampedOffset(partition.high_watermark, -1, partition.leader_epoch)
    if timestamp_ms == MAX_TIMESTAMP:
        return _if_timed(await partition.offset_of_max_timestamp())
    if timestamp_ms == LATEST_TIERED:
        return _NOTHING
    return TimestampedOffset(partition.log_start_offset, -1, _first_epoch(partition))


def _if_timed(found: TimestampedOffset | None) -> TimestampedOffset:
    return _NOTHING if found is None or found.timestamp_ms < 0 else found


def _first_epoch(partition: Partition) -> int:
    segments = partition.topic.segments
    return segments[0].leader_epoch if segments else partition.leader_epoch
