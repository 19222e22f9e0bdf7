"""DeleteRecords, v0-v2.

Behaviour
  * Moves the log start up to the offset asked, -1 meaning the high watermark; answers the log start
    that holds now. It never moves down. Every copy follows, and whole segments below it leave the
    disks.
  * The offset may lie anywhere: clients skip the records of the first batch that are below it.
  * Beyond the high watermark, or below -1: OFFSET_OUT_OF_RANGE. Not led here:
    NOT_LEADER_OR_FOLLOWER.
  * A topic that never deletes (cleanup.policy=compact) is POLICY_VIOLATION, an internal one
    INVALID_TOPIC_EXCEPTION.
Versions
  v2 flexible
Not here
  nothing
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from broker.controller.topic_config import TopicConfig
from broker.errors import InvalidTopic, RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.errors import Refused, partition_code
from broker.kafka_api.handler import Finish, Response, led_partition, ready, within
from broker.kafka_api.wire import Maker, maker

if TYPE_CHECKING:
    from kio.schema.delete_records.v2.request import DeleteRecordsPartition, DeleteRecordsRequest

UNKNOWN_OFFSET = -1


async def begin(ctx: Context, request: DeleteRecordsRequest) -> Finish:
    """Delete in the order asked, before the connection's next request is looked at."""
    make = maker(request)
    wait_s = ctx.config.admin_wait_ms_max / 1000
    if request.timeout.total_seconds() > 0:
        wait_s = min(wait_s, request.timeout.total_seconds())
    deadline = ctx.clock.monotonic() + wait_s
    topics = []
    for topic in request.topics:
        results = []
        for wanted in topic.partitions:
            try:
                work = _delete(ctx, topic.name, wanted)
                low = await within(max(0.0, deadline - ctx.clock.monotonic()), work)
            except RequestError as error:
                results.append(_result(make, wanted, UNKNOWN_OFFSET, partition_code(error)))
            else:
                results.append(_result(make, wanted, low, ErrorCode.none))
        topics.append(make.DeleteRecordsTopicResult(name=topic.name, partitions=tuple(results)))
    return ready(make.DeleteRecordsResponse(topics=tuple(topics)))


def failed(ctx: Context, request: DeleteRecordsRequest, code: ErrorCode) -> Response:
    """The same error for every partition."""
    make = maker(request)
    topics = tuple(
        make.DeleteRecordsTopicResult(
            name=topic.name,
            partitions=tuple(
                _result(make, wanted, UNKNOWN_OFFSET, code) for wanted in topic.partitions
            ),
        )
        for topic in request.topics
    )
    response: Response = make.DeleteRecordsResponse(topics=topics)
    return response


async def _delete(ctx: Context, name: str, wanted: DeleteRecordsPartition) -> int:
    view = ctx.controller.topic(name)
    led_partition(ctx, view, wanted.partition_index)
    if view.is_internal:
        raise InvalidTopic(f"{name} belongs to the broker")
    if not TopicConfig.of(view.configs).is_deleted_by_age:
        text = f"cleanup.policy of {name} does not delete"
        raise Refused(ErrorCode.policy_violation, text)
    return await ctx.controller.delete_records(view, wanted.offset)


def _result(make: Maker, wanted: DeleteRecordsPartition, low: int, code: ErrorCode) -> object:
    return make.DeleteRecordsPartitionResult(
        partition_index=wanted.partition_index, low_watermark=low, error_code=code
    )
