"""OffsetFetch, v1-v9.

Behaviour
  * Only what is durable is told: a position that a client has seen never goes back.
  * A partition without position is -1 with no error, be it of a topic that does not exist: as with
    Kafka, whose clients do not expect one here.
  * No topics (null) means all of the group.
  * A failure stands at the top and in every partition. Kafka has it at the top alone; aiokafka
    reads the partitions alone, and would take it for "nothing committed".
Versions
  v2 null for all topics, error at the top · v5 leader epoch (KIP-320) · v6 flexible · v7 require
  stable (KIP-447; all positions are) · v8 many groups (KIP-709) · v9 member id and epoch, for the
  next protocol of groups
Not here
  v10 (topic ids)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from kio.schema.errors import ErrorCode

from broker.errors import RequestError
from broker.groups.records import OffsetValue
from broker.groups.state_log import Durable
from broker.kafka_api.context import Context
from broker.kafka_api.groups import group_code
from broker.kafka_api.handler import Finish, Response
from broker.kafka_api.wire import Maker, maker

if TYPE_CHECKING:
    from kio.schema.offset_fetch.v9.request import OffsetFetchRequest

MANY_VERSION_MIN: Final = 8

_NOTHING: Final = OffsetValue(offset=-1, leader_epoch=-1, metadata="", commit_time_ms=-1)

_Partition = tuple[int, OffsetValue, ErrorCode]
_Topics = Sequence[tuple[str, Sequence[_Partition]]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One group; the topics are None for all it has."""

    group_id: str
    topics: Sequence[tuple[str, Sequence[int]]] | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What one group gets."""

    code: ErrorCode
    topics: _Topics


async def begin(ctx: Context, request: OffsetFetchRequest) -> Finish:
    """Read the positions now; stage 2 waits until they may be told."""
    found = [(asked, *await _read(ctx, asked)) for asked in _asked(request)]
    return partial(_finish, request, found)


def failed(ctx: Context, request: OffsetFetchRequest, code: ErrorCode) -> Response:
    """The same error for every group, and for every partition asked."""
    return _response(request, [(one.group_id, _failed(one, code)) for one in _asked(request)])


def _asked(request: OffsetFetchRequest) -> list[_Asked]:
    groups: Sequence[Any] = (
        request.groups if request.__version__ >= MANY_VERSION_MIN else (request,)
    )
    return [
        _Asked(
            group.group_id,
            None
            if group.topics is None
            else [(topic.name, topic.partition_indexes) for topic in group.topics],
        )
        for group in groups
    ]


async def _read(ctx: Context, asked: _Asked) -> tuple[_Found, Durable | None]:
    try:
        offsets, durable = await ctx.groups.offsets(asked.group_id)
    except RequestError as error:
        return _failed(asked, _code(error)), None
    topics = _all(ctx, offsets) if asked.topics is None else _named(ctx, offsets, asked.topics)
    return _Found(ErrorCode.none, topics), durable


def _code(error: RequestError) -> ErrorCode:
    """Never COORDINATOR_NOT_AVAILABLE: aiokafka takes it for final here."""
    code = group_code(error)
    if code is ErrorCode.coordinator_not_available:
        return ErrorCode.coordinator_load_in_progress
    return code


def _failed(asked: _Asked, code: ErrorCode) -> _Found:
    topics = [
        (name, [(index, _NOTHING, code) for index in indexes])
        for name, indexes in asked.topics or ()
    ]
    return _Found(code, topics)


def _all(ctx: Context, offsets: Mapping[UUID, OffsetValue]) -> _Topics:
    found = []
    for topic_id, value in offsets.items():
        try:
            name = ctx.controller.topic_by_id(topic_id).name
        except RequestError:
            continue
        found.append((name, [(0, value, ErrorCode.none)]))
    return found


def _named(
    ctx: Context,
    offsets: Mapping[UUID, OffsetValue],
    topics: Sequence[tuple[str, Sequence[int]]],
) -> _Topics:
    found = []
    for name, indexes in topics:
        try:
            value = offsets.get(ctx.controller.topic(name).topic_id, _NOTHING)
        except RequestError:
            value = _NOTHING
        found.append(
            (name, [(index, _NOTHING if index else value, ErrorCode.none) for index in indexes])
        )
    return found


async def _finish(
    request: OffsetFetchRequest, found: Sequence[tuple[_Asked, _Found, Durable | None]]
) -> Response:
    groups = []
    for asked, positions, durable in found:
        told = positions
        if durable is not None:
            try:
                await durable()
            except RequestError as error:
                told = _failed(asked, _code(error))
        groups.append((asked.group_id, told))
    return _response(request, groups)


def _response(request: OffsetFetchRequest, groups: Sequence[tuple[str, _Found]]) -> Response:
    make = maker(request)
    if request.__version__ >= MANY_VERSION_MIN:
        return make.OffsetFetchResponse(  # type: ignore[no-any-return]
            groups=tuple(
                make.OffsetFetchResponseGroup(
                    group_id=group_id,
                    topics=_topics(make, "OffsetFetchResponseTopics", found),
                    error_code=found.code,
                )
                for group_id, found in groups
            )
        )
    ((_, found),) = groups
    return make.OffsetFetchResponse(  # type: ignore[no-any-return]
        topics=_topics(make, "OffsetFetchResponseTopic", found), error_code=found.code
    )


def _topics(make: Maker, entity: str, found: _Found) -> tuple[object, ...]:
    """The schema has the same topics twice: before v8 and, in the plural, since."""
    suffix = entity.removeprefix("OffsetFetchResponseTopic")
    make_topic = getattr(make, entity)
    make_partition = getattr(make, f"OffsetFetchResponsePartition{suffix}")
    return tuple(
        make_topic(
            name=name,
            partitions=tuple(
                make_partition(
                    partition_index=index,
                    committed_offset=value.offset,
                    committed_leader_epoch=value.leader_epoch,
                    metadata=value.metadata,
                    error_code=code,
                )
                for index, value, code in partitions
            ),
        )
        for name, partitions in found.topics
    )
