"""DeleteTopics, v1-v6.

Behaviour
  * Deleted when answered: the name is free, and this node's metadata says so at once.
  * A missing name is UNKNOWN_TOPIC_OR_PARTITION, a missing id UNKNOWN_TOPIC_ID: missing in the
    cluster's metadata as of now, not only where this node has got to.
  * A topic that stands twice in one request is INVALID_REQUEST both times. Internal topics cannot
    be deleted.
Versions
  v4 flexible · v5 error message (KIP-599) · v6 by id or by name (KIP-516)
Not here
  quotas
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from kio.schema.errors import ErrorCode

from broker.errors import (
    InvalidRequest,
    InvalidTopic,
    RequestError,
    UnknownTopic,
    UnknownTopicId,
)
from broker.kafka_api.context import Context
from broker.kafka_api.errors import partition_code, text_of
from broker.kafka_api.handler import Finish, Response, ready, within
from broker.kafka_api.wire import Maker, maker
from broker.ports import TopicView

if TYPE_CHECKING:
    from kio.schema.delete_topics.v6.request import DeleteTopicsRequest


@dataclass(frozen=True, slots=True)
class _Asked:
    """One topic to delete; one of the two is None."""

    name: str | None
    topic_id: UUID | None


async def begin(ctx: Context, request: DeleteTopicsRequest) -> Finish:
    """Delete in the order asked, before the connection's next request is looked at."""
    make = maker(request)
    asked_all = _asked(request)
    times = Counter(asked_all)
    wait_s = ctx.config.admin_wait_ms_max / 1000
    if request.timeout.total_seconds() > 0:
        wait_s = min(wait_s, request.timeout.total_seconds())
    results = []
    is_fresh = False
    for asked in asked_all:
        view = None
        try:
            if times[asked] > 1:
                raise InvalidRequest("the topic stands more than once in the request")
            try:
                view = _find(ctx, asked)
            except (UnknownTopic, UnknownTopicId):
                if is_fresh:
                    raise
                await within(wait_s, ctx.controller.caught_up())
                is_fresh = True
                view = _find(ctx, asked)
            await _delete(ctx, view, wait_s)
        except RequestError as error:
            code = partition_code(error, by_id=asked.topic_id is not None)
            results.append(_result(make, asked, view, code, text_of(error)))
        else:
            results.append(_result(make, asked, view, ErrorCode.none, None))
    return ready(make.DeleteTopicsResponse(responses=tuple(results)))


def failed(ctx: Context, request: DeleteTopicsRequest, code: ErrorCode) -> Response:
    """The same error for every topic."""
    make = maker(request)
    text = "the broker failed while serving this request"
    responses = tuple(_result(make, asked, None, code, text) for asked in _asked(request))
    response: Response = make.DeleteTopicsResponse(responses=responses)
    return response


def _asked(request: DeleteTopicsRequest) -> list[_Asked]:
    names = getattr(request, "topic_names", ())
    topics = getattr(request, "topics", ())
    return [_Asked(name, None) for name in names] + [
        _Asked(topic.name, topic.topic_id) for topic in topics
    ]


def _find(ctx: Context, asked: _Asked) -> TopicView:
    if (asked.name is None) == (asked.topic_id is None):
        raise InvalidRequest("a topic is deleted by its name or by its id, one of the two")
    if asked.topic_id is not None:
        return ctx.controller.topic_by_id(asked.topic_id)
    return ctx.controller.topic(asked.name or "")


async def _delete(ctx: Context, view: TopicView, wait_s: float) -> None:
    if view.is_internal:
        raise InvalidTopic(f"{view.name} is an internal topic: it cannot be deleted")
    await within(wait_s, ctx.controller.delete_topic(view.topic_id))


def _result(
    make: Maker, asked: _Asked, view: TopicView | None, code: ErrorCode, text: str | None
) -> object:
    return make.DeletableTopicResult(
        name=asked.name if view is None else view.name,
        topic_id=asked.topic_id if view is None else view.topic_id,
        error_code=code,
        error_message=text,
    )
