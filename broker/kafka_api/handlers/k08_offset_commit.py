"""OffsetCommit, v2-v9.

Behaviour
  * Answered when the positions are durable. Those of one request are in one batch; those that come
    in at the same time, from whomever, share it.
  * Positions belong to the id of the topic: one that is deleted and created anew starts without.
  * By hand (no member, no generation): only while the group has no members.
  * An unknown topic, or a partition other than 0, is UNKNOWN_TOPIC_OR_PARTITION; what is wrong with
    the member is the same error for every partition.
Versions
  v2-v4 retention time · v6 leader epoch (KIP-320) · v7 static members (KIP-345) · v8 flexible · v9
  the next protocol of groups may commit (KIP-848; as unknown members here)
Not here
  v10 (topic ids)
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.groups.coordinator import is_too_large
from broker.groups.messages import Refusal, Who
from broker.groups.records import OffsetValue
from broker.groups.state_log import Durable
from broker.kafka_api.context import Context
from broker.kafka_api.groups import group_code, refusal_code
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import maker

if TYPE_CHECKING:
    from kio.schema.offset_commit.v9.request import (
        OffsetCommitRequest,
        OffsetCommitRequestPartition,
        OffsetCommitRequestTopic,
    )

NO_RETENTION: Final = timedelta(milliseconds=-1)


async def begin(ctx: Context, request: OffsetCommitRequest) -> Finish:
    """Commit now; stage 2 waits for the disk."""
    now_ms = ctx.clock.now_ms()
    retention = getattr(request, "retention_time", NO_RETENTION)
    expire_ms = -1 if retention < timedelta(0) else now_ms + round(retention.total_seconds() * 1000)
    codes: list[ErrorCode] = []
    offsets: dict[UUID, OffsetValue] = {}
    for topic, partition in _each(request):
        topic_id = _topic_id(ctx, topic, partition)
        metadata = partition.committed_metadata or ""
        if topic_id is None:
            codes.append(ErrorCode.unknown_topic_or_partition)
        elif is_too_large(metadata):
            codes.append(refusal_code(Refusal.METADATA_TOO_LARGE))
        else:
            codes.append(ErrorCode.none)
            offsets[topic_id] = OffsetValue(
                partition.committed_offset,
                getattr(partition, "committed_leader_epoch", -1),
                metadata,
                now_ms,
                expire_ms,
            )
    who = Who(request.member_id, getattr(request, "group_instance_id", None))
    generation = request.generation_id_or_member_epoch
    try:
        durable = await ctx.groups.commit_offsets(request.group_id, who, generation, offsets)
    except RequestError as error:
        return ready(failed(ctx, request, group_code(error)))
    return partial(_finish, ctx, request, codes, durable)


def failed(ctx: Context, request: OffsetCommitRequest, code: ErrorCode) -> Response:
    """The same error for every partition."""
    return _response(request, [code for _ in _each(request)])


async def _finish(
    ctx: Context, request: OffsetCommitRequest, codes: list[ErrorCode], durable: Durable
) -> Response:
    try:
        await durable()
    except RequestError as error:
        return failed(ctx, request, group_code(error))
    return _response(request, codes)


def _each(
    request: OffsetCommitRequest,
) -> Iterator[tuple[OffsetCommitRequestTopic, OffsetCommitRequestPartition]]:
    for topic in request.topics:
        for partition in topic.partitions:
            yield topic, partition


def _topic_id(
    ctx: Context, topic: OffsetCommitRequestTopic, partition: OffsetCommitRequestPartition
) -> UUID | None:
    try:
        view = ctx.controller.topic(topic.name)
    except RequestError:
        return None
    return view.topic_id if partition.partition_index == 0 else None


def _response(request: OffsetCommitRequest, codes: list[ErrorCode]) -> Response:
    make = maker(request)
    code = iter(codes)
    return make.OffsetCommitResponse(  # type: ignore[no-any-return]
        topics=tuple(
            make.OffsetCommitResponseTopic(
                name=topic.name,
                partitions=tuple(
                    make.OffsetCommitResponsePartition(
                        partition_index=partition.partition_index, error_code=next(code)
                    )
                    for partition in topic.partitions
                ),
            )
            for topic in request.topics
        )
    )
