"""OffsetDelete, v0-v0.

Behaviour
  * Forgets positions of a group; answered when that is durable. What was never there is no error.
  * A topic that a member subscribes to is GROUP_SUBSCRIBED_TO_TOPIC; a group of another protocol
    than the consumers' must have no members (NON_EMPTY_GROUP).
Versions
  v0 only
Not here
  nothing
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.groups.messages import Refusal
from broker.groups.state_log import Durable
from broker.kafka_api.context import Context
from broker.kafka_api.groups import group_code, refusal_code
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.offset_delete.v0.request import OffsetDeleteRequest


async def begin(ctx: Context, request: OffsetDeleteRequest) -> Finish:
    """Forget now; stage 2 waits for the disk."""
    topics: dict[str, UUID] = {}
    for topic in request.topics:
        try:
            topics[topic.name] = ctx.controller.topic(topic.name).topic_id
        except RequestError:
            continue
    asked: dict[str, UUID] = {
        topic.name: topics[topic.name]
        for topic in request.topics
        if topic.name in topics and any(one.partition_index == 0 for one in topic.partitions)
    }
    try:
        refusals, durable = await ctx.groups.delete_offsets(request.group_id, asked)
    except RequestError as error:
        return ready(failed(ctx, request, group_code(error)))
    return partial(_finish, ctx, request, refusals, durable)


def failed(ctx: Context, request: OffsetDeleteRequest, code: ErrorCode) -> Response:
    """Nothing in particular."""
    return maker(request).OffsetDeleteResponse(error_code=code, topics=())  # type: ignore[no-any-return]


async def _finish(
    ctx: Context,
    request: OffsetDeleteRequest,
    refusals: dict[str, Refusal | None],
    durable: Durable,
) -> Response:
    try:
        await durable()
    except RequestError as error:
        return failed(ctx, request, group_code(error))
    make = maker(request)

    def code(name: str, index: int) -> ErrorCode:
        if index != 0 or name not in refusals:
            return ErrorCode.unknown_topic_or_partition
        return refusal_code(refusals[name])

    topics = tuple(
        make.OffsetDeleteResponseTopic(
            name=topic.name,
            partitions=tuple(
                make.OffsetDeleteResponsePartition(
                    partition_index=one.partition_index,
                    error_code=code(topic.name, one.partition_index),
                )
                for one in topic.partitions
            ),
        )
        for topic in request.topics
    )
    return make.OffsetDeleteResponse(error_code=ErrorCode.none, topics=topics)  # type: ignore[no-any-return]
