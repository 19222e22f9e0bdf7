"""CreateTopics, v2-v7.

Behaviour
  * A topic has one partition. A request for more gets one, is told so (num_partitions=1, v5+) and a
    line is logged; with `strict_partitions` it is INVALID_PARTITIONS instead, which some tools
    retry for ever.
  * Any replication factor is accepted: it is a wish, met as far as there are nodes.
  * Configs are checked by name; unknown ones are stored. The answer lists all configs of the new
    topic (v5+).
  * The topic is visible here before the answer is sent. A name that is taken is
    TOPIC_ALREADY_EXISTS, whatever else is wrong: who creates what may be there already looks for
    that alone.
  * A name that differs from another topic's by '.' and '_' only is INVALID_TOPIC_EXCEPTION.
  * A name that stands twice in one request is INVALID_REQUEST for both.
  * An assignment by hand may name partition 0 only; its nodes count, where they are does not.
Versions
  v4 defaults (-1) for partitions and replication (KIP-464) · v5 flexible, the topic as created
  (KIP-525) · v7 topic id
Not here
  more than one partition, placement by hand, quotas (v6)
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from kio.schema.errors import ErrorCode

from broker.controller.topic_name import check_topic_name
from broker.errors import (
    InvalidConfig,
    InvalidPartitions,
    InvalidRequest,
    RequestError,
    TopicExists,
    UnknownTopic,
)
from broker.kafka_api.context import Context
from broker.kafka_api.describe import topic_entries
from broker.kafka_api.errors import Refused, code_of, text_of
from broker.kafka_api.handler import Finish, Response, ready, within
from broker.kafka_api.wire import Maker, maker
from broker.ports import TopicView

if TYPE_CHECKING:
    from kio.schema.create_topics.v7.request import CreatableTopic, CreateTopicsRequest

log = structlog.get_logger(__name__)

DEFAULT: Final = -1


async def begin(ctx: Context, request: CreateTopicsRequest) -> Finish:
    """Create in the order asked, before the connection's next request is looked at."""
    make = maker(request)
    names = Counter(topic.name for topic in request.topics)
    results = []
    for topic in request.topics:
        try:
            if names[topic.name] > 1:
                raise InvalidRequest(f"{topic.name!r} stands more than once in the request")
            view = await _create(ctx, request, topic)
        except RequestError as error:
            results.append(_refused(make, topic.name, code_of(error), text_of(error)))
        else:
            results.append(_created(make, view, is_real=not request.validate_only))
    return ready(make.CreateTopicsResponse(topics=tuple(results)))


def failed(ctx: Context, request: CreateTopicsRequest, code: ErrorCode) -> Response:
    """The same error for every topic."""
    make = maker(request)
    text = "the broker failed while serving this request"
    topics = tuple(_refused(make, topic.name, code, text) for topic in request.topics)
    response: Response = make.CreateTopicsResponse(topics=topics)
    return response


async def _create(ctx: Context, request: CreateTopicsRequest, topic: CreatableTopic) -> TopicView:
    check_topic_name(topic.name)
    _check_free(ctx, topic.name)
    replication_factor = _replication_factor(topic)
    _check_partitions(ctx, topic)
    configs = _configs(topic)
    wait_s = ctx.config.admin_wait_ms_max / 1000
    if request.timeout.total_seconds() > 0:
        wait_s = min(wait_s, request.timeout.total_seconds())
    work = ctx.controller.create_topic(
        topic.name,
        configs=configs,
        replication_factor=replication_factor,
        validate_only=request.validate_only,
    )
    return await within(wait_s, work)


def _check_free(ctx: Context, name: str) -> None:
    with suppress(UnknownTopic):
        ctx.controller.topic(name)
        raise TopicExists(f"topic {name} exists")


def _replication_factor(topic: CreatableTopic) -> int:
    if not topic.assignments:
        if topic.replication_factor == DEFAULT or topic.replication_factor > 0:
            return topic.replication_factor
        text = f"replication factor {topic.replication_factor}: must be 1 or more, or -1"
        raise Refused(ErrorCode.invalid_replication_factor, text)
    if topic.num_partitions != DEFAULT or topic.replication_factor != DEFAULT:
        raise InvalidRequest("an assignment by hand goes with -1 partitions and -1 replicas")
    nodes = [node for one in topic.assignments for node in one.broker_ids]
    is_partition_0 = [one.partition_index for one in topic.assignments] == [0]
    if not is_partition_0 or not nodes or len(set(nodes)) < len(nodes):
        text = "an assignment by hand must name partition 0 once, and each of its nodes once"
        raise Refused(ErrorCode.invalid_replica_assignment, text)
    return len(nodes)


def _check_partitions(ctx: Context, topic: CreatableTopic) -> None:
    count = topic.num_partitions
    if count in (DEFAULT, 1):
        return
    if count < 1:
        raise InvalidPartitions(f"{count} partitions: must be 1 or more, or -1")
    if ctx.config.strict_partitions:
        raise InvalidPartitions(f"{count} partitions: topics have one partition here")
    log.warning("topic gets one partition", topic=topic.name, asked=count, peer=ctx.who)


def _configs(topic: CreatableTopic) -> dict[str, str]:
    configs = {}
    for config in topic.configs:
        if config.value is None:
            raise InvalidConfig(f"{config.name} has no value")
        if config.name in configs:
            raise InvalidRequest(f"config {config.name} stands more than once")
        configs[config.name] = config.value
    return configs


def _created(make: Maker, view: TopicView, *, is_real: bool) -> object:
    configs = tuple(
        make.CreatableTopicConfigs(
            name=entry.name,
            value=entry.value,
            read_only=False,
            config_source=entry.source,
            is_sensitive=False,
        )
        for entry in topic_entries(view.configs)
    )
    return make.CreatableTopicResult(
        name=view.name,
        topic_id=view.topic_id if is_real else None,
        error_code=ErrorCode.none,
        error_message=None,
        num_partitions=1,
        replication_factor=view.replication_factor,
        configs=configs,
    )


def _refused(make: Maker, name: str, code: ErrorCode, text: str) -> object:
    return make.CreatableTopicResult(
        name=name,
        topic_id=None,
        error_code=code,
        error_message=text,
        num_partitions=-1,
        replication_factor=-1,
        configs=(),
    )
