"""CreatePartitions, v0-v3.

Behaviour
  * A topic has one partition, and that does not change: INVALID_PARTITIONS for every topic, with
    the reason in words. One result per topic: an empty list breaks librdkafka.
  * A topic that is not there is UNKNOWN_TOPIC_OR_PARTITION; one that stands twice is
    INVALID_REQUEST. An assignment by hand that does not go with the count is
    INVALID_REPLICA_ASSIGNMENT.
Versions
  v2 flexible · v3 quotas (there are none)
Not here
  more than one partition
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kio.schema.errors import ErrorCode

from broker.controller.topic_name import check_topic_name
from broker.errors import InvalidPartitions, InvalidRequest, RequestError
from broker.kafka_api.context import Context
from broker.kafka_api.errors import Refused, code_of, text_of
from broker.kafka_api.handler import Finish, Response, ready
from broker.kafka_api.wire import Maker, maker

if TYPE_CHECKING:
    from kio.schema.create_partitions.v3.request import (
        CreatePartitionsRequest,
        CreatePartitionsTopic,
    )


async def begin(ctx: Context, request: CreatePartitionsRequest) -> Finish:
    """Refuse every topic, each for its own reason."""
    make = maker(request)
    times = Counter(topic.name for topic in request.topics)
    results = []
    for topic in request.topics:
        error = _refusal(ctx, topic, times[topic.name])
        results.append(_result(make, topic.name, code_of(error), text_of(error)))
    return ready(make.CreatePartitionsResponse(results=tuple(results)))


def failed(ctx: Context, request: CreatePartitionsRequest, code: ErrorCode) -> Response:
    """The same error for every topic."""
    make = maker(request)
    text = "the broker failed while serving this request"
    results = tuple(_result(make, topic.name, code, text) for topic in request.topics)
    response: Response = make.CreatePartitionsResponse(results=results)
    return response


def _refusal(ctx: Context, topic: CreatePartitionsTopic, times: int) -> RequestError:
    if times > 1:
        return InvalidRequest("the topic stands more than once in the request")
    try:
        check_topic_name(topic.name)
        ctx.controller.topic(topic.name)
    except RequestError as error:
        return error
    if topic.count == 1:
        return InvalidPartitions(f"{topic.name} has 1 partition already")
    if topic.count > 1 and topic.assignments is not None:
        count = len(topic.assignments)
        if count != topic.count - 1:
            text = f"{topic.count - 1} more partitions, and {count} assigned by hand"
            return Refused(ErrorCode.invalid_replica_assignment, text)
    return InvalidPartitions(f"{topic.count} partitions: topics have one partition here")


def _result(make: Maker, name: str, code: ErrorCode, text: str) -> object:
    return make.CreatePartitionsTopicResult(name=name, error_code=code, error_message=text)
